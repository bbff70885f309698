"""Frozen TensorFlow graphs (`.pb`) of unknown origin, run only if every operation is on a list.

A graph is a program: TensorFlow has operations that read and write files, open sockets and run Python. So nothing
is imported before each node has been checked, and everything that does not compute an image is refused.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.evaluation.benchmark import Cost
from srlib.evaluation.foreign import GRAPH_ERRORS, MAX_BYTES, Floats, Graph
from srlib.files import read_regular

if TYPE_CHECKING:
    import tensorflow as tf

_OPERATIONS = {
    "shapes": """Placeholder PlaceholderWithDefault Const Identity IdentityN NoOp Shape ShapeN Size Rank Reshape
        ExpandDims Squeeze Transpose Fill Range ZerosLike OnesLike StopGradient Cast Bitcast Pack Unpack Concat ConcatV2
        Split SplitV Slice StridedSlice Tile Gather GatherV2 GatherNd Reverse ReverseV2 BroadcastTo""",
    "convolution, resampling, pooling, normalization": """Conv2D Conv2DBackpropInput DepthwiseConv2dNative MatMul
        BatchMatMul BatchMatMulV2 BiasAdd BiasAddV1 DepthToSpace SpaceToDepth BatchToSpace BatchToSpaceND SpaceToBatch
        SpaceToBatchND Pad PadV2 MirrorPad ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResizeArea AvgPool MaxPool
        MaxPoolV2 LRN FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3""",
    "activation": "Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softplus Softsign Softmax LogSoftmax Erf",
    "arithmetic": """Add AddV2 AddN Sub Mul Div RealDiv FloorDiv FloorMod Mod DivNoNan Maximum Minimum Abs Neg Sign
        Square Sqrt Rsqrt Reciprocal Inv SquaredDifference Pow Exp Expm1 Log Log1p Floor Ceil Round Rint ClipByValue Sin
        Cos Sum Mean Prod Max Min All Any Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr
        LogicalNot Select SelectV2 ArgMax ArgMin Cumsum""",
}

ALLOWED = frozenset(name for group in _OPERATIONS.values() for name in group.split())
"""Operations that only compute. Others, unknown ones and function calls are refused."""

MAX_CONSTANT = 2**28
"""Most elements of a constant: few bytes of a file can declare any number of equal ones."""


def load_frozen_graph(path: Path, channels: int) -> Graph:
    """Load a frozen graph with one input and, if it has several outputs, take the largest.

    Args:
        path: The `.pb` file.
        channels: Channels of the input.

    Raises:
        SrlibError: Not a graph, an operation that is not on the list, an input that does not exist, or a graph that
            TensorFlow cannot run.
    """
    import tensorflow as tf

    definition = _read(path)
    _check(path, definition)
    inputs = [node.name for node in definition.node if node.op == "Placeholder"]
    sources = {_source(name) for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in sources and node.op != "Const"]
    if len(inputs) != 1 or not outputs:
        raise SrlibError(f"{path}: expected one input and an output, found inputs {inputs}, outputs {outputs}")

    def connect(names: list[str]) -> "tf.types.experimental.ConcreteFunction":
        spec = tf.TensorSpec([1, None, None, channels], tf.float32)
        tensors = [f"{name}:0" for name in names]
        return tf.compat.v1.wrap_function(lambda lr: tf.import_graph_def(definition, {inputs[0]: lr}, tensors), [spec])

    try:
        if len(outputs) > 1:  # a pyramid has smaller outputs too; the largest has the whole scale
            sizes = [int(tf.size(out)) for out in connect(outputs)(tf.zeros([1, 16, 16, channels]))]
            outputs = [outputs[sizes.index(max(sizes))]]
        function = connect(outputs)
        parameters = _parameters(definition)
    except (*GRAPH_ERRORS, tf.errors.OpError) as error:
        raise SrlibError(f"{path}: TensorFlow cannot run this graph ({one_line(error, 200)})") from None

    def run(lr: Floats) -> Floats:
        try:
            return np.asarray(function(tf.constant(lr))[0].numpy())
        except (*GRAPH_ERRORS, tf.errors.OpError) as error:
            raise SrlibError(f"{path}: TensorFlow cannot run this graph ({one_line(error, 200)})") from None

    def multiply_adds(height: int, width: int) -> int:
        try:
            return _multiply_adds(definition, inputs[0], [1, height, width, channels])
        except (*GRAPH_ERRORS, tf.errors.OpError) as error:
            raise SrlibError(f"{path}: its multiply-adds cannot be counted ({one_line(error, 200)})") from None

    return Graph(run, Cost(parameters, multiply_adds))


def _read(path: Path) -> "tf.compat.v1.GraphDef":
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.compat.v1.GraphDef.FromString(read_regular(path, limit=MAX_BYTES))
    except (DecodeError, UnicodeDecodeError) as error:
        raise SrlibError(f"{path}: not a frozen TensorFlow graph ({one_line(error)})") from None


def _check(path: Path, definition: "tf.compat.v1.GraphDef") -> None:
    """Raise an SrlibError unless the graph consists of allowed operations on each other's outputs."""
    if definition.library.function:
        name = definition.library.function[0].signature.name
        raise SrlibError(f"{path}: defines the function {name!r}; expected a frozen graph without functions")
    names = {node.name for node in definition.node}
    for node in definition.node:
        if node.op not in ALLOWED:
            raise SrlibError(
                f"{path}: node {node.name!r} is a {node.op!r} operation, which is not allowed: a graph from a file "
                "may only compute (srlib/evaluation/frozen_graph.py lists the allowed operations)"
            )
        if missing := [name for name in node.input if _source(name) not in names]:
            raise SrlibError(f"{path}: node {node.name!r} reads {missing[0]!r}, which is not in the graph")
        if node.op == "Const":
            size = math.prod(max(axis.size, 0) for axis in node.attr["value"].tensor.tensor_shape.dim)
            if size > MAX_CONSTANT:
                raise SrlibError(
                    f"{path}: the constant {node.name!r} has {size:,} elements, more than {MAX_CONSTANT:,}"
                )


def _source(name: str) -> str:
    """Return the node of an input such as `conv:1` or `^control`."""
    return name.removeprefix("^").partition(":")[0]


def _parameters(definition: "tf.compat.v1.GraphDef") -> int:
    import tensorflow as tf

    constants = [tf.make_ndarray(node.attr["value"].tensor) for node in definition.node if node.op == "Const"]
    return sum(c.size for c in constants if c.ndim and np.issubdtype(c.dtype, np.floating))


def _multiply_adds(definition: "tf.compat.v1.GraphDef", source: str, shape: list[int]) -> int:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        lr = tf.compat.v1.placeholder(tf.float32, shape)
        tf.import_graph_def(definition, {source: lr}, name="")
    work = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput"):
            kernel = math.prod(operation.inputs[1].shape)
            # A transposed convolution applies its kernel once per input pixel, the others once per output pixel.
            pixels = operation.inputs[2] if operation.type == "Conv2DBackpropInput" else operation.outputs[0]
            channels_last = operation.get_attr("data_format") == b"NHWC"
            work += kernel * math.prod(pixels.shape[1:3] if channels_last else pixels.shape[2:4])
    return work
