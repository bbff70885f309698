"""Networks that come as a file of another tool: frozen TensorFlow graphs, ONNX and OpenVINO models.

Each becomes one function on float32 NHWC. OpenVINO runs both its own files and ONNX's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError, one_line
from srlib.evaluation.benchmark import Cost

Floats = npt.NDArray[np.float32]
SUFFIXES = (".pb", ".onnx", ".xml")


@dataclass(frozen=True)
class Graph:
    """`run`: float32 [1, h, w, C] → float32 [1, scale·h, scale·w, C], and what it costs."""

    run: Callable[[Floats], Floats]
    cost: Cost


def load_graph(path: Path, channels: int, scale: int) -> Graph:
    """Loads a `.pb`, `.onnx` or `.xml` file with `channels` (1 or 3) in and out; NHWC or NCHW is found out.

    Raises:
        SrlibError: Another kind of file, one that cannot be read, or a network of another shape or scale.
    """
    load = {".pb": _frozen_graph, ".onnx": _openvino, ".xml": _openvino}.get(path.suffix)
    if load is None:
        raise SrlibError(f"{path}: expected a {', '.join(SUFFIXES)} file, a model folder or a folder of pictures")
    graph = load(path, channels)

    def run(lr: Floats) -> Floats:
        out = graph.run(lr)
        size = (lr.shape[1] * scale, lr.shape[2] * scale)
        if out.shape == (1, *size, channels):
            return out
        if out.shape == (1, channels, *size):
            return np.moveaxis(out, 1, 3)
        raise SrlibError(f"{path}: gave an output of shape {out.shape}, expected {(1, *size, channels)} (×{scale})")

    return Graph(run, graph.cost)


def _frozen_graph(path: Path, channels: int) -> Graph:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own exception has no stable name
        raise SrlibError(f"{path}: not a frozen TensorFlow graph ({one_line(error)})") from None
    inputs = [node.name for node in definition.node if node.op == "Placeholder"]
    read = {name.split(":")[0].lstrip("^") for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in read and node.op != "Const"]
    if len(inputs) != 1 or not outputs:
        raise SrlibError(f"{path}: expected one input and an output, found inputs {inputs}, outputs {outputs}")

    def connected(names: list[str]) -> Any:
        spec = tf.TensorSpec([1, None, None, channels], tf.float32)
        tensors = [f"{name}:0" for name in names]
        return tf.compat.v1.wrap_function(lambda lr: tf.import_graph_def(definition, {inputs[0]: lr}, tensors), [spec])

    if len(outputs) > 1:  # a pyramid gives smaller pictures too; the largest is the one of the whole scale
        sizes = [int(tf.size(out)) for out in connected(outputs)(tf.zeros([1, 16, 16, channels]))]
        outputs = [outputs[sizes.index(max(sizes))]]
    run = connected(outputs)

    constants = [tf.make_ndarray(node.attr["value"].tensor) for node in definition.node if node.op == "Const"]
    parameters = sum(c.size for c in constants if c.ndim and np.issubdtype(c.dtype, np.floating))

    def multiply_adds(height: int, width: int) -> int:
        with tf.Graph().as_default() as graph:
            lr = tf.compat.v1.placeholder(tf.float32, [1, height, width, channels])
            tf.import_graph_def(definition, {inputs[0]: lr}, name="")
        work = 0
        for operation in graph.get_operations():
            if operation.type in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput"):
                kernel = math.prod(operation.inputs[1].shape)
                # A transposed convolution applies its kernel once per input pixel, the others once per output pixel.
                moved = operation.inputs[2] if operation.type == "Conv2DBackpropInput" else operation.outputs[0]
                last = operation.get_attr("data_format") == b"NHWC"
                work += kernel * math.prod(moved.shape[1:3] if last else moved.shape[2:4])
        return work

    return Graph(lambda lr: run(tf.constant(lr))[0].numpy(), Cost(parameters, multiply_adds))


def _openvino(path: Path, channels: int) -> Graph:
    import openvino as ov

    core = ov.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise SrlibError(f"{path}: OpenVINO cannot read it ({one_line(error)})") from None
    if len(model.inputs) != 1 or model.inputs[0].partial_shape.rank.get_length() != 4:
        raise SrlibError(
            f"{path}: expected one input of four axes, found {[str(i.partial_shape) for i in model.inputs]}"
        )
    axes = [dim.get_length() if dim.is_static else None for dim in model.inputs[0].partial_shape]
    if channels not in (axes[1], axes[3]):
        raise SrlibError(f"{path}: expected an input of {channels} channels, found the shape {axes}")
    last = axes[3] == channels

    def shape(height: int, width: int) -> list[int]:
        return [1, height, width, channels] if last else [1, channels, height, width]

    # float32 is asked for: on some processors the default would be bfloat16, and with it other scores.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(lr: Floats) -> Floats:
        batch = lr if last else np.ascontiguousarray(np.moveaxis(lr, 3, 1))
        return np.asarray(compiled(batch)[0], np.float32)

    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    floats = [op for op in constants if op.get_element_type().is_real() and op.get_output_shape(0)]
    parameters = sum(math.prod(op.get_output_shape(0)) for op in floats)

    def multiply_adds(height: int, width: int) -> int:
        still = model.clone()
        still.reshape(shape(height, width))
        work = 0
        for op in still.get_ops():
            kind = op.get_type_name()
            if kind in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
                kernel = math.prod(op.input_value(1).get_shape())
                pixels = op.input_value(0) if kind == "ConvolutionBackpropData" else op.output(0)
                work += kernel * math.prod(pixels.get_shape()[2:])
        return work

    return Graph(run, Cost(parameters, multiply_adds))
