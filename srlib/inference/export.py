"""Export trained networks as ONNX or OpenVINO files for any image size, each verified against Keras."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.files import atomic_path, check_output_folder, write_json
from srlib.imaging.color import Channels
from srlib.inference import convert, runtime
from srlib.inference.exported import BIN, CONFIG, ONNX, XML, ExportConfig, ExportedModel, is_exported, read_exported
from srlib.inference.graph_properties import bytes_per_pixel, receptive_field
from srlib.inference.runtime import Values

if TYPE_CHECKING:
    import keras

Format = Literal["openvino", "onnx"]
Runner = Callable[[Values], Values]
"""Runs a network on values [h, w, C] in [0, 1]."""

TOLERANCE = 1e-4
"""Largest difference between the outputs of the exported network and of Keras, in [0, 1]."""

_SIZES = ((1, 1), (3, 50), (48, 37), (64, 96))
"""Sizes of the random images that are always compared."""

_CUT = 7
"""LR pixels that are cut off to verify the receptive field."""


@dataclass(frozen=True)
class ExportReport:
    """Result of the comparison between the exported network and Keras.

    Attributes:
        config: Configuration of the exported model.
        difference: Largest difference of any value, in levels of 255 before rounding.
        images: Number of images that were given to compare on.
        psnr_y: Mean PSNR-Y in dB over these images, by precision.
    """

    config: ExportConfig
    difference: float
    images: int
    psnr_y: dict[str, float]


def export(
    folder: Path, out: Path, format: str = "openvino", *, images: Path | None = None, force: bool = False
) -> ExportReport:
    """Write a trained model as an exported network: its files and `config.json`.

    Args:
        folder: A model folder of the pipeline (`config.json` and `model.weights.h5`).
        out: The folder to write, whole or not at all.
        format: `openvino` or `onnx`.
        images: Folder of HR images to compare on, downscaled as for benchmarks. For OpenVINO they also show whether
            bfloat16 is harmless.
        force: Whether to replace an existing `out`.

    Returns:
        How closely the exported network agrees with Keras.

    Raises:
        SrlibError: A package is missing, there is no model, `out` exists, or the networks do not agree.
    """
    if format not in get_args(Format):
        raise SrlibError(f"format: expected {' or '.join(get_args(Format))}, got {format}")
    _check_target(out, force)
    _require("tensorflow", "keras", "tf2onnx", "onnx", "openvino", *(["onnxruntime"] if format == "onnx" else []))
    from srlib.engine import pin_threads
    from srlib.models import load_model, read_config

    scale = read_config(folder).scale
    hr = _read_images(images, scale) if images else []
    pin_threads()
    model, config = load_model(folder)
    with atomic_path(out) as temporary:
        temporary.mkdir(parents=True)
        convert.to_onnx(folder, temporary / ONNX)
        graph = convert.to_openvino(temporary)
        for name in (XML, BIN) if format == "onnx" else (ONNX,):
            (temporary / name).unlink()
        export_config = ExportConfig(
            name=config.name,
            title=config.title,
            scale=config.scale,
            channels=cast(Channels, config.channels),
            value_range=config.value_range,
            training=config.training,
            inputs=config.inputs,
            receptive_field=receptive_field(graph, config.name),
            bytes_per_pixel=bytes_per_pixel(graph),
            files=_digests(temporary),
        )
        report = _compare_with_keras(temporary, model, export_config, hr)
        write_json(temporary / CONFIG, report.config.as_dict())
        read_exported(temporary)
    return report


def _check_target(out: Path, force: bool) -> None:
    """Raise an SrlibError unless `out` can be written; `force` replaces an earlier export, and no other folder."""
    check_output_folder(out)
    if not out.exists():
        return
    if not force:
        raise SrlibError(f"{out}: exists; use --force to overwrite")
    if any(out.iterdir()) and not is_exported(out):
        raise SrlibError(f"{out}: holds something else than an exported model; name another folder")


def summary(out: Path, report: ExportReport) -> str:
    """Return the lines that `srlib export` prints."""
    config = report.config
    size = sum((out / name).stat().st_size for name in config.files) / 1e6
    lines = [
        f"{out}: {config.title} ×{config.scale}, {size:.1f} MB, receptive field {config.receptive_field} pixels",
        f"largest difference from Keras: {report.difference:.1g} of 255 levels before rounding, on {len(_SIZES)} "
        f"random and {report.images} given images",
    ]
    if report.psnr_y:
        scores = ", ".join(f"{precision} {value:.3f} dB" for precision, value in report.psnr_y.items())
        lines.append(f"PSNR-Y on the given images: {scores}")
    return "\n".join(lines)


def _require(*modules: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise SrlibError(f"a Keras model needs {', '.join(missing)} to be exported: pip install 'srlib[pipeline]'")


def _read_images(folder: Path, scale: int) -> list[Image]:
    from srlib.imaging.folders import list_images
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import crop_to_multiple

    paths = list_images(folder)
    if not paths:
        raise SrlibError(f"{folder}: no images in it")
    return [crop_to_multiple(read_image(path), scale) for path in paths]


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _compare_with_keras(folder: Path, model: "keras.Model", config: ExportConfig, hr: list[Image]) -> ExportReport:
    """Run the written network in its own runtime beside Keras, on random and on given images."""
    from srlib.imaging.metrics import psnr_y, to_uint8
    from srlib.imaging.resize import downscale

    float32 = _runner(folder, config, "float32")
    bfloat16 = _runner(folder, config, "bfloat16") if XML in config.files and runtime.has_bfloat16() else None
    random = np.random.default_rng(0)
    channels = model.input.shape[-1]
    differences = [_compare(model, float32, random.random((*size, channels), np.float32))[1] for size in _SIZES]
    side = 2 * config.receptive_field + 30
    _check_receptive_field(float32, random.random((side, side, channels), np.float32), config)
    scores: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for image in hr:
        lr = downscale(image, config.scale).astype(np.float32) / np.float32(255)
        sr, difference = _compare(model, float32, lr)
        differences.append(difference)
        scores["float32"].append(psnr_y(image, to_uint8(sr), scale=config.scale))
        if bfloat16:
            scores["bfloat16"].append(psnr_y(image, to_uint8(bfloat16(lr)), scale=config.scale))
    means = {precision: mean(values) for precision, values in scores.items() if values}
    if "bfloat16" in means:
        config = replace(config, bfloat16=round(means["bfloat16"] - means["float32"], 4))
    return ExportReport(config, max(differences) * 255, len(hr), means)


def _compare(model: "keras.Model", run: Runner, lr: Values) -> tuple[Values, float]:
    """Return the exported network's output for one image and its largest difference from Keras."""
    from keras import ops

    expected = ops.convert_to_numpy(model(lr[np.newaxis], training=False))[0]
    sr = run(lr)
    if sr.shape != expected.shape:
        raise SrlibError(f"the exported network gave the shape {sr.shape}, expected {expected.shape}")
    difference = float(np.abs(sr - expected).max())
    if not difference <= TOLERANCE:
        raise SrlibError(f"the exported network differs from Keras by {difference:.2g} of 1, more than {TOLERANCE}")
    return sr, difference


def _check_receptive_field(run: Runner, lr: Values, config: ExportConfig) -> None:
    """Cut pixels off: outputs further from the cut than the receptive field must not change."""
    scale = config.scale
    reach = config.receptive_field * scale
    whole = run(lr)
    without_start, without_end = run(lr[_CUT:, _CUT:]), run(lr[:-_CUT, :-_CUT])
    end = whole.shape[0] - _CUT * scale - reach
    changes = (
        np.abs(without_start[reach:, reach:] - whole[_CUT * scale + reach :, _CUT * scale + reach :]).max(),
        np.abs(without_end[:end, :end] - whole[:end, :end]).max(),
    )
    if not max(changes) <= TOLERANCE:
        raise SrlibError(
            f"{config.name}: depends on more than the {config.receptive_field} pixels that its layers add up to"
        )


def _runner(folder: Path, config: ExportConfig, precision: runtime.Precision) -> Runner:
    """Load the written files into their own runtime."""
    if ONNX in config.files:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda lr: cast(Values, session.run(None, {name: lr[np.newaxis]})[0][0])
    model = ExportedModel(config, (folder / XML).read_bytes(), (folder / BIN).read_bytes())
    return cast(Runner, runtime.CompiledNetwork(model, precision=precision))
