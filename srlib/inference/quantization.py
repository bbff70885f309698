"""Post-training quantization of a network's convolutions to 8-bit integers, calibrated on images.

Each output channel has one scale, symmetric around zero, by which its largest weight becomes `LARGEST_WEIGHT`:
processors without VNNI or AMX add two products in 16 bits, and sums of larger ones overflow. The input of each
convolution gets one range, in which zero is one of the 256 levels, so that zero padding stays exact. The range leaves
out the very largest values: few of them take most of it. Half of the images get noise, or noisy images would leave the
ranges. The last two convolutions, whose errors go into the result as they are, stay in float32.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError
from srlib.inference.exported import LARGEST_WEIGHT
from srlib.inference.runtime import Values, import_openvino

if TYPE_CHECKING:
    import openvino

Number = TypeVar("Number", bound=np.generic)

SIDE = 128
"""Most LR pixels per side of what is calibrated on: the middle of an image."""

MOST_IMAGES = 64

_OUTSIDE = 5e-5
"""Share of the values below the range of a layer's input, and above it."""

_MOST_VALUES = 2**20
"""Values of each layer's input that its range is estimated from."""

_EXACT = 2
"""Convolutions at the end that stay in float32."""

_NOISE = (10, 25, 50)
"""Standard deviations, in levels of 255, of the noise in every second image, in turn."""

_GROUPED = "GroupConvolution"


def quantize(graph: "openvino.Model", images: Sequence[Values]) -> None:
    """Replace the weights of a network's convolutions by int8, and quantize what they take to 8 bits.

    Args:
        graph: A network in float32; changed in place.
        images: LR images to calibrate on, values [h, w, C] in [0, 1]. Of the first 64 the middle is used.

    Raises:
        SrlibError: There are no images, or no convolutions.
    """
    from openvino import opset13

    convolutions = [op for op in graph.get_ordered_ops() if op.get_type_name() in ("Convolution", _GROUPED)]
    convolutions = convolutions[:-_EXACT]
    convolutions = [op for op in convolutions if op.input_value(1).get_node().get_type_name() == "Constant"]
    if not (convolutions and images):
        raise SrlibError("int8: expected a network of more than two convolutions, and images to calibrate it on")
    ranges = _ranges(graph, convolutions, _samples(images))
    for convolution, (lowest, highest) in zip(convolutions, ranges, strict=True):
        limits = [np.float32(lowest), np.float32(highest)] * 2
        levels = opset13.fake_quantize(convolution.input_value(0), *limits, 256)
        convolution.input(0).replace_source_output(levels.output(0))
        convolution.input(1).replace_source_output(_quantized_weights(convolution).output(0))
    graph.validate_nodes_and_infer_types()


def middle(image: npt.NDArray[Number], side: int) -> npt.NDArray[Number]:
    """Return the middle of an image [h, w, …], at most `side` pixels high and wide."""
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _samples(images: Sequence[Values]) -> list[Values]:
    """Return the middle of the first images, every second one with noise."""
    random = np.random.default_rng(0)
    samples = [middle(image, SIDE) for image in images[:MOST_IMAGES]]
    for index in range(1, len(samples), 2):
        sigma = np.float32(_NOISE[index // 2 % len(_NOISE)] / 255)
        noise = sigma * random.standard_normal(samples[index].shape, np.float32)
        samples[index] = np.clip(samples[index] + noise, 0, 1)
    return samples


def _ranges(
    graph: "openvino.Model", convolutions: Sequence["openvino.Node"], images: Sequence[Values]
) -> list[tuple[float, float]]:
    """Run the network on images and return the range of each convolution's input."""
    openvino = import_openvino()
    inputs = openvino.Model([op.input_value(0) for op in convolutions], graph.get_parameters(), "inputs")
    request = openvino.Core().compile_model(inputs, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    samples: list[list[Values]] = [[] for _ in convolutions]
    for image in images:
        request.infer([image[np.newaxis]])
        for index, values in enumerate(samples):
            data = request.get_output_tensor(index).data.ravel()
            step = max(1, len(data) * len(images) // _MOST_VALUES) | 1  # odd: other columns in each row
            values.append(data[::step].copy())
    return [_range(np.concatenate(values)) for values in samples]


def _range(values: Values) -> tuple[float, float]:
    """Return the range of a layer's input, in which zero is a level."""
    lowest, highest = (float(np.quantile(values, share)) for share in (_OUTSIDE, 1 - _OUTSIDE))
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    step = (highest - lowest) / 255 or 1 / 255
    zero = round(-lowest / step)
    return -zero * step, (255 - zero) * step


def _quantized_weights(convolution: "openvino.Node") -> "openvino.Node":
    """Return weights as int8 times a scale for each output channel."""
    from openvino import opset13

    weights = convolution.input_value(1).get_node().data
    axes = tuple(range(2 if convolution.get_type_name() == _GROUPED else 1, weights.ndim))
    scale = np.abs(weights).max(axes, keepdims=True) / np.float32(LARGEST_WEIGHT)
    scale[scale == 0] = 1
    integers = opset13.constant(np.rint(weights / scale).astype(np.int8))
    return opset13.multiply(opset13.convert(integers, np.float32), opset13.constant(scale.astype(np.float32)))
