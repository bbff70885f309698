"""Networks from files of other tools: frozen TensorFlow graphs, ONNX and OpenVINO models.

Each becomes one function on float32 NHWC. Such a file may come from anywhere, and a graph is a program: it is checked
before it runs (`srlib.evaluation.frozen_graph`), and it must be complete in the files that its SHA-256 covers. OpenVINO
runs its own files and ONNX's.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.evaluation.benchmark import Cost
from srlib.evaluation.foreign import GRAPH_ERRORS, MAX_BYTES, Floats, Graph
from srlib.evaluation.frozen_graph import load_frozen_graph
from srlib.files import read_regular

if TYPE_CHECKING:
    import openvino as ov
    from google.protobuf.message import Message

SUFFIXES = (".pb", ".onnx", ".xml")


def load_graph(path: Path, channels: int, scale: int) -> Graph:
    """Load a `.pb`, `.onnx` or `.xml` file; whether it works on NHWC or NCHW is detected.

    Args:
        path: The file.
        channels: Channels of input and output: 1 or 3.
        scale: Upscaling factor.

    Raises:
        SrlibError: Another kind of file, a file that cannot be read or trusted, or a network of another shape or scale.
    """
    loaders = {".pb": load_frozen_graph, ".onnx": _load_onnx, ".xml": _load_openvino}
    if path.suffix not in loaders:
        raise SrlibError(
            f"{path}: expected a {', '.join(SUFFIXES)} file, weights of PyTorch, a model folder or a folder of images"
        )
    graph = loaders[path.suffix](path, channels)

    def run(lr: Floats) -> Floats:
        out = graph.run(lr)
        size = (lr.shape[1] * scale, lr.shape[2] * scale)
        if out.shape == (1, *size, channels):
            return out
        if out.shape == (1, channels, *size):
            return np.moveaxis(out, 1, 3)
        raise SrlibError(f"{path}: returned an output of shape {out.shape}, expected {(1, *size, channels)} (×{scale})")

    return Graph(run, graph.cost)


def _load_onnx(path: Path, channels: int) -> Graph:
    """Refuse ONNX files whose weights lie in other files, which the recipe's SHA-256 does not cover."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(read_regular(path, limit=MAX_BYTES))
    except (DecodeError, UnicodeDecodeError) as error:
        raise SrlibError(f"{path}: not an ONNX model ({one_line(error)})") from None
    if names := sorted(_external_files(model)):
        raise SrlibError(
            f"{path}: its weights are in other files ({', '.join(names)}), which the SHA-256 of the recipe does not "
            "cover; save the model as one file: onnx.save(onnx.load(path), path, save_as_external_data=False)"
        )
    return _load_openvino(path, channels)


def _external_files(message: "Message") -> set[str]:
    """Return the files that tensors anywhere in an ONNX message keep their data in."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        if message.data_location != onnx.TensorProto.EXTERNAL and not message.external_data:
            return set()
        return {repr(entry.value) for entry in message.external_data if entry.key == "location"} or {"unnamed"}
    files: set[str] = set()
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                files |= _external_files(child)
    return files


def _load_openvino(path: Path, channels: int) -> Graph:
    """Load an ONNX or OpenVINO network, whose input may have its channels first or last."""
    import openvino as ov

    core = ov.Core()
    try:
        model = core.read_model(path)
        axes = _input_axes(path, model, channels)
        # float32, always: on some processors the default would be bfloat16, which gives other scores.
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except GRAPH_ERRORS as error:
        raise SrlibError(f"{path}: OpenVINO cannot read it ({one_line(error, 200)})") from None
    channels_last = axes[3] == channels

    def run(lr: Floats) -> Floats:
        batch = lr if channels_last else np.ascontiguousarray(np.moveaxis(lr, 3, 1))
        try:
            return np.asarray(compiled(batch)[0], np.float32)
        except GRAPH_ERRORS as error:
            raise SrlibError(f"{path}: OpenVINO cannot run it ({one_line(error, 200)})") from None

    def multiply_adds(height: int, width: int) -> int:
        shape = [1, height, width, channels] if channels_last else [1, channels, height, width]
        try:
            return openvino_multiply_adds(model, shape)
        except GRAPH_ERRORS as error:
            raise SrlibError(f"{path}: its multiply-adds cannot be counted ({one_line(error, 200)})") from None

    return Graph(run, Cost(openvino_parameters(model), multiply_adds))


def _input_axes(path: Path, model: "ov.Model", channels: int) -> list[int | None]:
    """Return the lengths of the only input's four axes, None where they are free."""
    if (
        len(model.inputs) != 1
        or model.inputs[0].partial_shape.rank.is_dynamic
        or len(model.inputs[0].partial_shape) != 4
    ):
        shapes = [str(item.partial_shape) for item in model.inputs]
        raise SrlibError(f"{path}: expected one input of four axes, found {shapes}")
    axes = [axis.get_length() if axis.is_static else None for axis in model.inputs[0].partial_shape]
    if channels not in (axes[1], axes[3]):
        raise SrlibError(f"{path}: expected an input of {channels} channels, found the shape {axes}")
    return axes


def openvino_parameters(model: "ov.Model") -> int:
    """Return the number of floats in a network's tensors, scalars not counted."""
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    floats = [op for op in constants if op.get_element_type().is_real() and op.get_output_shape(0)]
    return sum(math.prod(op.get_output_shape(0)) for op in floats)


def openvino_multiply_adds(model: "ov.Model", shape: list[int]) -> int:
    """Return the multiply-adds of a network's convolutions for an input of this shape."""
    fixed = model.clone()
    fixed.reshape(shape)
    work = 0
    for op in fixed.get_ops():
        kind = op.get_type_name()
        if kind in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
            kernel = math.prod(op.input_value(1).get_shape())
            pixels = op.input_value(0) if kind == "ConvolutionBackpropData" else op.output(0)
            work += kernel * math.prod(pixels.get_shape()[2:])
    return work
