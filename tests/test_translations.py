"""The Arabic pages say what the English ones do: the same commands, figures, links, headings and tables."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "README.ar.md", "docs/tutorials/quickstart.md": "docs/tutorials/quickstart.ar.md"}
ARABIC = "[ء-ي]"
LANGUAGES = {"العربية", "English"}
"""Texts of the links from a page to its other language."""


def read(page: str) -> str:
    """Return a page without the link to its other language and without HTML."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r'<code dir="ltr">(.*?)</code>', r"`\1`", text)
    text = re.sub(rf"\[({'|'.join(LANGUAGES)})\]\([^)]*\)", "", text)
    return re.sub(r"</?(div|span)[^>]*>", "", text)


def blocks(page: str) -> list[str]:
    """Return the code blocks, without comments, which are translated."""
    return [re.sub(r"\s+# .*", "", block) for block in re.findall(r"^```\n(.*?)^```", read(page), re.M | re.S)]


def prose(page: str) -> str:
    return re.sub(r"^```\n.*?^```", "", read(page), flags=re.M | re.S)


def links(page: str) -> list[str]:
    return [target.replace(".ar.md", ".md") for target in re.findall(r"\]\(([^)]+)\)", prose(page))]


def code(page: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`]+)`", prose(page)))


def figures(page: str) -> Counter[str]:
    """Return the numbers in the text, but not those inside code, links and names such as Set5."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose(page))
    text = re.sub(rf"({ARABIC})(?=\d)", r"\1 ", text)
    numbers = re.findall(r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?![\w-])", text)
    return Counter(re.sub(r"^0\.", ".", number) for number in numbers)


def outline(page: str) -> list[int]:
    """Return the level of each heading."""
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.M)]


def tables(page: str) -> list[int]:
    """Return the number of cells of each row of a table."""
    return [row.count("|") - 1 for row in re.findall(r"^\|.*\|$", prose(page), re.M)]


@pytest.mark.parametrize("what", [blocks, code, figures, links, outline, tables])
@pytest.mark.parametrize(("english", "arabic"), PAGES.items())
def test_both_languages_agree(english, arabic, what) -> None:
    assert what(arabic) == what(english), f"{arabic} differs from {english} in its {what.__name__}: change both"


@pytest.mark.parametrize("pair", PAGES.items())
def test_each_page_leads_to_its_other_language(pair) -> None:
    for page, other in (pair, reversed(pair)):
        assert f"]({Path(other).name})" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES.values())
def test_code_blocks_run_from_left_to_right(page) -> None:
    """They lie outside of the right-to-left divisions, and those hold all of the text."""
    depth = 0
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        depth += line.startswith('<div dir="rtl"') - line.startswith("</div>")
        assert depth in (0, 1)
        is_text = bool(re.search(ARABIC, line)) and " # " not in line
        assert not (line.startswith("```") and depth) and not (is_text and not depth), line
    assert depth == 0


@pytest.mark.parametrize("page", PAGES.values())
def test_inline_code_that_begins_with_a_sign_has_its_direction(page) -> None:
    """In a line from right to left, the dot of `.venv` would otherwise be moved to the other end."""
    text = re.sub(r"^```\n.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    odd = [code for code in re.findall(r"`([^`]+)`", text) if not (code[0].isalnum() and code[-1].isalnum())]
    assert not odd, f'write <code dir="ltr">{odd[0]}</code>'
