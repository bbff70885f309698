"""What an image shows of its degradation: noise, blur and JPEG compression."""

from collections.abc import Mapping
from dataclasses import dataclass

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.imaging.estimation import SMALLEST_SIDE, estimate_traces, jpeg_settings
from srlib.imaging.input_range import CLEAN, InputRange

VISIBLE_BLOCKS = 0.3
"""Steps at the borders of 8×8 blocks, in levels, that an earlier JPEG compression leaves; quality 95 leaves .2."""

_NOISE_STEPS = tuple(CLEAN.noise[1] * 2**step for step in range(6, -1, -1))

_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class InputTraces:
    """What is known of an image's degradation.

    Attributes:
        noise: Standard deviation in levels of 255; None where it was not estimated, as in images below 96 pixels.
        blur: Standard deviation of a Gaussian blur in pixels; None where noise hides it, too.
        jpeg_quality: Quality of the JPEG file from 1 to 100; None for other files.
        blocks: Height of the steps at the borders of 8×8 blocks in levels; None where it was not estimated.
    """

    noise: float | None = None
    blur: float | None = None
    jpeg_quality: int | None = None
    blocks: float | None = None

    @property
    def is_clean(self) -> bool:
        """Whether a model for clean images fits: neither noise nor compression can be seen. Blur does not count."""
        has_blocks = self.blocks is not None and self.blocks > VISIBLE_BLOCKS
        return not has_blocks and not CLEAN.excess(noise=self.noise, jpeg_quality=self.jpeg_quality)

    def excess(self, inputs: InputRange) -> Mapping[str, float]:
        """Return how far the image lies outside of what a model was trained for; see `InputRange.excess`."""
        return inputs.excess(noise=self.noise, blur=self.blur, jpeg_quality=self.jpeg_quality)

    def distances(self, inputs: InputRange | None) -> list[float | None]:
        """Return how far noise, blur and JPEG quality lie outside, 0 inside and None where it is not known."""
        if inputs is None:
            return [None, None, None]
        excess = self.excess(inputs)
        values = {"noise": self.noise, "blur": self.blur, "jpeg_quality": self.jpeg_quality}
        return [None if value is None else round(excess.get(name, 0.0), 2) for name, value in values.items()]

    def in_words(self, *, exact: bool = True) -> str:
        """Return the traces that decide between models.

        Args:
            exact: Whether to name the figures; otherwise ranges, so that many images share few texts.

        Example:
            >>> InputTraces(noise=6.2, jpeg_quality=62, blocks=0.7).in_words()
            'JPEG quality 62, noise about 6 levels'
            >>> InputTraces(noise=0.4, blocks=0.7).in_words()
            'blocks of an earlier JPEG compression, no visible noise'
            >>> InputTraces(noise=6.2, jpeg_quality=62).in_words(exact=False)
            'JPEG quality 60 to 69, noise 6 to 12 levels'
        """
        words = []
        if self.jpeg_quality is not None:
            words.append(f"JPEG quality {self.jpeg_quality if exact else _quality_range(self.jpeg_quality)}")
        weak = self.jpeg_quality is None or self.jpeg_quality >= CLEAN.jpeg_quality[0]
        if weak and self.blocks is not None and self.blocks > VISIBLE_BLOCKS:
            words.append("blocks of an earlier JPEG compression")
        if self.noise is None:
            words.append("too small to estimate noise")
        elif self.noise > CLEAN.noise[1]:
            low = next(step for step in _NOISE_STEPS if self.noise > step)
            words.append(f"noise {f'about {self.noise:.0f}' if exact else f'{low:g} to {2 * low:g}'} levels")
        else:
            words.append("no visible noise")
        return ", ".join(words)


def _quality_range(quality: int) -> str:
    """Return a range of qualities that are all clean enough for a model for clean images, or all not.

    Example:
        >>> [_quality_range(quality) for quality in (62, 93, 94, 100)]
        ['60 to 69', '90 to 93', '94 to 100', '94 to 100']
    """
    clean, tens = int(CLEAN.jpeg_quality[0]), quality // 10 * 10
    return f"{clean} to 100" if quality >= clean else f"{tens} to {min(tens + 9, clean - 1)}"


UNKNOWN = InputTraces()
"""The traces of an image that was not looked at."""


def traces_of(rgb: Pixels, file: bytes = b"", *, estimate: bool = True) -> InputTraces:
    """Return what an image shows of its degradation.

    Args:
        rgb: uint8 or uint16 [h, w, 3].
        file: The content of the image's file, for the quality of a JPEG.
        estimate: Whether to estimate noise, blur and blocks, which takes about .4 s per megapixel of one CPU, and at
            most .5 s in all.

    Returns:
        The traces.
    """
    content = file if _is_usual_jpeg(file) else b""
    if not estimate or min(rgb.shape[:2]) < SMALLEST_SIDE:
        return InputTraces(jpeg_quality=jpeg_settings(content)[0] if content else None)
    traces = estimate_traces(rgb, content)
    return InputTraces(traces.noise, traces.blur, traces.jpeg_quality, traces.blocks)


def _is_usual_jpeg(file: bytes) -> bool:
    """Return whether a file is a JPEG with the usual table of 64 entries."""
    try:
        return file.startswith(_JPEG) and bool(jpeg_settings(file))
    except SrlibError:
        return False
