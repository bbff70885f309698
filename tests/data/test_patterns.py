import pytest

from srlib.data.patterns import match
from srlib.errors import SrlibError

NAMES = ["a/HR/1.png", "a/HR/x/2.PNG", "a/LR/X4/1x4.png", "a/about.txt", "a/.hidden/3.png", "__MACOSX/a/HR/._1.png"]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("**", ["H/a/HR/1.png", "H/a/HR/x/2.PNG", "H/a/LR/X4/1x4.png"]),
        ("a/HR/*", ["H/1.png"]),
        ("a/HR/**", ["H/1.png", "H/x/2.PNG"]),
        ("a/HR/**/*.png", ["H/1.png"]),
        ("a/*/*", ["H/HR/1.png"]),
        ("**/X4/*", ["H/a/LR/X4/1x4.png"]),
        ("a/HR/?.png", ["H/1.png"]),
        ("a/HR/1.png", ["H/1.png"]),
    ],
)
def test_what_a_pattern_matches_and_where_it_goes(pattern: str, paths: list[str]) -> None:
    assert list(match("z", NAMES, {"H": pattern}).values()) == paths


def test_hr_and_lr_get_names_that_pair() -> None:
    places = match("z", NAMES, {"HR/a": "a/HR/*", "LR/a": "a/LR/X4/*"})
    assert list(places.values()) == ["HR/a/1.png", "LR/a/1x4.png"]


def test_flat_names() -> None:
    assert list(match("z", NAMES, {"H": "a/HR/**"}, flat=True).values()) == ["H/1.png", "H/2.PNG"]


@pytest.mark.parametrize(
    ("names", "patterns", "line"),
    [
        (
            NAMES,
            {"HR": "b/*"},
            r"expected images like b/\*, found none; its 3 images are named like a/HR/1.png, a/HR/x/2",
        ),
        (["readme.txt"], {"HR": "**"}, "there is no image at all"),
        (NAMES, {"HR": "a/HR/*", "LR": "**/*.png"}, "a/HR/1.png matches the patterns of both HR/1.png and LR"),
        (["a/1.png", "a/1.png"], {"HR": "**"}, "z: 2 images share a name with another, such as a/1.png$"),
        (["a/1.png", "./a/1.png"], {"HR": "**"}, "2 images share a name with another, such as a/1.png and ./a/1.png"),
        (["../1.png"], {"HR": "**"}, r"expected relative names without `\.\.` and backslashes, got '\.\./1\.png'"),
        (["a/../../1.png"], {"HR": "**"}, "expected relative names"),
        (["a\\..\\1.png"], {"HR": "**"}, "expected relative names"),
        (["C:/1.png"], {"HR": "**"}, "expected relative names"),
        (["a\n.png"], {"HR": "**"}, "expected relative names"),
        (["1.png", "/tmp/2.png"], {"HR": "**"}, "expected relative names .* got ./tmp/2.png"),
        (["1.png", "a//2.png"], {"HR": "**"}, "expected relative names"),
    ],
)
def test_a_mistake_is_one_line(names: list[str], patterns: dict[str, str], line: str) -> None:
    with pytest.raises(SrlibError, match=line) as caught:
        match("z", names, patterns)
    assert str(caught.value).startswith("z: ") and str(caught.value).isprintable()


def test_two_images_with_one_flat_name() -> None:
    with pytest.raises(SrlibError, match="2 images share a name"):
        match("z", ["a/1.png", "b/1.png"], {"HR": "**"}, flat=True)
