"""The answers to a survey: their format, the order in which a rater sees the items, and the checks of answers.

An item is one version of one image. Its id is a keyed hash that only the key file links to a set, an image and a
method. The page holds the ids, the survey's own id, a seed and a sealing key. `srlib survey serve` reads them from the
page, `srlib survey score` from the key file.

The checks prove that the answers belong to this survey, that every vote is for one of its items, that the items are in
the order in which this rater saw them, and that nothing changed after the page sealed them. They cannot prove who
voted: the page contains the sealing key, so that a person who studies its script can invent raters. Ids and names are
hidden from raters, the images themselves are not.
"""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular

Order = Literal["grouped", "mixed", "fixed"]
SCORES = (1, 2, 3, 4, 5)
MAX_ANSWERS_BYTES = 1 << 20
LARGEST_FILE = 1 << 27
"""Most bytes of a page or key file that is read."""
DATA_START = '<script type="application/json" id="survey">'
DATA_END = "</script>"

Hex16 = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Hex64 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Answers(BaseModel):
    """The answers of one rater: `votes` holds (item id, score 1 to 5) in the order of presentation, from the first on.

    Attributes:
        format: Name of this format.
        survey: Id of the survey.
        rater: A random code, or the name in the link that the rater opened.
        revision: Number that grows each time a rater sends or saves changed answers.
        language: Language of the page.
        device: A random code of the browser in which a rater with a name answered; None without a name, since the
            rater's code is the browser's, and in answers to earlier pages.
        votes: Item ids with their scores.
        seal: HMAC-SHA256 over all of it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["srlib survey answers 1"]
    survey: Hex16
    rater: Annotated[str, Field(pattern="^[a-z0-9-]{1,32}$")]
    revision: Annotated[int, Field(ge=1, le=1_000_000)]
    language: Literal["en", "ar"]
    device: Hex16 | None = None
    votes: Annotated[
        list[tuple[Annotated[str, Field(pattern="^[0-9a-f]{24}$")], Annotated[int, Field(ge=1, le=5)]]],
        Field(min_length=1, max_length=10_000),
    ]
    seal: Hex64


@dataclass(frozen=True)
class Survey:
    """What the page and the key file have in common.

    Attributes:
        survey: Id of the survey, 16 hexadecimal digits.
        seed: Seed for every rater's order.
        order: "grouped": the versions of an image follow one another; "mixed": all items in one random sequence;
            "fixed": grouped, and the same order for every rater.
        seal: Sealing key, hexadecimal.
        groups: Id of an item → id of its image.
    """

    survey: str
    seed: int
    order: Order
    seal: str
    groups: dict[str, str]

    def presentation(self, rater: str) -> list[str]:
        """Return the item ids in the order in which `rater` sees them: sorted by SHA-256 of "seed:rater:id".

        With the order "fixed" the rater's name is left out, so that all see the same order.
        """
        who = "" if self.order == "fixed" else rater

        def rank(name: str) -> str:
            return hashlib.sha256(f"{self.seed}:{who}:{name}".encode()).hexdigest()

        grouped = self.order != "mixed"
        return sorted(self.groups, key=lambda item: (rank(self.groups[item]) if grouped else "", rank(item)))

    def seal_of(self, answers: Answers) -> str:
        """Return the HMAC-SHA256 over everything in the answers, as the page computes it."""
        lines = [answers.survey, answers.rater, str(answers.revision), answers.language]
        lines += [f"device={answers.device}"] if answers.device else []
        lines += [f"{item}={score}" for item, score in answers.votes]
        return hmac.new(bytes.fromhex(self.seal), "\n".join(lines).encode(), hashlib.sha256).hexdigest()

    def check(self, content: bytes) -> Answers:
        """Read and check one rater's answers, which may be unfinished: compare `len(votes)` with `len(groups)`.

        Raises:
            SrlibError: The reason why they do not count, without the file's name.
        """
        if len(content) > MAX_ANSWERS_BYTES:
            raise SrlibError(f"{len(content)} bytes are too many for answers, expected at most {MAX_ANSWERS_BYTES}")
        try:
            answers = Answers.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SrlibError(f"not the answers of a survey: {where + ': ' if where else ''}{first['msg']}") from None
        if answers.survey != self.survey:
            raise SrlibError(f"answers to another survey ({answers.survey}), expected {self.survey}")
        unknown = [item for item, _ in answers.votes if item not in self.groups]
        if unknown:
            raise SrlibError(
                f"forged: {len(unknown)} votes are for items that this survey does not have ({unknown[0]})"
            )
        if not hmac.compare_digest(self.seal_of(answers), answers.seal):
            raise SrlibError("tampered: the answers were changed after the page sealed them")
        if [item for item, _ in answers.votes] != self.presentation(answers.rater)[: len(answers.votes)]:
            raise SrlibError("tampered: the items are not in the order in which this rater saw them")
        return answers


class Shared(BaseModel):
    """The fields of both file formats."""

    model_config = ConfigDict(frozen=True)

    survey: Hex16
    seed: int
    order: Order
    seal: Hex64


class PageItem(BaseModel):
    """An item as the page holds it: a PNG of width × height pixels, base64."""

    id: str
    group: str
    width: int
    height: int
    png: str


class Example(BaseModel):
    """An example image as the page holds it: two PNGs of width × height pixels, base64."""

    width: int
    height: int
    bad: str
    good: str


class PageData(Shared):
    """The data block of a page."""

    format: Literal["srlib survey page 1"] = "srlib survey page 1"
    items: list[PageItem]
    calibration: list[Example]

    @property
    def public(self) -> Survey:
        """What the page knows of the survey."""
        groups = {item.id: item.group for item in self.items}
        return Survey(self.survey, self.seed, self.order, self.seal, groups)


class KeyItem(BaseModel):
    """An item as the key file holds it; `sha256` is the `pixel_hash` of the whole image (None in earlier files)."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    group: str
    set: str
    image: Annotated[str, Field(alias="picture")]
    method: str
    sha256: Hex64 | None = None


class SurveyKey(Shared):
    """The content of a key file: which item is which, and the secret behind the ids.

    Attributes:
        format: Name of this format.
        secret: Key of the ids, hexadecimal.
        items: Id of an item → its set, image and method.
        methods: Methods in the order of the tables.
        sets: Sets in the order of the tables.
        origin: Tags of the MLflow run that made the images.
    """

    format: Literal["srlib survey key 1"] = "srlib survey key 1"
    secret: Hex64
    items: dict[str, KeyItem]
    methods: list[str]
    sets: list[str]
    origin: dict[str, str] = {}

    @property
    def public(self) -> Survey:
        """What the page knows of the survey."""
        groups = {name: item.group for name, item in self.items.items()}
        return Survey(self.survey, self.seed, self.order, self.seal, groups)


def read_page(page: Path) -> Survey:
    """Return what the page of a survey knows.

    Raises:
        SrlibError: No such file, or not a page made by `srlib survey make`.
    """
    text = _read_text(page)
    start = text.find(DATA_START)
    end = text.find(DATA_END, start)
    return _parse(text[start + len(DATA_START) : end] if 0 <= start < end else "", PageData, page).public


def read_key(key: Path) -> SurveyKey:
    """Return the content of a key file.

    Raises:
        SrlibError: No such file, or not a key file.
    """
    return _parse(_read_text(key), SurveyKey, key)


def _read_text(path: Path) -> str:
    try:
        return read_regular(path, limit=LARGEST_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise SrlibError(f"{path}: cannot be read ({reason}); expected a file made by `srlib survey make`") from None


_Format = TypeVar("_Format", PageData, SurveyKey)


def _parse(text: str, model: type[_Format], path: Path) -> _Format:
    try:
        return model.model_validate_json(text)
    except ValidationError:
        name = model.model_fields["format"].default
        raise SrlibError(f"{path}: expected a file of the format {name!r}, made by `srlib survey make`") from None
