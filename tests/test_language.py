"""The project's word list: plain English in the field's terms, American spelling, nouns for variables.

Run as a script, this prints the number of findings per package, and with paths every finding in them:

    python tests/test_language.py
    python tests/test_language.py srlib/data README.md
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"rooms?": "module or package",
    r"pictures?": "image",
    r"enlarg(e|es|ed|ing|ement|ements)": "upscale, super-resolve",
    r"lattices?": "checkerboard",
    r"drown(s|ed|ing)?": "negligible",
    r"flips? (and|or) turns?|flipped (and|or) turned|flips? or (a )?turns?": "dihedral group D4: flips and rotations",
    r"told": "logged, printed, reported",
    r"(is|are|was|were|be|been) said": "is logged, printed, reported",
    r"on end": "consecutive",
    r"judge[sd]?": "discriminator; for a verb: score, rate",
    r"set free": "drops the constraint",
    r"stands? (there )?twice": "duplicate",
    r"does no more": "has exited",
    r"are not meant": "is not supported",
    r"pull(s|ed)? at": "contributes to",
    r"saved states?": "checkpoint",
    r"made smaller": "downscaled",
    r"comes? of it|came of it|owes|learnt by heart": "say it plainly",
    r"colour\w*|grey\w*|artefacts?|centred?|neighbour\w*": "color, gray, artifact, center, neighbor",
    r"behaviours?|favour\w*|catalogues?|analys(e|ed|ing)|licences?": "behavior, favor, catalog, analyze, license",
    r"(initial|optim|normal|regular|general|serial|quant|synchron|recogn|summar)is(e|es|ed|ing|ation|ers?)": "-iz-",
}
"""Regular expression of a word or phrase → what to write instead."""

LINES = {
    r"^\s+\w+: Of ": "an argument's description is a noun phrase",
    r"""help="Of """: "an option's help is a noun phrase",
}
"""The same for whole lines."""

PARTICIPLES = {"found", "kept", "told", "given", "wanted", "shown", "taken", "said"}
"""Names that no variable or argument has."""

LONGEST_TEST_NAME = 60

ALLOWED: dict[str, dict[str, str]] = {
    "tests/test_language.py": {".*": "this list"},
    "srlib/formats/jpeg.py": {"picture": "the name of the Multi-Picture Format"},
    "CHANGELOG.md": {".*": "names the old keys and modules"},
    "srlib/params/renamed.py": {"lattice|pictures|colour_error": "the old keys"},
    "docs/reference/params.md": {"lattice|pictures|colour_error": "the old keys"},
    "tests/params/test_renamed.py": {"lattice|pictures|colour_error": "the old keys"},
    "srlib/evaluation/published.py": {"pictures": "the words of the paper"},
    "srlib/evaluation/tables.py": {"picture": "a column of scores.csv"},
    "tests/evaluation/test_tables.py": {"picture": "a column of scores.csv"},
    "srlib/survey/answers.py": {"picture": "a key of the key file"},
    "srlib/survey/opinions.py": {"pictures": "a key of mos.json"},
    "tests/survey/test_page.py": {"picture": "a key of the key file"},
    "tests/survey/test_browser.py": {"picture": "a key of the key file"},
    "LICENSE": {".*": "the text of the license"},
}
"""File → expression of the allowed words → reason."""

FILES = ("srlib", "stages", "docs", "tests", "benchmarks", "data")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".css", ".js", ".cff", ".toml"}

_WORDS = {re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE): advice for word, advice in WORDS.items()}
_LINES = {re.compile(line): advice for line, advice in LINES.items()}


class Finding(NamedTuple):
    """One word of the list at one place."""

    path: str
    line: int
    text: str
    advice: str


def files() -> list[Path]:
    """Return every file that is checked, in a fixed order."""
    top = [path for path in ROOT.iterdir() if path.suffix in {".md", ".yaml", ".cff"} and path.is_file()]
    top.remove(ROOT / "params.yaml")  # this and recipes/ are the user's to change
    below = [path for folder in FILES for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return sorted(path for path in top + below if path.is_file() and "_site" not in path.parts)


def check(path: Path) -> Iterator[Finding]:
    """Yield the findings in one file."""
    name = path.relative_to(ROOT).as_posix()
    allowed = [re.compile(word, re.IGNORECASE) for word in ALLOWED.get(name, {})]
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for expression, advice in (_WORDS | _LINES).items():
            for match in expression.finditer(line):
                if not any(word.fullmatch(match[0]) for word in allowed):
                    yield Finding(name, number, match[0].strip(), advice)
    if path.suffix == ".py":
        yield from (finding for finding in _names(name, text) if not any(w.fullmatch(finding.text) for w in allowed))


def _names(name: str, text: str) -> Iterator[Finding]:
    """Yield participles that name variables or arguments, and names of tests that are too long."""
    for node in ast.walk(ast.parse(text)):
        variable = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None
        variable = node.arg if isinstance(node, ast.arg) else variable
        if variable in PARTICIPLES:
            yield Finding(name, node.lineno, variable, "a variable's name is a noun")
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST_TEST_NAME:
            yield Finding(name, node.lineno, node.name, f"at most {LONGEST_TEST_NAME} characters")


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_word_of_the_list(path: Path) -> None:
    assert not [f"{finding.line}: {finding.text} → {finding.advice}" for finding in check(path)]


@pytest.mark.parametrize(
    "line",
    ["The picture is enlarged.", "Colour and grey.", "        seed: Of order.", "ten steps on end"],
)
def test_the_list_finds_words(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(line)
    assert list(check(tmp_path / "page.md"))


def main(arguments: list[str]) -> int:
    """Print every finding in the given files and folders, or counts per package; return the exit status."""
    roots = [(Path.cwd() / argument).resolve() for argument in arguments]
    chosen = [path for path in files() if not roots or any(path.is_relative_to(root) for root in roots)]
    findings = [finding for path in chosen for finding in check(path)]
    if roots:
        for finding in findings:
            print(f"{finding.path}:{finding.line}: {finding.text} → {finding.advice}")
        return bool(findings)
    counts = Counter("/".join(Path(finding.path).parts[:2]) for finding in findings)
    for package, count in sorted(counts.items()):
        print(f"{count:6} {package}")
    print(f"{len(findings):6} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
