"""The documentation names files, links and recipes that exist, and the examples in docstrings run."""

import doctest
import importlib
import re
import shutil
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml

from srlib.params import Params

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "srlib/weights/MODEL_CARD.md"])
DATED = "docs/experiments/"
OTHER_FILES = {
    "CHANGELOG.md": "names modules of earlier versions",
    "docs/how-to/add-a-network.md": "names the files that the reader adds",
    "docs/how-to/add-a-loss-term.md": "names the files that the reader adds",
}
EXAMPLES = sorted(path for path in (ROOT / "srlib").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not [link for link in missing if (page.parent / link).resolve().parent != ROOT / "recipes"]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if name(page) not in OTHER_FILES and DATED not in name(page)], ids=name
)
def test_named_files_exist(page: Path) -> None:
    paths = re.findall(
        r"(?<![\w./-])((?:srlib|stages|tests|benchmarks|recipes|docs)/[\w/.-]+\.(?:py|yaml|md|png))",
        page.read_text(encoding="utf-8"),
    )
    # recipes/ is the user's to change; tests/params/test_recipes.py tests its names.
    assert not [path for path in paths if not (ROOT / path).exists() and not path.startswith("recipes/")]


def test_every_page_is_in_the_navigation() -> None:
    navigation = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    assert sorted(navigation) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


def test_experiments_follow_the_template() -> None:
    for page in (ROOT / DATED).glob("2*.md"):
        titles = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert titles == ["Question", "Setup", "Result", "Conclusion", "What was not kept"], page


def test_parameters_in_pages_are_known() -> None:
    sections = {key: _keys(field.annotation) for key, field in Params.model_fields.items()}
    for page in PAGES:
        if DATED in name(page) or page.name == "CHANGELOG.md":
            continue
        text = page.read_text("utf-8").partition("## Renamed keys")[0]
        for section, key in re.findall(r"`(pretrain|finetune|prepare|evaluate|download)\.(\w+)", text):
            assert key in sections[section], f"{name(page)}: {section}.{key}"


def _keys(annotation: object) -> set[str]:
    """Return the keys of a section, which may be optional."""
    return {key for model in (annotation, *get_args(annotation)) for key in getattr(model, "model_fields", {})}


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_examples_in_docstrings_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # params.yaml and recipes/ are the user's to change.
    (tmp_path / "recipes").mkdir()
    for recipe in ("params.yaml", "recipes/quickstart.yaml"):
        shutil.copy(ROOT / "tests/recipe.yaml", tmp_path / recipe)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert outcome.attempted and not outcome.failed


def test_the_lock_has_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [
        project["dependencies"],
        *(project["optional-dependencies"][extra] for extra in ("pipeline", "dev", "docs")),
    ]
    lock = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
    direct = {re.split(r"[\[<>=;~ ]", entry)[0].lower().replace("_", "-") for group in groups for entry in group}
    assert direct <= lock, f"not in requirements.lock: {sorted(direct - lock)}"


def test_the_lock_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text and "--index-url" not in text and "--find-links" not in text


def test_workflow_runs_what_contributors_run() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert {"make check", "make docs", "make test-all"} <= commands
