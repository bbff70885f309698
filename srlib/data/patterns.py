r"""Choose images by patterns of their names: `*` is any text within one folder, `**` any number of folders.

The folders before the first wildcard are dropped from a name, so `DF2K/HR/*.png` and `DF2K/LR/X4/*.png` give names
that pair.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from srlib.errors import SrlibError
from srlib.formats.suffixes import OTHER_SUFFIXES, READ_SUFFIXES

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
_WILDCARD = re.compile(r"[*?]")


def is_image(name: str) -> bool:
    """Return whether a name ends as that of an image and no part of it is hidden.

    Example:
        >>> [is_image(name) for name in ("a/b.JPG", "a/readme.txt", "__MACOSX/a/._b.jpg")]
        [True, False, False]
    """
    hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
    return not hidden and os.path.splitext(name)[1].lower() in READ_SUFFIXES | OTHER_SUFFIXES


def match(place: str, names: Iterable[str], patterns: Mapping[str, str], *, flat: bool = False) -> dict[str, str]:
    """Map the names of images that match a pattern to relative paths below the pattern's folder.

    Args:
        place: Archive or folder that the names come from, named in error messages.
        names: Names with "/" as separator.
        patterns: Folder → pattern of the names that go there.
        flat: Keep only the last part of each name.

    Returns:
        Name → path, pattern by pattern, in the order of the names.

    Raises:
        SrlibError: A pattern without an image, an image that matches two patterns, two images with one path, or a name
            that could lead out of the folder.

    Example:
        >>> match("a.zip", ["x/HR/1.png", "x/LR/1.png", "x/about.txt"], {"HR": "x/HR/*", "LR/X4": "x/LR/*"})
        {'x/HR/1.png': 'HR/1.png', 'x/LR/1.png': 'LR/X4/1.png'}
    """
    counts = Counter(name for name in names if is_image(name.removeprefix("./")))
    images = list(counts)
    for name in images:
        if "" in name.removeprefix("./").split("/"):  # "/a.png" matches no pattern, and would be left out silently
            _safe_parts(place, name)
    places: dict[str, str] = {}
    for folder, pattern in patterns.items():
        expression, fixed = _expression(pattern), _fixed_folders(pattern)
        chosen = [name for name in images if expression.fullmatch(name.removeprefix("./"))]
        if not chosen:
            raise SrlibError(f"{place}: expected images like {pattern}, found none; {_examples(images)}")
        for name in chosen:
            if name in places:
                raise SrlibError(f"{place}: {name} matches the patterns of both {places[name]} and {folder}")
            parts = _safe_parts(place, name)
            places[name] = "/".join([folder, *(parts[-1:] if flat else parts[fixed:])])
    paths = Counter(places.values())
    if twice := [name for name, path in places.items() if counts[name] > 1 or paths[path] > 1]:
        count, examples = sum(counts[name] for name in twice), " and ".join(twice[:2])
        raise SrlibError(f"{place}: {count} images share a name with another, such as {examples}")
    return places


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern."""
    *folders, last = pattern.split("/")
    text = "".join("(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    return re.compile(text + ("(?:[^/]+/)*[^/]+" if last == "**" else _part(last)))


def _part(part: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in part)


def _fixed_folders(pattern: str) -> int:
    """Return the number of folders before the first wildcard."""
    folders = pattern.split("/")[:-1]
    return next((index for index, part in enumerate(folders) if _WILDCARD.search(part)), len(folders))


def _safe_parts(place: str, name: str) -> list[str]:
    parts = name.removeprefix("./").split("/")
    if _UNSAFE.search(name) or {"", ".", ".."} & set(parts) or ":" in parts[0]:
        raise SrlibError(f"{place}: expected relative names without `..` and backslashes, got {name!r}")
    return parts


def _examples(images: Sequence[str]) -> str:
    if not images:
        return "there is no image at all"
    some = dict.fromkeys([images[0], images[len(images) // 2], images[-1]])
    return f"its {len(images)} images are named like {', '.join(some)}"
