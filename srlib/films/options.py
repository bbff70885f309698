"""What a user can choose for films; light to import."""

from dataclasses import dataclass
from typing import Protocol

from srlib.errors import SrlibError
from srlib.films.containers import CODECS
from srlib.inference.output_size import MODEL_SCALE, OutputSize
from srlib.inference.upscale import RgbModel


class FilmModel(RgbModel, Protocol):
    """A model for films, whose interrupted runs are continued with the same one only."""

    @property
    def fingerprint(self) -> str:
        """Text that differs between models that compute different pixels."""


@dataclass(frozen=True)
class FilmOptions:
    """How films are upscaled.

    Attributes:
        size: How large each result becomes.
        quality: 1 to 100.
        codec: A key of `CODECS`, or None for the container's default.
        seconds: Only the first so many seconds.
        consistent: Whether to make each frame consistent with its LR frame.
        allow_large: Whether to upscale films that take more than `LONGEST_WORK`.
    """

    size: OutputSize = MODEL_SCALE
    quality: int = 95
    codec: str | None = None
    seconds: float | None = None
    consistent: bool = False
    allow_large: bool = False

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            raise SrlibError(f"codec: expected one of {', '.join(CODECS)}, got {self.codec!r}")
        if not 1 <= self.quality <= 100:
            raise SrlibError(f"quality: expected a number from 1 to 100, got {self.quality}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise SrlibError(f"preview: expected a number of seconds above 0, got {self.seconds:g}")
