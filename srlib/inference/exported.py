"""Exported networks as files: read and check them.

An exported model is a folder with `config.json` and `model.xml` with `model.bin` (OpenVINO), `model.onnx` or
`model.tflite` (LiteRT). `int8.xml` and `int8.bin` may hold the same network in 8-bit integers.
Nothing here needs OpenVINO, Keras or TensorFlow.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular
from srlib.imaging.color import Channels
from srlib.imaging.input_range import CLEAN, InputRange

CONFIG = "config.json"
XML, BIN, ONNX, LITERT = "model.xml", "model.bin", "model.onnx", "model.tflite"
INT8_XML, INT8_BIN = "int8.xml", "int8.bin"

MAX_SCALE = 16
_LARGEST_CONFIG = 2**20
LARGEST_FILE = {XML: 2**26, BIN: 2**31, ONNX: 2**31, LITERT: 2**31, INT8_XML: 2**26, INT8_BIN: 2**31}
"""Most bytes that are read of each file."""

Arithmetic = Literal["float32", "float16", "int8"]
"""Number format of a network's convolutions."""

EXTERNAL_DATA = b"\x0a\x08location"
"""The key of an ONNX tensor whose values lie in another file, as protobuf encodes it."""


LARGEST_WEIGHT = 64
"""Largest int8 weight that any processor with AVX2 computes with exactly: two products with values of 8 bits add up to
2 · 255 · 64 = 32,640, which fits 16 bits.
"""


@dataclass(frozen=True)
class Int8Form:
    """The same network in 8-bit integers, beside it in its folder.

    Attributes:
        files: SHA-256 of `int8.xml` and `int8.bin`.
        loss: PSNR-Y in dB that it loses against float32, measured on images.
        largest_weight: Largest absolute weight; above `LARGEST_WEIGHT` only VNNI and AMX compute it exactly.

    Raises:
        SrlibError: A value has the wrong type.
    """

    files: dict[str, str]
    loss: float
    largest_weight: int = 127

    def __post_init__(self) -> None:
        if not (_are_digests(self.files, [INT8_BIN, INT8_XML]) and self.loss is not None and _is_loss(self.loss)):
            raise SrlibError(f"int8: expected the SHA-256 of {INT8_XML} and {INT8_BIN}, and a loss in dB")
        if not _is_integer(1, 127)(self.largest_weight):
            raise SrlibError(f"int8: largest_weight: expected 1 to 127, got {one_line(repr(self.largest_weight), 60)}")

    @classmethod
    def from_json(cls, content: object) -> "Int8Form":
        """Return the entry `int8` of `config.json`, checked."""
        if not (isinstance(content, dict) and set(content) - {"largest_weight"} == {"files", "loss"}):
            raise SrlibError(f"int8: expected an object with files and loss, got {one_line(repr(content), 60)}")
        return cls(**content)


@dataclass(frozen=True)
class ExportConfig:
    """The content of an exported model's `config.json`, checked.

    Attributes:
        name: Name of the network, a key of `srlib.models.MODELS`.
        title: Name of the network in tables.
        scale: Upscaling factor, 1 to 16.
        channels: Channels of input and output: `rgb`, or a kind of luma.
        value_range: Range of input and output values, always (0, 1).
        training: `pixel` or `gan`.
        receptive_field: LR pixels to each side that an output pixel depends on.
        bytes_per_pixel: Peak size of the float32 activations in bytes per LR pixel.
        files: SHA-256 of each file of the model.
        bfloat16: Change of PSNR-Y in dB by computing in bfloat16, or None where it was not measured.
        inputs: Degradation of the images that the network was trained for; None where it is not known. The file
            leaves it out for clean images.
        arithmetic: Number format of weights and convolutions: `float32`, which the file leaves out,
            `float16` or `int8`.
        int8: The same network in 8-bit integers; None, which the file leaves out, where there is none.

    Raises:
        SrlibError: A value has the wrong type or is out of its range.
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
    inputs: InputRange | None = CLEAN
    arithmetic: Arithmetic = "float32"
    int8: Int8Form | None = None

    def __post_init__(self) -> None:
        for key, (is_valid, expected) in _CHECKS.items():
            value: object = getattr(self, key)
            if not is_valid(value):
                raise SrlibError(f"{key}: expected {expected}, got {one_line(repr(value), 60)}")

    def as_dict(self) -> dict[str, object]:
        """Return the content of `config.json`."""
        content = asdict(self)
        for name, usual in (("inputs", CLEAN), ("arithmetic", "float32"), ("int8", None)):
            if getattr(self, name) == usual:
                del content[name]
        return content


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()


def _is_integer(lowest: int, highest: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_loss(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _are_files(value: object) -> bool:
    return _are_digests(value, [BIN, XML], [ONNX], [LITERT])


def _are_digests(value: object, *names: list[str]) -> bool:
    return (
        isinstance(value, dict)
        and sorted(value) in names
        and all(isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) for digest in value.values())
    )


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_text, "a network's name"),
    "title": (_is_text, "a network's title"),
    "scale": (_is_integer(1, MAX_SCALE), f"an integer from 1 to {MAX_SCALE}"),
    "channels": (lambda value: value in get_args(Channels), f"one of {', '.join(get_args(Channels))}"),
    "value_range": (lambda value: value == (0.0, 1.0), "[0.0, 1.0]"),
    "training": (lambda value: value in ("pixel", "gan"), "pixel or gan"),
    "receptive_field": (_is_integer(0, 2**16), "a number of pixels"),
    "bytes_per_pixel": (_is_integer(1, 2**30), "a number of bytes"),
    "files": (_are_files, f"the SHA-256 of {XML} and {BIN}, of {ONNX} or of {LITERT}"),
    "bfloat16": (_is_loss, "a number of dB or null"),
    "arithmetic": (lambda value: value in get_args(Arithmetic), f"one of {', '.join(get_args(Arithmetic))}"),
}


@dataclass(frozen=True)
class ExportedModel:
    """An exported network in memory.

    Attributes:
        config: Configuration of the network.
        graph: Content of `model.xml`, `model.onnx` or `model.tflite`.
        weights: Content of `model.bin`; empty for the others.
        int8: Content of `int8.xml` and `int8.bin`; None where there are none.
    """

    config: ExportConfig
    graph: bytes
    weights: bytes
    int8: tuple[bytes, bytes] | None = None


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds an exported network (and not a Keras model of the pipeline)."""
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in (XML, ONNX, LITERT))


def read_exported(folder: Path) -> ExportedModel:
    """Read an exported network and compare its files with their SHA-256.

    Args:
        folder: A folder that `srlib export` wrote.

    Returns:
        The network in memory.

    Raises:
        SrlibError: Not an exported model, or its files are not those that were exported.
    """
    config = read_export_config(folder)
    content = _read_files(folder, config.files)
    if ONNX in content and EXTERNAL_DATA in content[ONNX]:
        raise SrlibError(f"{folder / ONNX}: expected weights inside the file, got a reference to another file")
    (graph,) = (content[name] for name in content if name != BIN)
    int8 = None
    if config.int8 is not None:
        form = _read_files(folder, config.int8.files)
        int8 = form[INT8_XML], form[INT8_BIN]
    return ExportedModel(config, graph, content.get(BIN, b""), int8)


def _read_files(folder: Path, digests: dict[str, str]) -> dict[str, bytes]:
    """Read files and compare them with their SHA-256."""
    content = {}
    for name in sorted(digests):
        try:
            content[name] = read_regular(folder / name, limit=LARGEST_FILE[name])
        except FileNotFoundError:
            raise SrlibError(f"{folder}: {name} is missing") from None
        if hashlib.sha256(content[name]).hexdigest() != digests[name]:
            raise SrlibError(f"{folder / name}: not the file that was exported (its SHA-256 differs); export it again")
    return content


def read_export_config(folder: Path) -> ExportConfig:
    """Read the `config.json` of an exported network.

    Raises:
        SrlibError: Missing, or not such a file.
    """
    path = folder / CONFIG
    try:
        content = json.loads(read_regular(path, limit=_LARGEST_CONFIG).decode())
    except (FileNotFoundError, NotADirectoryError):
        raise SrlibError(f"{folder}: expected an exported model (a folder with {CONFIG} and {XML} or {ONNX})") from None
    except (ValueError, RecursionError) as error:
        raise SrlibError(f"{path}: not an exported model's config: not valid JSON ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise SrlibError(f"{path}: not an exported model's config: expected a JSON object")
    known = {field.name for field in fields(ExportConfig)}
    missing = sorted(known - {"bfloat16", "inputs", "arithmetic", "int8"} - set(content))
    unknown = sorted(set(content) - known)
    if missing or unknown:
        reason = f"{missing[0]} is missing" if missing else f"{one_line(repr(unknown[0]), 60)} is unknown"
        raise SrlibError(f"{path}: not an exported model's config: {reason}")
    if isinstance(content["value_range"], list):
        content["value_range"] = tuple(content["value_range"])
    try:
        if content.get("inputs") is not None:
            content["inputs"] = InputRange.from_json(content["inputs"])
        if content.get("int8") is not None:
            content["int8"] = Int8Form.from_json(content["int8"])
        return ExportConfig(**content)
    except SrlibError as error:
        raise SrlibError(f"{path}: {error}") from None
