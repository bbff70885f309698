"""The answers to a survey: their format, the order in which a rater saw the items, and the checks they must pass.

An item is one version of one picture. Its id is a keyed hash that only the maker of the survey can turn back into a
set, a picture and a method. The page knows ids, the survey's own id, a seed and a sealing key; `srlib survey serve`
reads them from the page, `srlib survey score` from the key file.

What the checks prove: the answers belong to this survey, every vote is for an item of it, the items stand in the order
in which this rater was shown them, and nothing changed after the page sealed them. What they cannot prove: who voted.
The page carries the sealing key, so whoever studies its script can invent a rater; ids and names are hidden from them,
not the pictures themselves.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srlib.errors import SrlibError

Order = Literal["grouped", "mixed"]
SCORES = (1, 2, 3, 4, 5)
PAGE_FORMAT = "srlib survey page 1"
KEY_FORMAT = "srlib survey key 1"
MAX_ANSWERS_BYTES = 1 << 20
_DATA_START = '<script type="application/json" id="survey">'
_DATA_END = "</script>"


class Answers(BaseModel):
    """What one rater sends: `votes` holds (item id, score 1 to 5) in the order shown, from the first one on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["srlib survey answers 1"]
    survey: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    rater: Annotated[str, Field(pattern="^[a-z0-9-]{1,32}$")]
    revision: Annotated[int, Field(ge=1, le=1_000_000)]
    language: Literal["en", "ar"]
    votes: Annotated[
        list[tuple[Annotated[str, Field(pattern="^[0-9a-f]{24}$")], Annotated[int, Field(ge=1, le=5)]]],
        Field(min_length=1, max_length=10_000),
    ]
    seal: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Survey:
    """What page and key file both know.

    Attributes:
        survey: The survey's id, 16 hexadecimal digits.
        seed: The seed of every rater's order.
        order: "grouped": the versions of a picture follow one another; "mixed": all items in one random sequence.
        seal: The sealing key, hexadecimal.
        groups: Item id to the id of its picture.
    """

    survey: str
    seed: int
    order: Order
    seal: str
    groups: dict[str, str]

    def presentation(self, rater: str) -> list[str]:
        """The item ids in the order in which `rater` sees them: sorted by SHA-256 of "seed:rater:id"."""

        def rank(name: str) -> str:
            return hashlib.sha256(f"{self.seed}:{rater}:{name}".encode()).hexdigest()

        grouped = self.order == "grouped"
        return sorted(self.groups, key=lambda item: (rank(self.groups[item]) if grouped else "", rank(item)))

    def seal_of(self, answers: Answers) -> str:
        """HMAC-SHA256 over everything in the answers, as the page computes it."""
        lines = [answers.survey, answers.rater, str(answers.revision), answers.language]
        lines += [f"{item}={score}" for item, score in answers.votes]
        return hmac.new(bytes.fromhex(self.seal), "\n".join(lines).encode(), hashlib.sha256).hexdigest()

    def check(self, content: bytes) -> Answers:
        """Reads one rater's answers.

        They may be half-finished: compare `len(votes)` with `len(groups)`.

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
            raise SrlibError("tampered: the items do not stand in the order in which this rater was shown them")
        return answers


def read_page(page: Path) -> Survey:
    """Reads what the page of a survey knows.

    Raises:
        SrlibError: The file is not there or is not a page made by `srlib survey make`.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SrlibError(f"{page}: cannot be read ({error}); expected a page made by `srlib survey make`") from None
    start = text.find(_DATA_START)
    end = text.find(_DATA_END, start)
    return _read_json(text[start + len(_DATA_START) : end] if 0 <= start < end else "", PAGE_FORMAT, page)[0]


def read_key(key: Path) -> tuple[Survey, dict[str, Any]]:
    """Reads a key file: what the page knows, and the whole content, whose `items` name set, picture and method.

    Raises:
        SrlibError: The file is not there or is not a key file.
    """
    try:
        text = key.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SrlibError(f"{key}: cannot be read ({error}); expected the key that `srlib survey make` wrote") from None
    return _read_json(text, KEY_FORMAT, key)


def page_data(survey: Survey, images: dict[str, dict[str, Any]], examples: list[dict[str, Any]]) -> str:
    """The data block of a page, a `<script>` that never runs; `images` holds what the page shows of each item."""
    content = {
        "format": PAGE_FORMAT,
        "survey": survey.survey,
        "seed": survey.seed,
        "order": survey.order,
        "seal": survey.seal,
        "items": [{"id": item, "group": survey.groups[item], **images[item]} for item in sorted(survey.groups)],
        "calibration": examples,
    }
    # Base64, hexadecimal and our own keys hold no "<", so that nothing ends the block early.
    return f"{_DATA_START}{json.dumps(content, separators=(',', ':'))}{_DATA_END}"


def _read_json(text: str, expected: str, path: Path) -> tuple[Survey, dict[str, Any]]:
    try:
        content = json.loads(text)
        if content["format"] != expected:
            raise ValueError(content["format"])
        items = content["items"]
        named = items.items() if isinstance(items, dict) else ((item["id"], item) for item in items)
        groups = {name: item["group"] for name, item in named}
        return Survey(content["survey"], content["seed"], content["order"], content["seal"], groups), content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SrlibError(f"{path}: expected a file of the format {expected!r}, made by `srlib survey make`") from None
