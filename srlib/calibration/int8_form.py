"""Add the same network in 8-bit integers to an exported model."""

import hashlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import cast

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.files import check_output, write_bytes, write_json
from srlib.imaging.folders import list_images
from srlib.inference import convert
from srlib.inference.export import lr_values, psnr_of, read_original
from srlib.inference.exported import (
    CONFIG,
    INT8_BIN,
    INT8_XML,
    LARGEST_WEIGHT,
    XML,
    ExportConfig,
    ExportedModel,
    Int8Form,
    read_exported,
)
from srlib.inference.quantization import MOST_IMAGES, SIDE, quantize
from srlib.inference.runtime import CompiledNetwork, Precision, Values, import_openvino
from srlib.progress import Advance, progress

_MEASURED = 1024
"""Most HR pixels per side of what the loss is measured on: the middle of an image."""

_COMPARED: tuple[Precision, ...] = ("float32", "int8")


@dataclass(frozen=True)
class Int8Report:
    """What an int8 form costs.

    Attributes:
        calibrated: Number of images that the ranges were measured on.
        measured: Number of images that the loss was measured on.
        psnr_y: Mean PSNR-Y in dB over these images, by precision.
        loss: PSNR-Y in dB that int8 loses.
        largest_loss: The same for the image that loses most.
        size: Bytes of the files.
    """

    calibrated: int
    measured: int
    psnr_y: dict[str, float]
    loss: float
    largest_loss: float
    size: int


def add_int8(model: Path | str, images: Path | str, test: Path | str) -> Int8Report:
    """Add `int8.xml` and `int8.bin` to an exported model, and their loss to its `config.json`.

    Args:
        model: A folder that `srlib export` wrote in OpenVINO's format. An int8 form that it has already is replaced.
        images: Folder of HR images to calibrate on, like those that the network was trained on.
        test: Folder of other HR images to measure the loss on. Images of the same name are not calibrated on.

    Returns:
        What it loses.

    Raises:
        SrlibError: No such model, no images that can be used, or the folder cannot be written.

    Example:
        >>> add_int8("exported", "photos", "held-out")
        Traceback (most recent call last):
        srlib.errors.SrlibError: exported: expected an exported model (a folder with config.json and model.xml or ...)
    """
    folder = Path(model)
    exported = read_exported(folder)
    exported = replace(exported, config=replace(exported.config, int8=None))
    config = exported.config
    if config.arithmetic != "float32" or XML not in config.files:
        raise SrlibError(f"{folder}: expected a model in OpenVINO's format and float32; write one by `srlib export`")
    calibrated, measured = _divide(Path(images), Path(test))
    check_output(folder / INT8_XML)
    mistakes: list[str] = []
    with progress(len(calibrated) + len(measured), "quantizing", "images") as advance:
        originals = _read(calibrated, config.scale, SIDE * config.scale, mistakes, advance)
        samples = [lr_values(hr, config) for hr in originals]
        if not samples:
            raise SrlibError("\n".join([*mistakes, f"{images}: no image to calibrate on can be used"]))
        files = _quantized_files(exported, samples)
        complete = replace(exported, int8=(files[INT8_XML], files[INT8_BIN]))
        scores = _psnr(complete, _read(measured, config.scale, _MEASURED, mistakes, advance))
    if not scores["int8"]:
        raise SrlibError("\n".join([*mistakes, f"{test}: no image to measure the loss on can be used"]))
    for line in mistakes:
        print(f"left out: {line}", file=sys.stderr)
    losses = [before - after for before, after in zip(scores["float32"], scores["int8"], strict=True)]
    _add_files(folder, config, files, round(mean(losses), 4))
    means = {kind: mean(values) for kind, values in scores.items()}
    size = sum(map(len, files.values()))
    return Int8Report(len(samples), len(losses), means, mean(losses), max(losses), size)


def _divide(images: Path, test: Path) -> tuple[list[Path], list[Path]]:
    """Return the images to calibrate on, spread evenly over the folder, and those to measure the loss on."""
    measured = _images(test)
    names = {path.name for path in measured}
    calibrated = [path for path in _images(images) if path.name not in names]
    if not calibrated:
        raise SrlibError(f"{images}: holds only images that are in {test} too; expected others to calibrate on")
    return calibrated[:: -(-len(calibrated) // MOST_IMAGES)], measured


def _quantized_files(exported: ExportedModel, samples: Sequence[Values]) -> dict[str, bytes]:
    """Return the content of `int8.xml` and `int8.bin`, calibrated on LR images."""
    graph = import_openvino().Core().read_model(exported.graph, exported.weights)
    quantize(graph, samples)
    with tempfile.TemporaryDirectory() as folder:
        convert.save_openvino(graph, Path(folder, INT8_XML))
        return {name: Path(folder, name).read_bytes() for name in (INT8_BIN, INT8_XML)}


def _psnr(exported: ExportedModel, originals: Iterable[Image]) -> dict[str, list[float]]:
    """Return PSNR-Y in dB of each HR image, by precision."""
    networks = {kind: CompiledNetwork(exported, precision=kind) for kind in _COMPARED}
    scores: dict[str, list[float]] = {kind: [] for kind in networks}
    for hr in originals:
        for kind, network in networks.items():
            sr = cast(Values, network(lr_values(hr, exported.config)))
            scores[kind].append(psnr_of(hr, sr, exported.config))
    return scores


def _add_files(folder: Path, config: ExportConfig, files: Mapping[str, bytes], loss: float) -> None:
    """Write the files and then the config that names them: a kill in between leaves a model without an int8 form."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_json(folder / CONFIG, config.as_dict())
    for name, content in files.items():
        write_bytes(folder / name, content)
    write_json(folder / CONFIG, replace(config, int8=Int8Form(digests, loss, LARGEST_WEIGHT)).as_dict())
    read_exported(folder)


def _read(paths: list[Path], scale: int, side: int, mistakes: list[str], advance: Advance) -> Iterator[Image]:
    """Yield the middle of each HR image; append a line for each that cannot be used to `mistakes`."""
    for path in paths:
        try:
            yield read_original(path, scale, side)
        except SrlibError as error:
            mistakes.append(str(error))
        advance()


def _images(folder: Path) -> list[Path]:
    paths = list_images(folder)
    if not paths:
        raise SrlibError(f"{folder}: no images in it")
    return paths


def summary(model: Path | str, report: Int8Report) -> str:
    """Return the lines that `srlib quantize` prints."""
    scores = ", ".join(f"{kind} {value:.3f} dB" for kind, value in report.psnr_y.items())
    return (
        f"{model}: {INT8_XML} and {INT8_BIN}, {report.size / 1e6:.1f} MB, calibrated on {report.calibrated} images\n"
        f"mean PSNR-Y on {report.measured} other images: {scores}; int8 loses {report.loss:.4f} dB, "
        f"at most {report.largest_loss:.4f} dB on one image"
    )
