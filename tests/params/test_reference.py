"""The reference of all parameters agrees with the code."""

import re
from pathlib import Path

from pydantic import BaseModel

from srlib.params import Params
from srlib.params.reference import reference
from srlib.schema import Section

ROOT = Path(__file__).parents[2]


def sections(section: type[BaseModel] = Section) -> set[type[BaseModel]]:
    """All sections of params.yaml."""
    children = {child for child in section.__subclasses__() if child.__module__.startswith("srlib")}
    return children.union(*(sections(child) for child in children))


def test_the_page_is_up_to_date() -> None:
    advice = "run: python -m srlib.params.reference > docs/reference/params.md"
    assert (ROOT / "docs/reference/params.md").read_text() == reference(), advice


def test_every_key_has_a_description() -> None:
    for section in sections():
        for key, field in section.model_fields.items():
            if key != "name" or field.annotation is str:
                text = field.description or ("Base of all networks." if section.__name__ == "Network" else "")
                assert re.fullmatch(r"[A-Z0-9`].+\.", text), f"{section.__name__}.{key}"
        assert section.__doc__, section.__name__


def test_nothing_is_null_as_in_yaml() -> None:
    """`none` is text to YAML: a recipe that writes it for `null` is refused."""
    fields = ((section, key, field) for section in sections() for key, field in section.model_fields.items())
    assert not [f"{s.__name__}.{k}" for s, k, f in fields if re.search(r"\b[Nn]one:", f.description or "")]


def test_every_key_is_in_the_page() -> None:
    text = reference()
    for path, section in (("", Params), *((key, field) for key, field in Params.model_fields.items())):
        annotation = section if path == "" else section.annotation  # type: ignore[union-attr]
        for member in getattr(annotation, "__args__", (annotation,)):
            if isinstance(member, type) and issubclass(member, Section):
                body = text.split(f"## `{path}`")[1] if path else text
                assert all(f"| `{key}` |" in body for key in member.model_fields)


def test_links_lead_to_headings() -> None:
    text = reference()
    headings = {re.sub(r"[^\w -]", "", line).strip().lower() for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    anchors = set(re.findall(r"\]\(#([\w-]+)\)", text))
    assert anchors and anchors <= headings


def test_keys_that_dvc_reads_are_named() -> None:
    keys = set(re.findall(r"\$\{((?!item)[\w.]+)\}", (ROOT / "dvc.yaml").read_text()))
    introduction = re.search(r"^Three keys (.*?):(.*?)\.\sWrite", reference(), re.M | re.S)
    assert introduction and set(re.findall(r"`([\w.]+)`", introduction[2])) == keys
