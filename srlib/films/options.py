"""What a user can choose for films; light to import."""

from dataclasses import dataclass
from typing import Protocol

from srlib.errors import SrlibError
from srlib.films.containers import CODECS
from srlib.inference.batch import ImageOptions
from srlib.inference.upscale import RgbModel


class FilmModel(RgbModel, Protocol):
    """A model for films, whose interrupted runs are continued with the same one only."""

    @property
    def fingerprint(self) -> str:
        """Text that differs between models that compute different pixels."""


@dataclass(frozen=True)
class FilmOptions(ImageOptions):
    """How films are upscaled, and the images beside them.

    Attributes:
        codec: A key of `CODECS`, or None for the container's default.
        seconds: Only the first so many seconds.
    """

    codec: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codec is not None and self.codec not in CODECS:
            raise SrlibError(f"codec: expected one of {', '.join(CODECS)}, got {self.codec!r}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise SrlibError(f"preview: expected a number of seconds above 0, got {self.seconds:g}")
