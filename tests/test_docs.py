"""The documentation names files, links and recipes that exist, and the examples in docstrings run."""

import contextlib
import doctest
import importlib
import itertools
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml

from srlib.cli import app
from srlib.evaluation.methods import content_hash
from srlib.files import file_hash
from srlib.params import Params

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "srlib/weights/MODEL_CARD.md"])
DATED = "docs/experiments/"
OTHER_FILES = {
    "CHANGELOG.md": "names modules of earlier versions",
    "docs/how-to/add-a-network.md": "names the files that the reader adds",
    "docs/how-to/add-a-loss-term.md": "names the files that the reader adds",
}
GENERATED_OR_OLD = {"CHANGELOG.md", "docs/reference/cli.md"}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
CHECKSUM = re.compile(r"\b(file|folder): (srlib/weights/\S+).*\n[# ]*sha256: (\w{64})")
SHELL = {"|", "&&", ";", ">", "<", "#", "…"}
EXAMPLES = sorted(path for path in (ROOT / "srlib").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not [link for link in missing if (page.parent / link).resolve().parent != ROOT / "recipes"]


def test_the_site_takes_light_or_dark_from_the_system() -> None:
    """Without the first entry a browser keeps the colors of its first visit; without buttons nobody can change them."""
    palette = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["theme"]["palette"]
    assert palette[0]["media"] == "(prefers-color-scheme)"
    assert all(entry["toggle"]["name"] for entry in palette) and len(palette) == 3


def test_pages_are_no_wider_than_a_phone(browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text from right to left too, whose lists the theme indents on the wrong side."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config("mkdocs.yml", site_dir=str(tmp_path / "site")))
    browser = browse(phone=True)
    pages = [path for path in sorted((tmp_path / "site").rglob("*.html")) if path.parent.name != "experiments"]
    assert len(pages) > 30
    widths = {}
    for page in pages:
        browser.open(page.as_uri())
        with contextlib.suppress(AssertionError):  # the theme's script wraps wide tables after the page was loaded
            browser.wait("document.documentElement.scrollWidth <= 390", seconds=10)
        widths[page.name] = browser.js("document.documentElement.scrollWidth")
    assert {page: width for page, width in widths.items() if width > 390} == {}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [(page.parent / target if target else page, anchor) for target, anchor in links if "://" not in target]
    assert not [f"{target}#{anchor}" for target, anchor in local if anchor not in _anchors(target)]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as mkdocs and code hosting sites make them, and of its API entries."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    slugs = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    return slugs | set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if DATED not in name(page) and name(page) not in GENERATED_OR_OLD], ids=name
)
def test_commands_exist(page: Path) -> None:
    wrong = []
    for line in _commands(page.read_text(encoding="utf-8")):
        with contextlib.suppress(ValueError):  # a lone quote
            wrong += [f"{line}: {problem}" for problem in _problems(shlex.split(line, comments=True))]
    assert not wrong, "\n".join(wrong)


def _problems(words: Sequence[str]) -> list[str]:
    """Return what a command names that does not exist."""
    command = itertools.dropwhile(lambda word: re.match("[A-Z_]+=", word), words)
    program, *rest = itertools.takewhile(lambda word: word not in SHELL, command)
    if program == "make":
        return [f"{word}: no such target" for word in rest if "=" not in word and word not in TARGETS]
    if program.endswith("srlib"):
        return _cli_problems(rest)
    if rest[:1] == ["-m"]:
        own = rest[1].startswith(("srlib.", "benchmarks."))
        return [f"{rest[1]}: no such module"] if own and not _module(rest[1]).exists() else []
    if rest and rest[0].startswith("benchmarks/"):
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        return [f"{option}: no such option" for option in _options(rest) if f'"{option}"' not in source]
    return []


def _commands(text: str) -> Iterator[str]:
    """Yield the lines of code blocks without a language other than a shell's, and what stands in backticks."""
    text = text.replace("\\\n", " ")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "bash", "sh", "console"):
            yield from re.findall(
                r"^(?:\$ )?((?:[A-Z_]+=\S+ )*(?:make|srlib|python|\S*/python|\S*/srlib) .*)$", block, re.MULTILINE
            )
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`((?:make|(?:\.venv/bin/)?srlib|python) [^`\n]+)`", prose)


def _options(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word[:2] == "--"]


def _cli_problems(words: Sequence[str]) -> list[str]:
    """Return what the command line of srlib does not know in these words."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return [f"{words[0]}: no such command"]
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [f"{o}: no such option" for o in _options(words) if o not in known | {"--help"}]


def _module(dotted: str) -> Path:
    path = ROOT.joinpath(*dotted.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


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


def test_checksums_are_those_of_the_weights_that_ship() -> None:
    hashes = {"file": content_hash, "folder": lambda folder: file_hash(folder / "model.weights.h5")}
    pages = [*(page for page in PAGES if DATED not in name(page)), *(ROOT / "recipes").glob("*.yaml")]
    named = [(page, *groups) for page in pages for groups in CHECKSUM.findall(page.read_text(encoding="utf-8"))]
    assert {key for _, key, _, _ in named} == set(hashes), "both kinds are documented"
    for page, key, weights, sha256 in named:
        assert sha256 == hashes[key](ROOT / weights), f"{name(page)}: {weights}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    assert sorted(navigation) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(ROOT / "docs")], ids=name)
def test_pages_begin_with_their_title(page: Path) -> None:
    """Otherwise the navigation shows the name of the file."""
    first = re.sub("^<div[^>]*>\\s*", "", page.read_text(encoding="utf-8")).partition("\n")[0]
    assert first.startswith("# ")


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
        *(project["optional-dependencies"][extra] for extra in ("pipeline", "dev", "docs", "cluster")),
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
