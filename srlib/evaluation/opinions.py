"""Mean opinion scores of a survey: the content of mos.json, and whether the images that were rated are still these."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.statistics import Estimate
from srlib.imaging.read import read_image

ALL = "all"
"""The name of the row over the images of all sets."""

FILE = "mos.json"
"""File that `srlib survey score` writes and `evaluate` reads."""


@dataclass(frozen=True)
class Opinion:
    """The opinion of one method on one set (`all`: on every image).

    Attributes:
        set: Name of the set.
        method: Name of the method.
        mos: Mean opinion score, 1 to 5.
        low: Lower end of its interval; None for fewer than three raters.
        high: Upper end of its interval.
        counts: Votes for 1, 2, 3, 4 and 5.
        raters: Raters who voted.
        images: Images that were rated.
    """

    set: str
    method: str
    mos: float
    low: float | None
    high: float | None
    counts: list[int]
    raters: int
    images: int

    @property
    def votes(self) -> int:
        """Number of votes."""
        return sum(self.counts)

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mos, self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """The mean score of `method` minus that of `other`, on all images."""

    method: str
    other: str
    mean: float
    low: float | None
    high: float | None

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.low, self.high)


@dataclass(frozen=True)
class RatedImage:
    """A version of an image that the survey showed, whole or in part, and the `pixel_hash` of the whole."""

    set: str
    image: str
    method: str
    sha256: str


@dataclass(frozen=True)
class Opinions:
    """The outcome of a survey.

    Attributes:
        survey: Id of the survey.
        rows: One opinion per set and method.
        differences: One per pair of methods.
        counted: Files that count.
        refused: (file, reason) of the files that do not count.
        rated: The versions that were rated.
        outdated: Methods without rows, since the survey showed other images of them; see `current`.
    """

    survey: str
    rows: list[Opinion]
    differences: list[Difference]
    counted: list[str]
    refused: list[tuple[str, str]]
    rated: list[RatedImage]
    outdated: list[str] = field(default_factory=list)

    @property
    def overall(self) -> dict[str, Opinion]:
        """Method → its opinion on the images of all sets."""
        return {row.method: row for row in self.rows if row.set == ALL}


def pixel_hash(image: Image) -> str:
    """Return the SHA-256 of an image's size and pixels.

    Example:
        >>> import numpy as np
        >>> pixel_hash(np.zeros((2, 3, 3), np.uint8)) == pixel_hash(np.zeros((3, 2, 3), np.uint8))
        False
    """
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def read_opinions(folder: Path) -> Opinions | None:
    """Return the outcome that `srlib survey score` wrote to a folder, or None if the folder holds none.

    Raises:
        SrlibError: The file cannot be read, or is not an outcome.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        opinions = TypeAdapter(Opinions).validate_json(path.read_bytes())
    except OSError as error:
        raise SrlibError(f"evaluate.survey: {path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SrlibError(
            f"evaluate.survey: {path}: expected the scores of a survey, found {where + ': ' if where else ''}"
            f"{first['msg']}; score the answers again with `srlib survey score`"
        ) from None
    if not opinions.overall:
        raise SrlibError(f"evaluate.survey: {path}: expected rows of the set {ALL!r}, found none")
    return opinions


def current(opinions: Opinions | None, images: Path) -> Opinions | None:
    """Return the opinions of the methods that were rated with the images of this evaluation.

    After a training the images of a network differ from those that people saw, and their scores are not its own.

    Args:
        opinions: The outcome of a survey; without one there are no opinions.
        images: Folder of the evaluation's images, `<Set>/<method>/<name>.png`.
    """
    if opinions is None:
        return None
    current = {row.method for row in opinions.rows} - set(_outdated(opinions, images))
    return replace(
        opinions,
        rows=[row for row in opinions.rows if row.method in current],
        differences=[d for d in opinions.differences if {d.method, d.other} <= current],
        outdated=[method for method in opinions.overall if method not in current],
    )


def _outdated(opinions: Opinions, images: Path) -> Iterator[str]:
    """Yield the methods of which an image differs or is missing, and those of which no hash is known."""
    yield from {row.method for row in opinions.rows} - {one.method for one in opinions.rated}
    for one in opinions.rated:
        path = images / one.set / one.method / f"{one.image}.png"
        inside = path.resolve().is_relative_to(images.resolve())
        if not inside or not path.is_file() or pixel_hash(read_image(path)) != one.sha256:
            yield one.method
