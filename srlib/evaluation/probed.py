"""Networks that are probed: weights of PyTorch, and graphs that take images of one size only."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Cost
from srlib.evaluation.foreign import GRAPH_ERRORS, Floats, Graph
from srlib.evaluation.graphs import openvino_multiply_adds, openvino_parameters
from srlib.inference.exported import ONNX, XML
from srlib.inference.model_file import read_model_file
from srlib.inference.runtime import CompiledNetwork, import_openvino, window
from srlib.inference.tiles import windows
from srlib.inference.torch_file import SUFFIXES as TORCH_SUFFIXES

if TYPE_CHECKING:
    import openvino


def needs_probing(path: Path) -> bool:
    """Return whether a file holds weights of PyTorch, or an ONNX or OpenVINO network with one height and width."""
    if path.suffix in TORCH_SUFFIXES:
        return True
    if path.suffix not in (Path(ONNX).suffix, Path(XML).suffix):
        return False
    try:
        (side,) = import_openvino().Core().read_model(path).inputs
        shape = side.partial_shape
        return len(shape) == 4 and sum(axis.is_static for axis in list(shape)[1:]) == 3
    except GRAPH_ERRORS:
        return False  # `load_graph` says what is wrong with it


def probed_graph(path: Path, channels: int, scale: int) -> Graph:
    """Load a network on values from 0 to 1, in float32; one for a single size runs window by window.

    Args:
        path: `.pth`, `.safetensors` and their like, `.onnx` or `.xml`.
        channels: Channels of input and output: 1 or 3.
        scale: Upscaling factor.

    Raises:
        SrlibError: A file that cannot be read or trusted, or a network of another shape or scale.
    """
    model = read_model_file(path)
    if model.config.scale != scale:
        raise SrlibError(f"{path}: upscales by {model.config.scale}, expected {scale}")
    own = 3 if model.config.channels == "rgb" else 1
    if own != channels:
        raise SrlibError(f"{path}: has {own} channels, expected {channels}; set `channels` of this method")
    network = CompiledNetwork(model, precision="float32")
    graph = import_openvino().Core().read_model(model.graph, model.weights)

    def run(lr: Floats) -> Floats:
        return np.asarray(network(lr[0]), np.float32)[np.newaxis]

    def multiply_adds(height: int, width: int) -> int:
        return _multiply_adds(graph, height, width, channels, model.config.receptive_field)

    return Graph(run, Cost(openvino_parameters(graph), multiply_adds))


def _multiply_adds(graph: "openvino.Model", height: int, width: int, channels: int, overlap: int) -> int:
    """Count what an image takes: the network's work for its size, or for each of its windows."""
    size = window(graph)
    if size is None:
        return openvino_multiply_adds(graph, [1, height, width, channels])
    count = len(windows(max(height, size[0]), max(width, size[1]), overlap=overlap, size=size))
    return count * openvino_multiply_adds(graph, [1, *size, channels])
