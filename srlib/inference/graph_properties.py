"""Properties of an OpenVINO graph that tiles depend on: its receptive field and the memory of its activations."""

import math
from typing import TYPE_CHECKING

from srlib.errors import SrlibError

if TYPE_CHECKING:
    import openvino

_SIDE = 96
"""Side in LR pixels at which a graph is examined."""

# Layers that mix no pixels; those that move or repeat some do it before or after a convolution that is counted.
_POINTWISE = """
    Abs Add Broadcast Ceiling Clamp Concat Constant Convert DepthToSpace Divide Elu Exp FakeQuantize Floor Gather
    Gelu HSigmoid HSwish Log Maximum Minimum Multiply Negative Pad Parameter Power PRelu Relu Reshape Result ShapeOf
    Sigmoid Slice Split Sqrt Squeeze StridedSlice Subtract Swish Tanh Tile Transpose Unsqueeze VariadicSplit
"""


def receptive_field(graph: "openvino.Model", name: str) -> int:
    """Return how many LR pixels to each side an output pixel depends on: the longest path of kernels.

    Args:
        graph: The network.
        name: Name of the network in messages.

    Returns:
        LR pixels, rounded up.

    Raises:
        SrlibError: A layer depends on the whole image, or its reach is not known here.
    """
    fixed = _fixed_size(graph)
    reach: dict[str, float] = {}
    for op in fixed.get_ordered_ops():
        kind = op.get_type_name()
        if kind == "ConvolutionBackpropData":
            own = _transposed_reach(op)
        elif kind in ("Convolution", "GroupConvolution"):
            own = _convolution_reach(op)
        elif kind in _POINTWISE.split():
            own = 0.0
        else:
            raise SrlibError(f"{name}: the layer {kind} may depend on the whole image; this network cannot be exported")
        sources = [value.get_node().get_friendly_name() for value in op.input_values()]
        reach[op.get_friendly_name()] = own + max((reach[source] for source in sources), default=0.0)
    return math.ceil(max(reach.values()) - 1e-6)


def _convolution_reach(op: "openvino.Node") -> float:
    taps = list(op.input(1).get_shape())[-2:]
    dilations = op.get_attributes()["dilations"]
    widest = max((tap - 1) * dilation / 2 for tap, dilation in zip(taps, dilations, strict=True))
    return float(widest * _SIDE / op.input(0).get_shape()[-1])


def _transposed_reach(op: "openvino.Node") -> float:
    taps = list(op.input(1).get_shape())[-2:]
    strides = op.get_attributes()["strides"]
    widest = max(math.ceil(tap / stride) / 2 for tap, stride in zip(taps, strides, strict=True))
    widest = max(widest, 1) if max(taps) > 1 else 0
    return float(widest * _SIDE / op.input(0).get_shape()[-1])


def bytes_per_pixel(graph: "openvino.Model") -> int:
    """Return the peak size of the float32 activations that are alive at once, in bytes per LR pixel."""
    fixed = _fixed_size(graph)
    pixels = math.prod(fixed.input(0).get_shape()[1:3])
    ops = [op for op in fixed.get_ordered_ops() if op.get_type_name() != "Constant"]
    last_use = {
        value.get_node().get_friendly_name(): step for step, op in enumerate(ops) for value in op.input_values()
    }
    alive: dict[str, int] = {}
    peak = 0
    for step, op in enumerate(ops):
        alive[op.get_friendly_name()] = 4 * sum(math.prod(out.get_shape()) for out in op.outputs())
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, step) > step}
    return math.ceil(peak / int(pixels))


def _fixed_size(graph: "openvino.Model") -> "openvino.Model":
    """Return a copy of the network for LR images of one size: its own, if it takes no other."""
    fixed = graph.clone()
    if fixed.input(0).partial_shape.is_dynamic:
        fixed.reshape([1, _SIDE, _SIDE, fixed.input(0).partial_shape[3].get_length()])
    return fixed
