"""Convert frames between YUV and RGB by the matrix and the range of their film.

Decoded frames of any format go through FFmpeg's scaler with its exact variants: the fast ones shift every channel by
about one level. Results are converted here.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.errors import SrlibError

if TYPE_CHECKING:
    import av


class _Matrix(NamedTuple):
    """The scaler's name of a matrix, and the weights of red and blue in luma."""

    name: str
    red: float
    blue: float


_BT601_MATRIX = _Matrix("bt601", 0.299, 0.114)
_MATRICES = {
    1: _Matrix("bt709", 0.2126, 0.0722),
    4: _Matrix("fcc", 0.30, 0.11),
    5: _BT601_MATRIX,
    6: _BT601_MATRIX,
    7: _Matrix("smpte240m", 0.212, 0.087),
    9: _Matrix("bt2020", 0.2627, 0.0593),
}
"""Matrix code (ITU-T H.273, table 4) → matrix."""

_EXACT = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"

_RGB, _UNSPECIFIED, _BT709, _BT601 = 0, 2, 1, 6
_HDR = {16: "PQ", 18: "HLG"}
"""Code of a transfer function (ITU-T H.273, table 3) → its name."""

_CENTERED_DECODERS = ("mjpeg",)
"""Decoders of films whose chroma samples lie in the center of four pixels; elsewhere on the left of two columns.

FFmpeg's scaler would take the center for all, which shifts colors by half an LR pixel.
"""

_HD_HEIGHT = 720
"""Rows from which players take BT.709 where a film does not name its matrix, and BT.601 below."""

_FULL, _STUDIO = 2, 1


@dataclass(frozen=True)
class Color:
    """How a film stores color, as codes of ITU-T H.273.

    Attributes:
        matrix: Matrix between RGB and YUV; what a player would assume where the film does not name it.
        is_full_range: Whether Y goes from 0 to 255 instead of 16 to 235.
        primaries: Code of the primaries, 2 where the film does not name them.
        transfer: Code of the transfer function, 2 where the film does not name it.
        depth: Bits per channel that are kept: 8 or 10.
        is_rgb: Whether frames are stored as RGB.
        chroma: Where chroma samples lie: `left` or `center`.
    """

    matrix: int
    is_full_range: bool
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    depth: int = 8
    is_rgb: bool = False
    chroma: str = "left"

    @property
    def range(self) -> int:
        """FFmpeg's code of the range."""
        return _FULL if self.is_full_range else _STUDIO


def color_of(frame: "av.VideoFrame", decoder: str, name: str) -> Color:
    """Return how a film stores color, by its first frame.

    Args:
        frame: The first frame.
        decoder: FFmpeg's name of its decoder.
        name: The film's name in messages.

    Raises:
        SrlibError: HDR, or a matrix that is not supported.
    """
    transfer, matrix = int(frame.color_trc), int(frame.colorspace)
    if transfer in _HDR:
        raise SrlibError(
            f"{name}: HDR ({_HDR[transfer]}) is not supported, the networks are trained on SDR; convert it to SDR first"
        )
    is_rgb = frame.format.is_rgb or matrix == _RGB
    if matrix == _UNSPECIFIED or is_rgb:
        matrix = _BT709 if frame.height >= _HD_HEIGHT else _BT601
    if matrix not in _MATRICES:
        raise SrlibError(
            f"{name}: its color matrix (code {matrix} of ITU-T H.273) is not supported; convert it to BT.709"
        )
    depth = max(component.bits for component in frame.format.components)
    if depth > 16:
        raise SrlibError(f"{name}: expected up to 16 bits per channel, got {depth}")
    is_full = not is_rgb and (int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj"))
    chroma = "center" if decoder in _CENTERED_DECODERS else "left"
    return Color(matrix, is_full, int(frame.color_primaries), transfer, 8 if depth <= 8 else 10, is_rgb, chroma)


class RgbConverter:
    """Converts the frames of one film to RGB, each by its own matrix and range: films are joined of several.

    Args:
        color: How the film stores color, by its first frame; it holds for what a frame does not name.
    """

    def __init__(self, color: Color) -> None:
        self._color = color
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[object, ...] = ()

    def __call__(self, frame: "av.VideoFrame", name: str = "frame") -> Pixels:
        """Return a frame as uint8 or (in a film of more than 8 bits) uint16 RGB [height, width, 3].

        Args:
            frame: The frame.
            name: Its name in messages.

        Raises:
            SrlibError: Its color is not supported; see `color_of`.
        """
        tags = tuple(int(tag) for tag in (frame.colorspace, frame.color_range, frame.color_trc))
        kind = frame.format.name, frame.width, frame.height, tags
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._new_graph(frame, self._color_of(frame, name)), kind
        self._graph.push(frame)
        rgb: Pixels = np.asarray(self._graph.pull().to_ndarray())
        if rgb.dtype == np.uint8:
            return rgb
        # The scaler gives white as 255 · 256, or as the film's levels followed by zeros.
        bits = max(component.bits for component in frame.format.components)
        color = self._color_of(frame, name)
        is_limited = not color.is_rgb and not color.is_full_range
        white = 255 * 2**8 if is_limited else (2**bits - 1) * 2 ** (16 - bits)
        return np.asarray(np.minimum(np.rint(rgb * np.float32(65535 / white)), 65535).astype(np.uint16))

    def _color_of(self, frame: "av.VideoFrame", name: str) -> Color:
        """Return how a frame stores color, in the film's depth."""
        film, own = self._color, color_of(frame, "", name)
        names_matrix = own.is_rgb or int(frame.colorspace) != _UNSPECIFIED
        names_range = own.is_rgb or own.is_full_range or int(frame.color_range) == _STUDIO
        return replace(
            own,
            matrix=own.matrix if names_matrix else film.matrix,
            is_full_range=own.is_full_range if names_range else film.is_full_range,
            depth=film.depth,
            chroma=film.chroma,
        )

    def _new_graph(self, frame: "av.VideoFrame", color: Color) -> "av.filter.Graph":
        import av

        deep = color.depth > 8
        options = {"flags": _EXACT, "out_range": "full"}
        if not color.is_rgb:
            options["in_color_matrix"] = _MATRICES[color.matrix].name
            options["in_chroma_loc"] = color.chroma
            options["in_range"] = "full" if color.is_full_range else "limited"
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
        )
        scale = graph.add("scale", ":".join(f"{name}={value}" for name, value in options.items()))
        target = graph.add("format", "rgb48le" if deep else "rgb24")
        graph.link_nodes(source, scale, target, graph.add("buffersink")).configure()
        return graph


def from_rgb(rgb: Pixels, color: Color) -> "av.VideoFrame":
    """Return RGB as a 4:2:0 frame to encode, with color tags.

    FFmpeg's scaler would truncate chroma in full range, which shifts colors by half a level. Chroma lies as H.264 and
    HEVC assume where nothing else is named: on the left of two columns, between two rows.

    Args:
        rgb: uint8 or uint16 [height, width, 3] with even sides.
        color: How the result stores color.
    """
    frame = new_frame(rgb.shape[0], rgb.shape[1], color)
    for plane, samples in zip(frame.planes, _yuv_planes(rgb, color), strict=True):
        rows = np.zeros((samples.shape[0], plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows)
    return frame


def new_frame(height: int, width: int, color: Color) -> "av.VideoFrame":
    """Return a 4:2:0 frame with color tags, whose samples are not set."""
    import av

    frame = av.VideoFrame(width, height, "yuv420p" if color.depth == 8 else "yuv420p10le")
    frame.colorspace, frame.color_range = color.matrix, color.range
    frame.color_primaries, frame.color_trc = color.primaries, color.transfer
    return frame


def _yuv_planes(rgb: Pixels, color: Color) -> tuple[Pixels, Pixels, Pixels]:
    """Return Y, Cb and Cr (ITU-T H.273, section 8.3), rounded."""
    red_weight, blue_weight = _MATRICES[color.matrix].red, _MATRICES[color.matrix].blue
    red, green, blue = (np.multiply(rgb[..., c], 1 / np.iinfo(rgb.dtype).max, dtype=np.float32) for c in range(3))
    luma = red_weight * red + blue_weight * blue + (1 - red_weight - blue_weight) * green
    peak, step = 2**color.depth - 1, 2 ** (color.depth - 8)
    luma_range, black, chroma_range = _levels(color)

    def rounded(values: npt.NDArray[np.floating], levels: int, zero: int) -> Pixels:
        samples = np.clip(np.floor(values * levels + (zero + 0.5)), 0, peak)
        return np.asarray(samples.astype(np.uint8 if color.depth == 8 else np.uint16))

    cb, cr = (
        rounded(_at_chroma_samples(channel - luma) / (2 * (1 - weight)), chroma_range, 128 * step)
        for channel, weight in ((blue, blue_weight), (red, red_weight))
    )
    return rounded(luma, luma_range, black), cb, cr


def _levels(color: Color) -> tuple[int, int, int]:
    """Return the levels from black to white, the level of black, and the levels of chroma."""
    peak, step = 2**color.depth - 1, 2 ** (color.depth - 8)
    return (peak, 0, peak) if color.is_full_range else (219 * step, 16 * step, 224 * step)


def yuv_matrix(color: Color) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the matrix [3, 3] and the offsets [3] that take RGB in [0, 1] to levels of Y, Cb and Cr.

    Example:
        >>> matrix, offsets = yuv_matrix(Color(1, is_full_range=False))
        >>> (matrix @ [1, 0, 0] + offsets).round(1)
        array([ 62.6, 102.3, 240. ])
    """
    _, red, blue = _MATRICES[color.matrix]
    luma_range, black, chroma_range = _levels(color)
    luma = np.array([red, 1 - red - blue, blue])
    cb, cr = (np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))
    zero = 2 ** (color.depth - 1)
    return np.stack([luma * luma_range, cb * chroma_range, cr * chroma_range]), np.array([black, zero, zero])


def _at_chroma_samples(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Halve both sides: the mean of two rows, and of three columns with the weights 1, 2, 1 around the left one."""
    rows = (values[0::2] + values[1::2]) / 2
    left = np.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
    return np.asarray((left + 2 * rows[:, 0::2] + rows[:, 1::2]) / 4)
