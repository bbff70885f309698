"""Open an upscaling network of another author, an ONNX, OpenVINO or PyTorch file, by finding out how it is used.

Such a file says which axes it has, not what they mean. Layout, scale, range of values, sizes that must be multiples of
a number, and the pixels that a result depends on are found by running the network on small images. The network is then
wrapped so that it has the interface of srlib's own exports: [1, height, width, channels] from 0 to 1, any size.

OpenVINO runs the graph; it has no operation that reads or writes files. Weights must lie in the file itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError, one_line, printable
from srlib.files import read_regular
from srlib.imaging.consistency import lr_consistency
from srlib.inference import torch_file
from srlib.inference.exported import BIN, EXTERNAL_DATA, LARGEST_FILE, MAX_SCALE, ONNX, XML, ExportConfig, ExportedModel
from srlib.inference.graph_properties import bytes_per_pixel
from srlib.inference.runtime import OPENVINO_ERRORS, import_openvino, serialized

if TYPE_CHECKING:
    import openvino

SUFFIXES = (".onnx", ".xml", *torch_file.SUFFIXES)

LARGEST_OVERLAP = 64
"""LR pixels that tiles overlap by at most, for networks whose every pixel depends on the whole image."""

_LFS = b"version https://git-lfs.github.com"
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_SIDES = 17, 23  # trial size: odd, and different along both axes
_LOWEST_CONSISTENCY = 18.0
"""dB between the trial image and the result, downscaled again, below which a network does not upscale."""

_GAIN = 1.0
"""dB by which another range must be better than a simpler one."""

_Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Range:
    """The values that a network takes and gives for black and white."""

    black: float
    white: float

    @property
    def text(self) -> str:
        return f"{self.black:g} to {self.white:g}"


_RANGES = (_Range(0, 1), _Range(0, 255), _Range(-1, 1))


def read_model_file(path: Path) -> ExportedModel:
    """Read a network of another author, and print what was found out about it.

    Args:
        path: `.onnx`, `.xml` with its `.bin` beside it, or weights of PyTorch: `.pth`, `.safetensors`.

    Returns:
        The network with the interface of srlib's own exports.

    Raises:
        SrlibError: Another kind of file, a network that OpenVINO cannot run or that does not upscale images.
    """
    graph = _read(path)
    try:
        return _examined(path, graph)
    except OPENVINO_ERRORS as error:
        raise SrlibError(f"{path}: OpenVINO cannot run it ({one_line(error, 200)})") from None


def _examined(path: Path, graph: "openvino.Model") -> ExportedModel:
    """Find out how a network is used, print it, and return the network with the interface of srlib's own exports."""
    channels, is_last = _layout(path, graph)
    graph, scale, multiple, window = _sized(path, _channels_last(graph, is_last), channels)
    if multiple > 1:
        graph = _padded(graph, multiple, scale)
    is_torch = path.suffix.lower() in torch_file.SUFFIXES  # networks that spandrel knows all take values from 0 to 1
    values = _range_of(path, graph, channels, scale, window, _RANGES[: 1 if is_torch else None])
    if values != _RANGES[0]:
        graph = _with_range(graph, values)
    overlap = _reach(graph, channels, scale, window)
    kind = "RGB" if channels == 3 else "luma"
    sizes = "any size" if multiple == 1 else f"padded to multiples of {multiple} pixels"
    if window:
        sizes = f"cut into {window[1]}×{window[0]} pixels, which it is made for"
    print(
        f"{printable(path)}: ×{scale}, {kind}, values from {values.text}, {sizes}, tiles overlap by {overlap} pixels",
        file=sys.stderr,
    )
    config = ExportConfig(
        name="file",
        title=printable(path.name)[:100],
        scale=scale,
        channels="rgb" if channels == 3 else "luma",
        value_range=(0.0, 1.0),
        training="pixel",
        inputs=None,
        receptive_field=overlap,
        bytes_per_pixel=bytes_per_pixel(graph),
        files={XML: "0" * 64, BIN: "0" * 64},
    )
    return ExportedModel(config, *serialized(graph))


def _read(path: Path) -> "openvino.Model":
    """Read a network of another author; refuse a file that is none, or whose weights lie elsewhere."""
    if path.suffix.lower() not in SUFFIXES:
        raise SrlibError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}; convert the network to ONNX")
    if path.suffix.lower() in torch_file.SUFFIXES:
        return torch_file.read_torch_file(path)
    is_onnx = path.suffix.lower() == ".onnx"
    content = read_regular(path, limit=LARGEST_FILE[ONNX if is_onnx else XML])
    weights = b""
    if content.startswith(_LFS):
        raise SrlibError(f"{path}: a pointer of Git LFS instead of the network; run `git lfs pull`")
    if is_onnx and EXTERNAL_DATA in content:
        raise SrlibError(f"{path}: expected weights inside the file, got a reference to another file; save it as one")
    if not is_onnx:
        try:
            weights = read_regular(path.with_suffix(".bin"), limit=LARGEST_FILE[BIN])
        except FileNotFoundError:
            raise SrlibError(f"{path}: expected its weights in {path.with_suffix('.bin').name} beside it") from None
    try:
        return import_openvino().Core().read_model(content, weights)
    except OPENVINO_ERRORS as error:
        raise SrlibError(f"{path}: OpenVINO cannot read it ({one_line(error, 200)})") from None


def _layout(path: Path, graph: "openvino.Model") -> tuple[int, bool]:
    """Return the number of channels, and whether they are the last axis."""
    shapes = [port.partial_shape for port in (*graph.inputs, *graph.outputs)]
    text = " to ".join(str(shape) for shape in shapes)[:200]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or any(len(shape) != 4 for shape in shapes):
        raise SrlibError(f"{path}: expected one image in and one image out, each of four axes, got {text}")
    for axis in (1, 3):
        lengths = {shape[axis].get_length() if shape[axis].is_static else 0 for shape in shapes}
        if lengths in ({1}, {3}):
            return lengths.pop(), axis == 3
    raise SrlibError(f"{path}: expected 1 or 3 channels in and as many out, got {text}")


def _channels_last(graph: "openvino.Model", is_last: bool) -> "openvino.Model":
    """Return the network on float32 [1, height, width, channels]."""
    openvino = import_openvino()
    from openvino import preprocess

    steps = preprocess.PrePostProcessor(graph)
    own = openvino.Layout("NHWC" if is_last else "NCHW")
    steps.input().tensor().set_element_type(openvino.Type.f32).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(own)
    steps.output().model().set_layout(own)
    steps.output().tensor().set_element_type(openvino.Type.f32).set_layout(openvino.Layout("NHWC"))
    return steps.build()


def _sized(
    path: Path, graph: "openvino.Model", channels: int
) -> tuple["openvino.Model", int, int, tuple[int, int] | None]:
    """Find the sizes that a network takes: any if possible, also where the file names one size.

    Returns:
        The network, its factor, what height and width must be multiples of, and the only size that it takes, if any.
    """
    own = graph.input(0).partial_shape
    flexible = graph.clone()
    try:
        flexible.reshape([1, -1, -1, channels])
        return flexible, *_scale(path, flexible, channels), None
    except OPENVINO_ERRORS as error:
        reason = SrlibError(f"{path}: works on images of one size only, {own} ({one_line(error, 120)})")
    except SrlibError as error:
        reason = error
    if not (own[1].is_static and own[2].is_static):
        raise reason
    window = own[1].get_length(), own[2].get_length()
    graph.reshape([1, *window, channels])
    try:
        result = _run(graph, np.zeros((*window, channels), np.float32))
    except OPENVINO_ERRORS:
        raise reason from None
    scale = result.shape[0] // window[0]
    if not 1 <= scale <= MAX_SCALE or result.shape != (scale * window[0], scale * window[1], channels):
        raise reason
    return graph, scale, 1, window


def _scale(path: Path, graph: "openvino.Model", channels: int) -> tuple[int, int]:
    """Return the upscaling factor, and the number that height and width must be multiples of."""
    reason = ""
    for multiple in _MULTIPLES:
        height, width = (multiple * side for side in (_SIDES if multiple < 8 else (3, 2)))
        try:
            result = _run(graph, np.zeros((height, width, channels), np.float32))
        except OPENVINO_ERRORS as error:
            reason = one_line(error, 120)
            continue
        scale = result.shape[0] // height
        if 1 <= scale <= MAX_SCALE and result.shape == (scale * height, scale * width, channels):
            return scale, multiple
        reason = f"an image of {width}×{height} pixels became {result.shape[1]}×{result.shape[0]}"
    raise SrlibError(f"{path}: not a network that upscales images of any size by a whole factor ({reason})")


def _padded(graph: "openvino.Model", multiple: int, scale: int) -> "openvino.Model":
    """Return the network with its input padded to multiples by repeating the border, and its output cut again."""
    from openvino import Model, opset13

    channels = graph.input(0).partial_shape[3].get_length()
    image = opset13.parameter([1, -1, -1, channels], np.float32, name="lr")
    size = opset13.gather(opset13.shape_of(image), np.array([1, 2], np.int64), np.int64(0))
    step = np.array([multiple, multiple], np.int64)
    missing = opset13.mod(opset13.subtract(step, opset13.mod(size, step)), step)
    zero = np.array([0], np.int64)
    ends = opset13.concat([zero, missing, zero], 0)
    padded = opset13.pad(image, np.zeros(4, np.int64), ends, "edge")
    inner, parameter = graph.get_results()[0].input_value(0), graph.get_parameters()[0]
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(padded.output(0))
    stop = opset13.multiply(size, np.array([scale, scale], np.int64))
    cut = opset13.slice(inner, np.zeros(2, np.int64), stop, np.ones(2, np.int64), np.array([1, 2], np.int64))
    return Model([opset13.result(cut)], [image], "network")


def _with_range(graph: "openvino.Model", values: _Range) -> "openvino.Model":
    """Return the network with input and output from 0 to 1."""
    from openvino import Model, opset13

    span, black = np.float32(values.white - values.black), np.float32(values.black)
    image = opset13.parameter(graph.input(0).partial_shape, np.float32, name="lr")
    scaled = opset13.add(opset13.multiply(image, span), black)
    inner, parameter = graph.get_results()[0].input_value(0), graph.get_parameters()[0]
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(scaled.output(0))
    result = opset13.divide(opset13.subtract(inner, black), span)
    return Model([opset13.result(result)], [image], "network")


def _run(graph: "openvino.Model", lr: _Values) -> _Values:
    fixed = graph.clone()
    fixed.reshape([1, *lr.shape])
    compiled = import_openvino().Core().compile_model(fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(lr[np.newaxis])[0][0])


def _trial_image(channels: int, size: tuple[int, int]) -> _Values:
    """Return a smooth image from 0 to 1 with edges, its channels different."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    planes = [
        0.5 + 0.3 * np.sin(9 * x + phase) * np.cos(7 * y + phase) + 0.15 * (x + y > 0.6 + phase / 4)
        for phase in np.arange(channels)
    ]
    return np.stack(planes, axis=2).clip(0, 1).astype(np.float32)


def _range_of(
    path: Path,
    graph: "openvino.Model",
    channels: int,
    scale: int,
    window: tuple[int, int] | None,
    ranges: Sequence[_Range],
) -> _Range:
    """Return the range with which the result, downscaled again, is closest to the trial image."""
    image = _trial_image(channels, window or (64, 64))
    scores = []
    for values in ranges:
        span = values.white - values.black
        result = (_run(graph, image * np.float32(span) + np.float32(values.black)) - values.black) / span
        scores.append(_consistency(image, result, scale))
    best = max(range(len(ranges)), key=lambda index: scores[index] - _GAIN * index)
    if not scores[best] >= _LOWEST_CONSISTENCY:
        raise SrlibError(
            f"{path}: not a network that upscales images: its result, downscaled again, differs from the image "
            f"({scores[best]:.1f} dB, expected {_LOWEST_CONSISTENCY:g} or more, for values from "
            f"{', '.join(values.text for values in ranges)})"
        )
    return ranges[best]


def _consistency(image: _Values, result: _Values, scale: int) -> float:
    """Compare inside the image: near the border a network may see zeros, which are another color in each range."""
    if not np.isfinite(result).all():
        return -np.inf
    border = min(image.shape[:2]) // 5
    inside = [
        values[border * factor : -border * factor or None, border * factor : -border * factor or None]
        for values, factor in ((image, 1), (result, scale))
    ]
    levels = [np.rint(values.clip(0, 1) * 65535).astype(np.uint16) for values in inside]
    return min(lr_consistency(levels[0], levels[1]).psnr, 100.0)


def _reach(graph: "openvino.Model", channels: int, scale: int, window: tuple[int, int] | None) -> int:
    """Return how many LR pixels away a changed pixel changes the result by half a level or more, and one for safety."""
    side = 2 * LARGEST_OVERLAP + 1
    size = window or (side, side)
    largest = min(LARGEST_OVERLAP, (min(size) - 1) // 4) if window else LARGEST_OVERLAP
    noise = np.random.default_rng(0).random((*size, channels), dtype=np.float32)
    center = np.array(size) // 2
    rows, columns = (slice(max(0, place - 1), place + 2) for place in center)
    farthest = 0
    for image in (noise, _trial_image(channels, size)):
        changed = image.copy()
        changed[rows, columns] = 1 - changed[rows, columns]
        difference = np.abs(_run(graph, image) - _run(graph, changed)).max(axis=2) > 0.5 / 255
        places = np.argwhere(difference)
        if len(places):  # the changed square reaches one pixel beyond the center
            farthest = max(farthest, int(np.abs(places // scale - center).max()) - 1)
    return max(0, min(farthest + 1, largest))
