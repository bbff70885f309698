"""Trained networks as ONNX or OpenVINO files of any picture size, each checked against Keras before it is kept.

Keras gives ONNX (through tf2onnx), OpenVINO's files are made from that: its own reader of TensorFlow graphs leaves
transpositions around some activations, which cost half of the speed. Names, versions and metadata are taken out, so
that the same weights give the same bytes.
"""

import hashlib
import logging
import math
import os
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError
from srlib.files import atomic_path, tree_hash, write_json
from srlib.imaging.color import Channels
from srlib.inference import runtime
from srlib.inference.runtime import BIN, CONFIG, ONNX, XML, Exported

Format = Literal["onnx", "openvino"]
Picture = npt.NDArray[np.uint8]

TOLERANCE = 1e-4
"""Most by which an exported network's output, in [0, 1], may differ from Keras'."""

_SIZES = ((1, 1), (3, 50), (48, 37), (64, 96))
"""Of random pictures that are always compared, beside any given."""

# Layers that mix no pixels; those that move or repeat some do it before or after a convolution that is counted.
_POINTWISE = """
    Abs Add Broadcast Ceiling Clamp Concat Constant Convert DepthToSpace Divide Elu Exp Floor Gather Gelu HSigmoid
    HSwish Log Maximum Minimum Multiply Negative Pad Parameter Power PRelu Relu Reshape Result ShapeOf Sigmoid Slice
    Split Sqrt Squeeze StridedSlice Subtract Swish Tanh Tile Transpose Unsqueeze VariadicSplit
"""


@dataclass(frozen=True)
class Check:
    """What was found when the exported network was compared with Keras.

    Attributes:
        config: Of the exported model.
        difference: The largest of any value of the pictures, in levels of 255, before rounding.
        pictures: How many were given.
        psnr_y: Mean over the pictures by precision, where they were given; dB.
    """

    config: Exported
    difference: float
    pictures: int
    psnr_y: dict[str, float]


def export(folder: Path, out: Path, form: str, *, pictures: Path | None = None, force: bool = False) -> Check:
    """Writes the model in `folder` to the folder `out`: the network's files and `config.json`.

    Args:
        folder: A model as `srlib.models.save_model` writes it.
        out: Written whole or not at all.
        form: `onnx` or `openvino`.
        pictures: HR pictures to compare on, made smaller as the benchmarks' are; for OpenVINO they also tell whether
            bfloat16 is harmless.
        force: Whether to replace `out`.

    Raises:
        SrlibError: A missing package, no model, `out` is there, or the exported network does not do what Keras does.
    """
    if form not in ("onnx", "openvino"):
        raise SrlibError(f"format: expected onnx or openvino, got {form}")
    if out.exists() and not force:
        raise SrlibError(f"{out}: exists; give --force to overwrite")
    _needs("tensorflow", "keras", "tf2onnx", "onnx", "openvino", *(["onnxruntime"] if form == "onnx" else []))
    from srlib.engine import pin_threads

    pin_threads()
    from srlib.imaging.folders import list_images
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import crop_to_multiple
    from srlib.models import load_model

    model, config = load_model(folder)
    given = list_images(pictures) if pictures else []
    if pictures and not given:
        raise SrlibError(f"{pictures}: no pictures in it")
    hr = [crop_to_multiple(read_image(path), config.scale) for path in given]
    with atomic_path(out) as temporary:
        temporary.mkdir(parents=True)
        _to_onnx(folder, temporary / ONNX)
        graph = _to_openvino(temporary)
        reach, alive = _receptive_field(graph, config.name), _bytes_per_pixel(graph)
        for name in (XML, BIN) if form == "onnx" else (ONNX,):
            (temporary / name).unlink()
        files = {name.name: hashlib.sha256(name.read_bytes()).hexdigest() for name in temporary.iterdir()}
        exported = Exported(
            config.name, config.title, config.scale, cast(Channels, config.channels), config.value_range,
            config.training, receptive_field=reach, bytes_per_pixel=alive, files=dict(sorted(files.items())),
        )  # fmt: skip
        check = _check(temporary, model, exported, hr)
        write_json(temporary / CONFIG, check.config.as_dict())
        runtime.read(temporary)
    return check


def summary(out: Path, check: Check) -> str:
    """What `srlib export` says of its work."""
    config = check.config
    size = sum((out / name).stat().st_size for name in config.files) / 1e6
    lines = [
        f"{out}: {config.title} ×{config.scale}, {size:.1f} MB, receptive field {config.receptive_field} pixels",
        f"largest difference to Keras: {check.difference:.1g} of 255 levels before rounding, over {len(_SIZES)} random "
        f"and {check.pictures} given pictures",
    ]
    if check.psnr_y:
        lines.append("PSNR-Y of these: " + ", ".join(f"{kind} {value:.3f} dB" for kind, value in check.psnr_y.items()))
    return "\n".join(lines)


def exported(folder: Path) -> Path:
    """The OpenVINO form of a model of the pipeline: made at first, kept in the user's cache under the model's hash."""
    cache = os.environ.get("XDG_CACHE_HOME") or ("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    out = Path(cache).expanduser() / "srlib" / "models" / tree_hash(folder)[:32]
    if not runtime.is_exported(out):
        export(folder, out, "openvino")
    return out


def _needs(*modules: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise SrlibError(f"a Keras model needs {', '.join(missing)} to be exported: pip install 'srlib[pipeline]'")


def _to_onnx(folder: Path, path: Path) -> None:
    """Converts in a process of its own: what tf2onnx gives depends on what was converted before."""
    command = [sys.executable, "-m", "srlib.inference.export", str(folder), str(path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True)
    if done.returncode or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SrlibError(f"{folder}: cannot be converted to ONNX: {last}")


def _convert(folder: Path, path: Path) -> None:
    from srlib.engine import pin_threads

    pin_threads()
    import onnx

    from srlib.models import load_model

    model, _ = load_model(folder)
    model(np.zeros((1, 8, 8, model.input.shape[-1]), np.float32), training=False)  # Keras exports what has run once
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it gives up one of its optimizations, aloud
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(path, format="onnx", verbose=False)
    content = onnx.load(path)
    _tidy_onnx(content)
    onnx.checker.check_model(content, full_check=True)
    path.write_bytes(content.SerializeToString(deterministic=True))


def _tidy_onnx(content: Any) -> None:
    """Names what goes in and out, numbers everything else, and forgets who wrote it."""
    graph = content.graph
    _four_axes(graph)
    names = {graph.input[0].name: "lr", graph.output[0].name: "sr", "": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        node.doc_string = ""
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
        value.doc_string = ""
    order = sorted(graph.initializer, key=lambda value: int(value.name[1:]))
    del graph.initializer[:], graph.value_info[:], content.metadata_props[:]
    graph.initializer.extend(order)
    graph.name = graph.doc_string = content.doc_string = content.producer_version = content.domain = ""
    graph.name, content.producer_name = "network", "srlib"
    for side, batch in ((graph.input[0], "batch"), (graph.output[0], "batch")):
        side.type.tensor_type.shape.dim[0].dim_param = batch


def _four_axes(graph: Any) -> None:
    """Takes off the leading axis of length 1 that tf2onnx now and then forgets to take off from one channel."""
    from onnx import helper, numpy_helper

    axes = graph.output[0].type.tensor_type.shape.dim
    if len(axes) == 5:
        del axes[0]
        squeezed = graph.output[0].name
        for node in graph.node:
            node.output[:] = [f"{name}_5d" if name == squeezed else name for name in node.output]
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
        graph.node.append(helper.make_node("Squeeze", [f"{squeezed}_5d", "first_axis"], [squeezed]))


def _to_openvino(folder: Path) -> Any:
    import openvino

    graph = openvino.convert_model(folder / ONNX)
    openvino.save_model(graph, folder / XML, compress_to_fp16=False)
    tree = ElementTree.parse(folder / XML)  # noqa: S314 written a line before
    net = tree.getroot()
    net.set("name", "network")
    for parent in list(net.iter()):
        for child in list(parent):
            if child.tag in ("rt_info", "meta_data"):
                parent.remove(child)
    for layer in net.iter("layer"):
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
    for port in net.iter("port"):
        if port.get("names") is not None:
            del port.attrib["names"]
    tree.write(folder / XML, encoding="utf-8")
    return openvino.Core().read_model(folder / XML)


def _receptive_field(graph: Any, name: str) -> int:
    """How far an output pixel sees to each side, in pixels of the small picture: the longest path of kernels.

    Raises:
        SrlibError: A layer that sees the whole picture, or one whose reach is not known here.
    """
    side = 96
    still = graph.clone()
    channels = still.input(0).partial_shape[3].get_length()
    still.reshape([1, side, side, channels])
    reach: dict[str, float] = {}
    for op in still.get_ordered_ops():
        kind, sources = op.get_type_name(), [value.get_node() for value in op.input_values()]
        own = 0.0
        if kind in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
            taps = list(op.input(1).get_shape())[-2:]
            attributes = op.get_attributes()
            strides, dilations = attributes["strides"], attributes["dilations"]
            if kind == "ConvolutionBackpropData":
                own = max(math.ceil(tap / stride) / 2 for tap, stride in zip(taps, strides, strict=True))
                own = max(own, 1) if max(taps) > 1 else 0
                own *= side / op.input(0).get_shape()[-1]
            else:
                wide = max((tap - 1) * dilation / 2 for tap, dilation in zip(taps, dilations, strict=True))
                own = wide * side / op.input(0).get_shape()[-1]
        elif kind not in _POINTWISE.split():
            raise SrlibError(f"{name}: the layer {kind} may see the whole picture; such a network cannot be exported")
        reach[op.get_friendly_name()] = own + max((reach[node.get_friendly_name()] for node in sources), default=0.0)
    return math.ceil(max(reach.values()) - 1e-6)


def _bytes_per_pixel(graph: Any) -> int:
    """Bytes of float32 activations that are alive at once, at most, per pixel of the small picture."""
    side = 96
    still = graph.clone()
    still.reshape([1, side, side, still.input(0).partial_shape[3].get_length()])
    ops = [op for op in still.get_ordered_ops() if op.get_type_name() != "Constant"]
    last = {value.get_node().get_friendly_name(): at for at, op in enumerate(ops) for value in op.input_values()}
    alive: dict[str, int] = {}
    most = 0
    for at, op in enumerate(ops):
        alive[op.get_friendly_name()] = 4 * sum(math.prod(out.get_shape()) for out in op.outputs())
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, at) > at}
    return math.ceil(most / side**2)


def _check(folder: Path, model: Any, config: Exported, hr: list[Picture]) -> Check:
    """Runs the written network in its own runtime and Keras' side by side."""
    from keras import ops

    from srlib.imaging.metrics import psnr_y, to_uint8
    from srlib.imaging.resize import downscale

    run = _runner(folder, config, "float32")
    low = _runner(folder, config, "bfloat16") if XML in config.files and runtime.has_bfloat16() else None
    random = np.random.default_rng(0)
    channels = model.input.shape[-1]
    worst = 0.0
    scores: dict[str, list[float]] = {"float32": [], "bfloat16": []}

    def compare(lr: npt.NDArray[np.float32]) -> Any:
        nonlocal worst
        wanted = ops.convert_to_numpy(model(lr[np.newaxis], training=False))[0]
        got = run(lr)
        if got.shape != wanted.shape:
            raise SrlibError(f"{folder}: the exported network gave {got.shape}, expected {wanted.shape}")
        difference = float(np.abs(got - wanted).max())
        if not difference <= TOLERANCE:
            raise SrlibError(f"the exported network differs from Keras by {difference:.2g} of 1, more than {TOLERANCE}")
        worst = max(worst, difference)
        return got

    for size in _SIZES:
        compare(random.random((*size, channels), np.float32))
    _check_reach(run, random.random((2 * config.receptive_field + 30,) * 2 + (channels,), np.float32), config)
    for picture in hr:
        lr = downscale(picture, config.scale)
        values = lr.astype(np.float32) / np.float32(255)
        scores["float32"].append(psnr_y(picture, to_uint8(compare(values)), scale=config.scale))
        if low:
            scores["bfloat16"].append(psnr_y(picture, to_uint8(low(values)), scale=config.scale))
    means = {kind: mean(values) for kind, values in scores.items() if values}
    if "bfloat16" in means:
        config = replace(config, bfloat16=round(means["bfloat16"] - means["float32"], 4))
    return Check(config, worst * 255, len(hr), means)


def _check_reach(run: Callable[[Any], Any], lr: npt.NDArray[np.float32], config: Exported) -> None:
    """Cuts something off each side: what lies further from the cuts than the receptive field must stay as it was."""
    cut, reach, scale = 7, config.receptive_field * config.scale, config.scale
    whole = run(lr)
    first, last = run(lr[cut:, cut:]), run(lr[:-cut, :-cut])
    end = whole.shape[0] - cut * scale - reach
    apart = [
        np.abs(first[reach:, reach:] - whole[cut * scale + reach :, cut * scale + reach :]).max(),
        np.abs(last[:end, :end] - whole[:end, :end]).max(),
    ]
    if not max(apart) <= TOLERANCE:
        raise SrlibError(f"{config.name}: sees more than the {config.receptive_field} pixels that its layers say")


def _runner(folder: Path, config: Exported, precision: runtime.Precision) -> Callable[[Any], Any]:
    if ONNX in config.files:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda lr: session.run(None, {name: lr[np.newaxis]})[0][0]
    model = runtime.Model(config, (folder / XML).read_bytes(), (folder / BIN).read_bytes())
    return runtime.Network(model, precision=precision)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
