"""Export trained networks for other runtimes and any image size, each verified against Keras."""

import contextlib
import hashlib
import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, cast

import numpy as np

from srlib.arrays import Image
from srlib.atomic import atomic_path
from srlib.errors import SrlibError, pip_install, printable
from srlib.files import check_output_folder, write_json
from srlib.imaging.color import Channels, network_input, rgb_from_output
from srlib.inference import convert, runtime
from srlib.inference.bands import BANDS
from srlib.inference.export_formats import FORMATS, ExportFormat, Runner, run_openvino
from srlib.inference.exported import CONFIG, LARGEST_FILE, ONNX, ExportConfig, is_exported, read_exported
from srlib.inference.graph_properties import bytes_per_pixel, receptive_field
from srlib.inference.quantization import middle
from srlib.inference.runtime import Values

if TYPE_CHECKING:
    import keras

    from srlib.models import ModelConfig

_SIZES = ((1, 1), (3, 50), (48, 37), (64, 96))
"""Sizes of the random images that are always compared."""

_CUT = 7
"""LR pixels that are cut off to verify the receptive field."""

_REPLACED = {CONFIG, *LARGEST_FILE, BANDS}
"""Names of the files that srlib writes into the folder of an exported model."""

_SAMPLE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
"""Photographs of scikit-image that int8 is calibrated on where none are given."""


@dataclass(frozen=True)
class ExportReport:
    """Result of the comparison between the exported network and Keras.

    Attributes:
        config: Configuration of the exported model.
        difference: Largest difference of any value, in levels of 255 before rounding.
        random: Number of random images that it was measured on.
        images: Number of photographs that it was measured on.
        psnr_y: Mean PSNR-Y in dB over these images, by precision.
    """

    config: ExportConfig
    difference: float
    random: int
    images: int
    psnr_y: dict[str, float]


def export(
    folder: Path | str,
    out: Path | str,
    *,
    format: str = "openvino",
    images: Path | str | None = None,
    force: bool = False,
) -> ExportReport:
    """Write a trained model for another runtime: its files and `config.json`.

    Args:
        folder: A model folder of the pipeline (`config.json` and `model.weights.h5`).
        out: The folder to write, whole or not at all.
        format: `openvino`, `onnx`, `onnx-fp16`, `litert` or `openvino-int8`.
        images: Folder of HR images to compare on, downscaled as for benchmarks. `openvino-int8` is calibrated on them
            (default: five photographs of scikit-image); for `openvino` they show whether bfloat16 is harmless.
        force: Whether to replace an existing `out`.

    Returns:
        How closely the exported network agrees with Keras.

    Raises:
        SrlibError: A package is missing, there is no model, `out` exists, or the networks do not agree.

    Example:
        >>> import srlib
        >>> report = srlib.export("models/pretrained", "exported", format="onnx")  # doctest: +SKIP
        >>> report.difference < 0.03  # levels of 255  # doctest: +SKIP
        True
    """
    if format not in FORMATS:
        raise SrlibError(f"format: expected one of {', '.join(FORMATS)}, got {format}")
    target, folder, out = FORMATS[format], Path(folder), Path(out)
    if is_exported(folder):
        raise SrlibError(f"{folder}: is exported already; expected the folder of the model that it was made from")
    _check_target(out, force)
    _require("tensorflow", "keras", "tf2onnx", "onnx", "openvino", *target.modules)
    from srlib.engine import pin_if_unused
    from srlib.models import load_model, read_config

    scale = read_config(folder).scale
    hr = _read_images(images, scale) if images else _sample(scale) if target.largest_loss else []
    pin_if_unused()  # the files are made in processes of their own
    model, config = load_model(folder)
    with atomic_path(out) as temporary:
        temporary.mkdir(parents=True)
        convert.from_keras(folder, temporary / ONNX)
        graph = convert.to_openvino(temporary)
        if target.write:
            target.write(folder, temporary, [lr_values(image, config) for image in hr])
        for path in temporary.iterdir():
            if path.name not in target.files:
                path.unlink()
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
            arithmetic=target.arithmetic,
        )
        report = _compare_with_keras(temporary, model, export_config, target, hr)
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
    names = {path.name for path in out.iterdir()}
    if other := names - _REPLACED if is_exported(out) else names:
        raise SrlibError(f"{out}: holds something else than an exported model ({min(other)}); name another folder")


def summary(out: Path, report: ExportReport) -> str:
    """Return the lines that `srlib export` prints."""
    config = report.config
    size = sum((out / name).stat().st_size for name in config.files) / 1e6
    images = f"{report.random} random images and " if report.random else ""
    images += f"{report.images} {'photograph' if report.images == 1 else 'photographs'}"
    lines = [
        f"{out}: {config.title} ×{config.scale}, {config.arithmetic}, {size:.1f} MB, receptive field "
        f"{config.receptive_field} pixels",
        f"largest difference from Keras: {report.difference:.2g} of 255 levels before rounding, on {images}",
    ]
    if report.psnr_y:
        scores = ", ".join(f"{precision} {value:.3f} dB" for precision, value in report.psnr_y.items())
        lines.append(f"mean PSNR-Y on the photographs: {scores}")
    return "\n".join(lines)


def _require(*modules: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise SrlibError(f"a Keras model needs {', '.join(missing)} to be exported: {pip_install('srlib[pipeline]')}")


def _read_images(folder: Path | str, scale: int) -> list[Image]:
    from srlib.imaging.folders import list_images

    paths = list_images(Path(folder))
    images, mistakes = [], []
    for path in paths:
        try:
            images.append(read_original(path, scale))
        except SrlibError as error:
            mistakes.append(str(error))
    if not images:
        raise SrlibError("\n".join([*mistakes, f"{folder}: no images in it" + " that can be used" * bool(mistakes)]))
    for line in mistakes:
        print(f"left out: {line}", file=sys.stderr)
    return images


def _sample(scale: int) -> list[Image]:
    """Return the photographs that ship with scikit-image."""
    data = resources.files("skimage") / "data"
    with contextlib.ExitStack() as stack:
        return [read_original(stack.enter_context(resources.as_file(data / name)), scale) for name in _SAMPLE]


def read_original(path: Path, scale: int, side: int | None = None) -> Image:
    """Read an HR image, cropped to a multiple of the scale.

    Args:
        path: The file.
        scale: Upscaling factor.
        side: Most pixels per side: the middle of the image is returned (default: all of it).

    Raises:
        SrlibError: It cannot be read, or is too small for PSNR.
    """
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import crop_to_multiple

    image = read_image(path)
    image = crop_to_multiple(image if side is None else middle(image, side), scale)
    if (least := 3 * scale) > min(image.shape[:2]):  # PSNR leaves out `scale` pixels on each side
        raise SrlibError(f"{printable(path)}: expected at least {least}×{least} pixels")
    return image


def lr_values(hr: Image, config: "ModelConfig | ExportConfig") -> Values:
    """Downscale an image to what the network takes: values [h, w, C] in [0, 1]."""
    from srlib.imaging.resize import downscale

    return network_input(downscale(hr, config.scale), cast(Channels, config.channels))


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _compare_with_keras(
    folder: Path, model: "keras.Model", config: ExportConfig, target: ExportFormat, hr: list[Image]
) -> ExportReport:
    """Run the written network in its own runtime beside Keras, on random and on given images."""
    run = target.run(folder, config)
    random = np.random.default_rng(0)
    channels = model.input.shape[-1]
    noise = [random.random((*size, channels), np.float32) for size in _SIZES]
    differences = [_difference(run(lr), _keras(model, lr), target.tolerance) for lr in noise]
    if target.largest_loss is not None:
        differences = []  # noise is not what the network was calibrated for: only that it runs is checked
    else:
        side = 2 * config.receptive_field + 30
        _check_receptive_field(run, random.random((side, side, channels), np.float32), config, target.tolerance)
    runners: dict[str, Runner] = {config.arithmetic: run}
    if config.arithmetic != "float32":
        runners["float32"] = lambda lr: _keras(model, lr)
    elif target.run is run_openvino and runtime.has_bfloat16():
        runners["bfloat16"] = run_openvino(folder, config, "bfloat16")
    scores: dict[str, list[float]] = {name: [] for name in runners}
    for image in hr:
        lr = lr_values(image, config)
        results = {name: runner(lr) for name, runner in runners.items()}
        expected = results["float32"] if config.arithmetic != "float32" else _keras(model, lr)
        differences.append(_difference(results[config.arithmetic], expected, target.tolerance))
        for name, sr in results.items():
            scores[name].append(psnr_of(image, sr, config))
    means = {name: mean(values) for name, values in scores.items() if values}
    if "bfloat16" in means:
        config = replace(config, bfloat16=round(means["bfloat16"] - means["float32"], 4))
    if target.largest_loss is not None:
        _check_loss(means["float32"] - means[config.arithmetic], config, target.largest_loss, len(hr))
    return ExportReport(config, max(differences) * 255, len(differences) - len(hr), len(hr), means)


def _keras(model: "keras.Model", lr: Values) -> Values:
    from keras import ops

    return cast(Values, ops.convert_to_numpy(model(lr[np.newaxis], training=False))[0])


def _difference(sr: Values, expected: Values, tolerance: float) -> float:
    """Return the largest difference of an output from that of Keras; raise an SrlibError if it is too large."""
    if sr.shape != expected.shape:
        raise SrlibError(f"the exported network gave the shape {sr.shape}, expected {expected.shape}")
    difference = float(np.abs(sr - expected).max())
    if not difference <= tolerance:
        raise SrlibError(f"the exported network differs from Keras by {difference:.2g} of 1, more than {tolerance}")
    return difference


def psnr_of(hr: Image, sr: Values, config: ExportConfig) -> float:
    """Return the PSNR-Y in dB of what a network made of a downscaled image, at most `FLAWLESS`."""
    from srlib.imaging.metrics import FLAWLESS, psnr_y, to_uint8
    from srlib.imaging.resize import downscale

    rgb = to_uint8(rgb_from_output(sr, downscale(hr, config.scale), config.channels))
    return min(psnr_y(hr, rgb, scale=config.scale), FLAWLESS)


def _check_loss(loss: float, config: ExportConfig, bound: float, images: int) -> None:
    if not loss <= bound:
        raise SrlibError(
            f"{config.title} in {config.arithmetic} loses {loss:.2f} dB PSNR-Y on {images} images, more than {bound}; "
            "calibrate it with --images on images like those that it is for, or export it as openvino"
        )


def _check_receptive_field(run: Runner, lr: Values, config: ExportConfig, tolerance: float) -> None:
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
    if not max(changes) <= tolerance:
        raise SrlibError(
            f"{config.name}: depends on more than the {config.receptive_field} pixels that its layers add up to"
        )
