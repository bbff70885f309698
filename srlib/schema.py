"""Checked, frozen data models, and their mistakes as lines that a user can act on."""

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

Depth = Annotated[int, Field(gt=0, le=1_000)]
"""Number of blocks; published networks have a few hundred at most."""
Width = Annotated[int, Field(gt=0, le=4_096)]
"""Number of channels of a layer."""

_SHA256 = re.compile("[0-9a-f]{64}")
_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 80


class MistakesError(ValueError):
    """Several mistakes of one section: pairs of a key inside the section and a message."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in pairs))
        self.pairs = pairs


class Section(BaseModel):
    """A group of keys: no unknown keys, no silent conversions, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield the keys of this section that do not fit together, each with what was expected and what it has."""
        yield from ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if pairs := list(self.mistakes()):
            raise MistakesError(pairs)
        return self


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError(f"expected a SHA-256 of 64 hexadecimal digits in lower case, got {text_of(text)}")
    return text


def _path(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"expected a path of printable characters, got {text_of(text)}")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256), Field(json_schema_extra={"format": "SHA-256"})]
PathText = Annotated[str, AfterValidator(_path), Field(json_schema_extra={"format": "path"})]


def text_of(value: object) -> str:
    """Return a short `repr` of any value: long texts and deep structures are abridged."""
    return _REPR.repr(value)


def lines_of(error: ValidationError, content: object) -> list[str]:
    """Return one line per key that is wrong: `key: expected …, got …`.

    Args:
        error: Pydantic's error.
        content: What was validated; keys are looked up in it, so that no line names a member of a union.
    """
    details = [(_key(detail, content), detail, _expectations(detail)) for detail in error.errors()]
    places = {f"{key}.{inner}".strip(".") for key, _, expectations in details for inner, _, _ in expectations}
    alternatives: dict[tuple[str, str, str], list[str]] = {}
    for key, detail, expectations in details:
        if (
            isinstance(detail["input"], dict | list)
            and all(not inner for inner, _, _ in expectations)
            and any(place.startswith((f"{key}.", f"{key}[")) for place in places)
        ):
            continue  # other members of the union are of another kind; the mistakes inside this one are reported
        for inner, expected, got in expectations:
            place = ".".join(part for part in (key, inner) if part)
            alternatives.setdefault((place, got, "" if got else expected), []).append(expected)
    return [(f"{place}: " if place else "") + _join(texts) + got for (place, got, _), texts in alternatives.items()]


def _join(texts: list[str]) -> str:
    """Return what the members of a union expected as one text."""
    first, *others = dict.fromkeys(texts)
    return " or ".join([first, *(text.removeprefix("expected ") for text in others)])


def _expectations(detail: "ErrorDetails") -> list[tuple[str, str, str]]:
    """Return triples: a key inside the place of the error, what was expected, and the value where that is helpful."""
    context = detail.get("ctx", {})
    got = f", got {text_of(detail['input'])}"
    if detail["input"] in ("none", "None"):
        got += "; for nothing, write null"
    match detail["type"]:
        case "missing":
            return [("", "missing key", "")]
        case "extra_forbidden":
            return [("", "unknown key", "")]
        case "value_error" if isinstance(context["error"], MistakesError):
            return [(key, message, "") for key, message in context["error"].pairs]
        case "value_error":
            return [("", str(context["error"]), "")]
        case "union_tag_invalid":
            return [("", f"expected `name` to be one of {context['expected_tags']}", f", got {context['tag']!r}")]
        case "union_tag_not_found":
            return [("", "expected a mapping with a `name`", got)]
        case "model_type" | "model_attributes_type":
            return [("", "expected a mapping", got)]
        case "too_short":
            return [("", f"expected a list of at least {context['min_length']}", got)]
        case "invalid_key":
            return [("", "expected a string as key", "")]
    message = re.sub(r"^\w+ should (be|have|match) ", "", detail["msg"])
    return [("", f"expected {message.replace('a valid integer', 'an integer').replace('a valid ', 'a ')}", got)]


def _key(detail: "ErrorDetails", content: object) -> str:
    """Return the place of the error: `finetune.learning_rate.peak`, without pydantic's names of union members."""
    value = content
    key = ""
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if isinstance(part, int) and isinstance(value, list):
            value, key = value[part], f"{key}[{part}]"
        elif isinstance(value, Mapping) and (part in value or (index == last and detail["type"] == "missing")):
            value, key = value.get(part), f"{key}.{part}"
    return key.lstrip(".")
