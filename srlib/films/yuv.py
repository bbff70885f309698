"""Let a network return the samples of 4:2:0 frames instead of RGB.

The last layer of a network with a sub-pixel step gives, for each LR pixel, the RGB of a block of pixels. Y, Cb and Cr
are linear in them: one more convolution in the network's own graph, half as many values to move, and nothing for NumPy
to compute at the result's size. The samples are those of `srlib.films.color.from_rgb`, but for RGB, which is not
rounded to whole levels in between.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.films.color import Color, new_frame, yuv_matrix
from srlib.inference.runtime import append_sum
from srlib.inference.upscale import OnPixels
from srlib.inference.upscaler import Upscaler

if TYPE_CHECKING:
    import av
    import openvino

_Floats = npt.NDArray[np.floating]

_SIDES = (2, 4, 8)
"""Sides of a block whose rows of samples, of luma and of chroma, are as long as an integer type."""

_CHROMA = np.array([[1, 2, 1], [1, 2, 1]]) / 8
"""Weights of two rows and three columns for a chroma sample, which lies on the second column."""


class UnsuitableGraphError(SrlibError):
    """The graph does not end in a sub-pixel step of an even factor."""


class YuvUpscaler:
    """Upscales the frames of a film to 4:2:0 by the network alone, where it can.

    Args:
        model: The network.
        color: How the result stores color, in 8 bits.
    """

    def __init__(self, model: Upscaler, color: Color) -> None:
        self._model = model
        self._ending: YuvEnding | None = YuvEnding(color)

    def __call__(self, rgb: Pixels, *, on_pixels: OnPixels | None = None) -> "av.VideoFrame | None":
        """Return a frame of the network's size, None where the network cannot: always or never for the same film.

        Args:
            rgb: uint8 [height, width, 3].
            on_pixels: See `srlib.Upscaler`.
        """
        if self._ending is None:
            return None
        try:
            blocks = self._model.with_ending(rgb, self._ending, on_pixels=on_pixels)
        except UnsuitableGraphError:
            blocks = None
        if blocks is None:
            self._ending = None
            return None
        return frame_of_blocks(blocks, self._ending.color)


@dataclass(frozen=True)
class YuvEnding:
    """Makes a graph return Y, Cb and Cr of 8 bits; see `srlib.inference.runtime.Ending`.

    The values are those of a block of b × b pixels, before the sub-pixels move to their places: b² of Y, row by row,
    then b²/4 of Cb and b²/4 of Cr.

    Attributes:
        color: How the result stores color, in 8 bits.
    """

    color: Color

    def __call__(self, graph: "openvino.Model", scale: int) -> int:
        """Change the graph and return the number of blocks for each row of the input.

        Raises:
            UnsuitableGraphError: The graph ends in something else than such a step.
        """
        from openvino import opset13

        result = graph.get_results()[0]
        step = result.input_value(0).get_node()
        if step.get_type_name() == "Transpose":
            step = step.input_value(0).get_node()
        side = step.get_attributes()["block_size"] if step.get_type_name() == "DepthToSpace" else 0
        if side not in _SIDES:
            raise UnsuitableGraphError("expected a network that ends in a sub-pixel step of an even factor")
        is_depth_first = step.get_attributes()["mode"] == "depth_first"
        inside, left, offsets = _weights(self.color, side)
        border = inside.copy()
        border[:, :, 0] += left[:, :, -1]  # the first column of the image repeats to the left
        inside, left, border = (_as_kernel(weights, is_depth_first) for weights in (inside, left, border))

        def columns(values: "openvino.Output", start: int, stop: int) -> "openvino.Node":
            return opset13.slice(values, *(np.array([number]) for number in (start, stop, 1, 3)))

        values = step.input_value(0)
        rgb = opset13.clamp(values, 0.0, 1.0)
        both = np.concatenate([left, inside], axis=3)
        samples = opset13.convolution(rgb, both, [1, 1], [0, 1], [0, 0], [1, 1])
        first = opset13.convolution(columns(rgb, 0, 1), border, [1, 1], [0, 0], [0, 0], [1, 1])
        samples = opset13.concat([first, columns(samples, 1, np.iinfo(np.int64).max)], 3)
        samples = opset13.convert(opset13.clamp(opset13.add(samples, offsets), 0.0, 255.0), "u8")
        graph.remove_result(result)
        graph.add_results([opset13.result(opset13.transpose(samples, np.array([0, 2, 3, 1])))])
        append_sum(graph, values)
        return scale // side


def _weights(color: Color, side: int) -> tuple[_Floats, _Floats, _Floats]:
    """Return what each value of a block takes from the RGB of its pixels.

    Returns:
        Weights [values, rows, columns, 3] for the block itself and for the one to its left, and offsets
        [1, values, 1, 1] with the half by which truncating becomes rounding.
    """
    matrix, offsets = yuv_matrix(color)
    half = side // 2
    luma = np.zeros((side, side, side, side, 3))
    chroma = np.zeros((2, half, half, side, side + 1, 3))  # with the last column of the block to the left
    for row in range(side):
        for column in range(side):
            luma[row, column, row, column] = matrix[0]
    for row in range(half):
        for column in range(half):
            window = np.s_[:, row, column, 2 * row : 2 * row + 2, 2 * column : 2 * column + 3]
            chroma[window] = _CHROMA[:, :, None] * matrix[1:, None, None]
    wide = chroma.reshape(-1, side, side + 1, 3)
    inside = np.concatenate([luma.reshape(-1, side, side, 3), wide[:, :, 1:]])
    left = np.zeros_like(inside)
    left[side**2 :, :, -1] = wide[:, :, 0]
    counts = side**2, half**2, half**2
    return inside, left, (np.repeat(offsets, counts) + 0.5).astype(np.float32)[None, :, None, None]


def _as_kernel(weights: _Floats, is_depth_first: bool) -> npt.NDArray[np.float32]:
    """Return weights [values, rows, columns, 3] as [values, channels, 1, 1] in the order of a sub-pixel step."""
    ordered = np.moveaxis(weights, 3, 1) if is_depth_first else weights
    return ordered.reshape(len(weights), -1, 1, 1).astype(np.float32)


def frame_of_blocks(values: Pixels, color: Color) -> "av.VideoFrame":
    """Return a 4:2:0 frame of the values of a graph with a `YuvEnding`.

    Args:
        values: uint8 [rows, columns, values] of blocks.
        color: How the result stores color.
    """
    rows, columns, count = values.shape
    side = math.isqrt(count * 2 // 3)
    frame = new_frame(rows * side, columns * side, color)
    start = 0
    for plane, length in zip(frame.planes, (side, side // 2, side // 2), strict=True):
        samples = values[..., start : start + length**2].view(f"u{length}")
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: rows * length, : columns * length]
        lines.view(f"u{length}").reshape(rows, length, columns)[:] = samples.transpose(0, 2, 1)
        start += length**2
    return frame
