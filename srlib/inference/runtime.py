"""Exported networks in OpenVINO: reading and checking their files, blending two of them, running them.

A model is a folder: `config.json` beside `model.xml` with `model.bin` (OpenVINO), or `model.onnx`. Nothing here needs
Keras or TensorFlow.
"""

import functools
import hashlib
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError, one_line
from srlib.imaging.color import Channels

CONFIG = "config.json"
XML, BIN, ONNX = "model.xml", "model.bin", "model.onnx"
Precision = Literal["float32", "bfloat16"]

LARGEST_LOSS = 0.01
"""dB of PSNR-Y by which bfloat16 may differ from float32 and still be taken by itself."""

_MOVING = {"DepthToSpace", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Layers that bring values to their places and change none."""

_FLOATS: dict[str, Any] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


@dataclass(frozen=True)
class Exported:
    """What must be known to use an exported network.

    Attributes:
        name: Which network, a key of `srlib.models.MODELS`.
        title: As in tables.
        scale: The factor of enlargement.
        channels: `rgb`, or the kind of luma.
        value_range: Of the input and the output.
        training: `pixel` or `gan`.
        receptive_field: How many pixels to each side of the small picture an output pixel depends on.
        bytes_per_pixel: Activations that are alive at once in float32, per pixel of the small picture.
        files: The SHA-256 of each file of the model.
        bfloat16: PSNR-Y in dB by which bfloat16 differed from float32 on the pictures given at export; None where it
            was not measured.
    """

    name: str
    title: str
    scale: int
    channels: Channels
    value_range: tuple[float, float]
    training: str
    receptive_field: int
    bytes_per_pixel: int
    files: dict[str, str]
    bfloat16: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `config.json` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Model:
    """An exported network in memory: the text of its graph and its constants (`weights` is empty for ONNX)."""

    config: Exported
    graph: bytes
    weights: bytes


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported network (and not, say, a Keras model of ours)."""
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (XML, ONNX))


def read(folder: Path) -> Model:
    """Reads an exported network and compares its files with their SHA-256.

    Raises:
        SrlibError: No such model, or one whose files are not those that were exported.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = Exported(**{**content, "value_range": tuple(content["value_range"])})
        names = sorted(config.files)
    except FileNotFoundError:
        raise SrlibError(f"{folder}: expected an exported model (a folder with {CONFIG} and {XML} or {ONNX})") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SrlibError(f"{path}: not an exported model's config: {error}") from None
    if names not in ([BIN, XML], [ONNX]):
        raise SrlibError(f"{path}: files: expected {XML} and {BIN}, or {ONNX}, got {', '.join(names)}")
    found = {}
    for name in names:
        try:
            found[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            raise SrlibError(f"{folder}: {name} is missing") from None
        if hashlib.sha256(found[name]).hexdigest() != config.files[name]:
            raise SrlibError(f"{folder / name}: not the file that was exported (its SHA-256 differs); export it again")
    return Model(config, found.get(XML) or found[ONNX], found.get(BIN, b""))


def blend(psnr: Model, gan: Model, fidelity: float) -> Model:
    """The network between two of one architecture: gan + fidelity · (psnr − gan), weight by weight.

    Interpolating the weights of a network and of its fine-tuned successor moves smoothly between what they do (Wang et
    al. 2018, ESRGAN, section 3.4).

    Args:
        psnr: The network trained for small errors, taken whole at fidelity 1.
        gan: The same after adversarial training, taken whole at fidelity 0.
        fidelity: From 0 to 1.

    Raises:
        SrlibError: `fidelity` outside of 0 … 1, or two networks that are not of one architecture.
    """
    if not 0 <= fidelity <= 1:
        raise SrlibError(f"fidelity: expected a number from 0 (GAN weights) to 1 (PSNR weights), got {fidelity}")
    if fidelity in (0, 1):
        return psnr if fidelity else gan
    if not (psnr.weights and gan.weights):
        raise SrlibError("fidelity: expected two models in OpenVINO's format; ONNX files cannot be blended")
    differs = SrlibError(
        f"fidelity: expected two models of one architecture, got {psnr.config.title} ×{psnr.config.scale} "
        f"and {gan.config.title} ×{gan.config.scale} with other layers"
    )
    graph, other = ElementTree.fromstring(psnr.graph), ElementTree.fromstring(gan.graph)  # noqa: S314 hashed files
    layers, others = graph.findall("layers/layer"), other.findall("layers/layer")
    if [edge.attrib for edge in graph.findall("edges/edge")] != [edge.attrib for edge in other.findall("edges/edge")]:
        raise differs
    # Equal constants are stored once, so that each file has its own offsets: the blend is written anew.
    blended = bytearray()
    for layer, twin in zip(layers, others, strict=True):
        data, twin_data = layer.find("data"), twin.find("data")
        if layer.get("type") != "Const" or data is None or twin_data is None:
            if _without_names(layer) != _without_names(twin):
                raise differs
            continue
        kind = data.get("element_type", "")
        if any(data.get(key) != twin_data.get(key) for key in ("element_type", "shape", "size")):
            raise differs
        first, second = _constant(psnr, data), _constant(gan, twin_data)
        if kind in _FLOATS:
            start, end = (np.frombuffer(raw, _FLOATS[kind]) for raw in (second, first))
            first = (start + _FLOATS[kind].type(fidelity) * (end - start)).tobytes()
        elif first != second:
            raise differs
        blended += bytes(-len(blended) % 8)
        data.set("offset", str(len(blended)))
        blended += first
    losses = [model.config.bfloat16 for model in (psnr, gan)]
    worst = None if None in losses else max(losses, key=lambda loss: abs(loss or 0.0))
    return Model(replace(psnr.config, bfloat16=worst), ElementTree.tostring(graph), bytes(blended))


def _constant(model: Model, data: ElementTree.Element) -> bytes:
    offset, size = int(data.get("offset", 0)), int(data.get("size", 0))
    return model.weights[offset : offset + size]


def _without_names(layer: ElementTree.Element) -> list[tuple[str, list[tuple[str, str]], str]]:
    return [
        (
            part.tag,
            sorted((key, value) for key, value in part.attrib.items() if key not in ("name", "names")),
            part.text or "",
        )
        for part in layer.iter()
    ]


@functools.cache
def _core() -> Any:
    try:
        import openvino
    except ModuleNotFoundError:
        raise SrlibError("enlarging pictures needs OpenVINO: pip install openvino") from None
    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def choose_precision(wanted: str, config: Exported) -> Precision:
    """`auto` is bfloat16 where the processor has it and it was measured to cost this model less than 0.01 dB.

    Raises:
        SrlibError: Another word, or bfloat16 on a processor without it.
    """
    if wanted == "auto":
        harmless = config.bfloat16 is not None and abs(config.bfloat16) < LARGEST_LOSS
        return "bfloat16" if harmless and has_bfloat16() else "float32"
    if wanted == "float32":
        return "float32"
    if wanted != "bfloat16":
        raise SrlibError(f"precision: expected auto, float32 or bfloat16, got {wanted}")
    if not has_bfloat16():
        raise SrlibError("precision: this processor does not compute in bfloat16; use auto or float32")
    return "bfloat16"


class Network:
    """A model made ready for any size of picture. Calls from several threads are not meant.

    Args:
        model: What is to run.
        precision: Of the convolutions.
        threads: Of the processor; None takes all that this process may use.
        levels: End in whole levels, uint8, instead of float32. That is done inside the graph, before the sub-pixels are
            moved to their places: a quarter of the bytes to move, and none to copy.
    """

    def __init__(self, model: Model, *, precision: Precision, threads: int | None = None, levels: bool = False) -> None:
        options = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32", "NUM_STREAMS": 1}
        if threads is not None:
            if threads < 1:
                raise SrlibError(f"threads: expected a number from 1, got {threads}")
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            graph = _core().read_model(model.graph, model.weights)
            if levels:
                _end_in_levels(graph)
            self._request = _core().compile_model(graph, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise SrlibError(f"OpenVINO cannot load the model ({one_line(error)})") from None

    def __call__(self, lr: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """float32 [h, w, C] → [scale·h, scale·w, C]: float32, or uint8 that the next call overwrites.

        Raises:
            SrlibError: The network gave a value that is infinite or not a number.
        """
        import openvino

        self._request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(lr[np.newaxis], np.float32)))
        self._request.infer()
        sr, *total = (output.data for output in self._request.output_tensors)
        if not np.isfinite(np.sum(total or sr)):
            raise SrlibError("the network gave values that are infinite or not numbers: it has diverged in training")
        return sr[0].copy() if sr.dtype == np.float32 else np.asarray(sr[0])


def _end_in_levels(graph: Any) -> None:
    """[0, 1] → whole levels, clamped and rounded half up as the protocol does; and the sum of what was rounded.

    OpenVINO computes what stands behind the last convolution in float32, also where that is in bfloat16.
    """
    from openvino import opset13

    result = graph.get_results()[0]
    user, values = result, result.input_value(0)
    while values.get_node().get_type_name() in _MOVING:
        user = values.get_node()
        values = user.input_value(0)
    levels = opset13.multiply(opset13.clamp(values, 0.0, 1.0), np.float32(255))
    levels = opset13.convert(opset13.floor(opset13.add(levels, np.float32(0.5))), "u8")
    user.input(0).replace_source_output(levels.output(0))
    axes = np.arange(len(values.partial_shape), dtype=np.int64)
    graph.add_results([opset13.result(opset13.reduce_sum(values, axes))])
    graph.validate_nodes_and_infer_types()
