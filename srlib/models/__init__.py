"""Super-resolution networks by name, and their weights on disk.

A model is a folder of two files: `config.json` (which network, scale, channels, value range, options) and
`model.weights.h5`. Both carry no date, so that the same weights have the same hash. Weights are only ever loaded with
the config they were saved with.
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers, ops

from srlib.errors import SrlibError
from srlib.files import atomic_path, write_json
from srlib.imaging import color as color
from srlib.models.compact import compact
from srlib.models.edsr import edsr
from srlib.models.espcn import espcn
from srlib.models.fsrcnn import fsrcnn
from srlib.models.srcnn import srcnn
from srlib.models.srresnet import srresnet
from srlib.params import model_options

WEIGHTS, CONFIG = "model.weights.h5", "config.json"


@dataclass(frozen=True)
class Architecture:
    """How a network is built and shown, and whether it works on `rgb` or on `luma-studio` (srlib.imaging.color)."""

    build: Callable[..., keras.Model]
    title: str
    channels: color.Channels = "rgb"


MODELS = {
    "edsr": Architecture(edsr, "EDSR"),
    "srresnet": Architecture(srresnet, "SRResNet"),
    "compact": Architecture(compact, "Compact"),
    "srcnn": Architecture(srcnn, "SRCNN", "luma-studio"),
    "espcn": Architecture(espcn, "ESPCN", "luma-studio"),
    "fsrcnn": Architecture(fsrcnn, "FSRCNN", "luma-studio"),
}

SCALES = (2, 3, 4)
VALUE_RANGE = (0.0, 1.0)
TRAININGS = ("pixel", "gan")


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to use a set of weights. Nothing that does not fit together can be made.

    Attributes:
        name: A key of `MODELS`.
        scale: The factor of enlargement: 2, 3 or 4.
        options: The builder's keyword arguments, such as `blocks` and `filters`; those left out are filled in.
        channels: `rgb`, or `luma-studio` for networks on Y alone; it belongs to the network.
        value_range: Of the input and the output.
        training: `pixel` (MAE and the like) or `gan`: tells the methods of a table apart.

    Raises:
        SrlibError: One of them is not what it can be; the line names it.
    """

    name: str
    scale: int
    options: dict[str, Any] = field(default_factory=dict)
    channels: str = ""
    value_range: tuple[float, float] = VALUE_RANGE
    training: str = "pixel"

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise SrlibError(f"name: unknown network {self.name!r}; expected one of {', '.join(MODELS)}")
        channels = MODELS[self.name].channels
        if not self.channels:
            object.__setattr__(self, "channels", channels)
        for key, value, expected in (
            ("scale", self.scale, SCALES),
            ("channels", self.channels, (channels,)),
            ("value_range", self.value_range, (VALUE_RANGE,)),
            ("training", self.training, TRAININGS),
        ):
            if value not in expected:
                raise SrlibError(f"{key}: {self.name} works with {' or '.join(map(str, expected))}, got {value!r}")
        object.__setattr__(self, "options", model_options(self.name, self.options))

    @property
    def title(self) -> str:
        """The name in tables: EDSR, or SRGAN after adversarial training."""
        return "SRGAN" if self.training == "gan" else MODELS[self.name].title


def build(config: ModelConfig, *, dtype: str = "float32") -> keras.Model:
    """Builds the network of a config with fresh weights; `dtype` is the policy of its hidden layers."""
    return MODELS[config.name].build(config.scale, dtype=dtype, **config.options)


def save_model(model: keras.Model, config: ModelConfig, folder: Path) -> None:
    """Writes `folder` whole or not at all; the same weights and config give the same bytes."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        model.save_weights(temporary / WEIGHTS)
        write_json(temporary / CONFIG, dataclasses.asdict(config))


def read_config(folder: Path) -> ModelConfig:
    """Reads and checks a model's `config.json`.

    Raises:
        SrlibError: The folder holds no model, or one that this version does not know.
    """
    path = Path(folder) / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ModelConfig(**{**content, "value_range": tuple(content["value_range"])})
    except (FileNotFoundError, NotADirectoryError):
        raise SrlibError(f"{folder}: expected a model (a folder with {CONFIG} and {WEIGHTS})") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SrlibError(f"{path}: not a model's config: {error}") from None
    except SrlibError as error:
        raise SrlibError(f"{path}: {error}") from None


def load_model(folder: Path, *, scale: int | None = None, dtype: str = "float32") -> tuple[keras.Model, ModelConfig]:
    """Builds a saved network and fills it with its weights.

    Raises:
        SrlibError: No model there, one for another scale than asked for, or weights that do not fit their config.
    """
    config = read_config(folder)
    if scale not in (None, config.scale):
        raise SrlibError(f"{folder}: a model for ×{config.scale}, expected ×{scale}")
    model = build(config, dtype=dtype)
    load_weights(model, Path(folder) / WEIGHTS)
    return model, config


def load_weights(model: keras.Model, path: Path) -> None:
    """Fills `model` from a weights file that holds its variables, nothing else, and finite numbers alone.

    Raises:
        SrlibError: No such file, a damaged one, one of another network, or one with a value that is not finite.
    """
    try:
        found = _shapes(path)
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file; a model is a folder with {CONFIG} and {WEIGHTS}") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SrlibError(f"{path}: not a readable weights file: {_line(error)}") from None
    expected = Counter(tuple(variable.shape) for variable in model.variables)
    if missing := expected - found:
        raise _misfit(path, model, f"expected an array of the shape {min(missing)}, found none or too few")
    if surplus := found - expected:
        raise _misfit(path, model, f"found an array of the shape {min(surplus)} too many")
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise _misfit(path, model, _line(error)) from None
    for variable in model.variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise SrlibError(
                f"{path}: {variable.path} holds values that are not finite numbers: it was trained until it diverged"
            )


def _shapes(path: Path) -> Counter[tuple[int, ...]]:
    """How often each shape occurs in an HDF5 file; nothing but its structure is read."""
    shapes: Counter[tuple[int, ...]] = Counter()
    with Path(path).open("rb") as stream, h5py.File(stream, "r") as file:
        file.visititems(lambda _, item: shapes.update([item.shape] if isinstance(item, h5py.Dataset) else []))
    return shapes


def _misfit(path: Path, model: keras.Model, reason: str) -> SrlibError:
    return SrlibError(f"{path}: these weights do not fit the network {model.name}: {reason}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def enlarge(model: keras.Model, lr: np.ndarray) -> np.ndarray:
    """Enlarges pictures by a network of `MODELS`; one that works on luma leaves the chroma to bicubic.

    Args:
        model: Built by `build`.
        lr: uint8 RGB [B, h, w, 3].

    Returns:
        RGB floats [B, scale·h, scale·w, 3] in about [0, 1], not clamped.
    """
    channels = channels_of(model)
    sr = ops.convert_to_numpy(model(color.network_input(lr, channels), training=False))
    return color.rgb_from_output(sr, lr, channels)


def channels_of(model: keras.Model) -> color.Channels:
    """What a network of `MODELS` works on, as its first layer tells."""
    return "luma-studio" if model.input.shape[-1] == 1 else "rgb"


def multiply_adds(model: keras.Model, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one LR picture of `height` × `width`.

    A convolution applies its kernel once per output pixel, a transposed one once per input pixel. SRCNN's bicubic
    enlargement is not counted: its weights are fixed, and its 25 per HR pixel are a few per mille of the rest at most.
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose))]
    places = [c.input if isinstance(c, layers.Conv2DTranspose) else c.output for c in convolutions]
    probe = keras.Model(model.input, places)
    pictures = probe.compute_output_spec(keras.KerasTensor((1, height, width, model.input.shape[-1])))
    return sum(
        picture.shape[1] * picture.shape[2] * math.prod(layer.kernel.shape)
        for layer, picture in zip(convolutions, pictures, strict=True)
    )
