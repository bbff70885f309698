"""Image sets that `download` can fetch: published ones by name, and any other by its address, file or folder."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from srlib.models.base import Scale
from srlib.schema import PathText, Section, Sha256, text_of

TrainSet = Literal["sample", "free-photos", "div2k-bicubic", "div2k-unknown"]
TestSet = Literal["sample", "Set5", "Set14", "BSD100", "Urban100", "DIV2K"]
TEST_SCALES: dict[TestSet, tuple[Scale, ...]] = {
    "Set5": (2, 3, 4),
    "Set14": (2, 3, 4),
    "BSD100": (4,),
    "Urban100": (4,),
}
"""The scales that a test set's images are published for; the other sets serve every scale."""

ALL_IMAGES = "**"
"""The pattern of every image at any depth."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ORIGINS = ("address", "file", "folder")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"expected a name of at most 64 letters, digits, `.`, `-` and `_`, beginning with a letter or digit, got "
            f"{text_of(text)}"
        )
    return text


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        valid = text.isascii() and text.isprintable() and " " not in text and parts.scheme in ("http", "https")
        valid = valid and bool(parts.hostname) and parts.username is None
        valid = valid and not parts.path.endswith("/") and ".." not in parts.path.split("/")
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"expected an address such as https://host/set.zip, without a password, got {text_of(text)}")
    return text


def _pattern(text: str) -> str:
    parts = text.split("/")
    if not text.isprintable() or "\\" in text or {"", ".", ".."} & set(parts):
        raise ValueError(
            f"expected a pattern of names such as HR/*.png, relative and without `..`, got {text_of(text)}"
        )
    if odd := next((part for part in parts if "**" in part and part != "**"), None):
        raise ValueError(f"expected `**` to stand for whole folders, as in HR/**/*.png, got {text_of(odd)}")
    return text


Pattern = Annotated[str, AfterValidator(_pattern), Field(json_schema_extra={"format": "pattern"})]


class OwnImages(Section):
    """Images from a zip or tar archive or from a folder. Patterns are compared with the names inside it: `*` is any
    text within one folder, `**` any number of folders. The folders before the first wildcard are dropped from the
    names; the others stay. Files that are not images, and hidden ones, are ignored.
    """

    name: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None,
        description="Name of the set, and of its folder; needed in a list. Entries of the same name make one set.",
    )
    address: Annotated[str, AfterValidator(_address), Field(json_schema_extra={"format": "address"})] | None = Field(
        default=None, description="Where an archive is fetched from: http:// or https://."
    )
    file: PathText | None = Field(default=None, description="Path of an archive on this machine, instead of `address`.")
    folder: PathText | None = Field(default=None, description="Path of a folder of images, instead of `address`.")
    sha256: Sha256 = Field(
        description="SHA-256 of the archive: `sha256sum FILE`. That of a folder covers the names and contents of its "
        "images; write 64 zeros, and the error names the right one."
    )
    hr: Pattern | None = Field(
        default=None, description=f"Pattern of the HR images. Without `hr` and `lr`: `{ALL_IMAGES}`, all images."
    )
    lr: Pattern | None = Field(
        default=None, description="Pattern of the LR images, for `prepare.lr: given`; `null`: there are none."
    )

    @property
    def patterns(self) -> dict[str, str]:
        """Return the patterns by the folder that their images go to, `HR` or `LR`."""
        if self.hr is None and self.lr is None:
            return {"HR": ALL_IMAGES}
        return {folder: text for folder, text in (("HR", self.hr), ("LR", self.lr)) if text is not None}

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield a missing or ambiguous origin."""
        origins = [key for key in _ORIGINS if getattr(self, key) is not None]
        if len(origins) != 1:
            key = origins[1] if origins else _ORIGINS[0]
            text = " and ".join(origins) or "none"
            yield key, f"expected exactly one of {', '.join(_ORIGINS[:-1])} and {_ORIGINS[-1]}, got {text}"


def list_mistakes(
    key: str, entries: Iterable[str | OwnImages], published_names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield duplicate sets of a list, own ones without a name, and those named like a published one.

    Args:
        key: Place of the list, named in the messages.
        entries: Published sets by name, and own ones.
        published_names: Names that own sets cannot have.
    """
    entries = list(entries)
    published = [entry for entry in entries if isinstance(entry, str)]
    for twice in sorted({name for name in published if published.count(name) > 1}):
        yield key, f"expected each set once, got {twice} more than once"
    reserved = {name.lower(): name for name in published_names}
    spellings: dict[str, str] = {}
    lacking: dict[str, set[str]] = {}
    own = [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, OwnImages)]
    for index, entry in own:
        place, name = f"{key}[{index}].name", entry.name
        if name is None:
            yield place, "expected a name for a set of a list, got none"
        elif name.lower() in reserved:
            yield place, f"expected another name: {reserved[name.lower()]} is a published set"
        elif spellings.setdefault(name.lower(), name) != name:
            yield place, f"expected one spelling, got {spellings[name.lower()]} and {name}"
        else:
            lacking.setdefault(name, {"HR"}).difference_update(entry.patterns)
    for incomplete in sorted(name for name, folders in lacking.items() if folders):
        yield key, f"expected HR images for {incomplete}; give one of its entries the key `hr`"
