"""Super-resolution networks by name, and their weights on disk.

A model is a folder of two files: `config.json` (which network, scale, channels, value range, options) and
`model.weights.h5`. Both carry no date, so that the same weights have the same hash. Weights are only ever loaded with
the config they were saved with.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from srlib.errors import SrlibError
from srlib.files import atomic_path, write_json
from srlib.models.compact import compact
from srlib.models.edsr import edsr
from srlib.models.srresnet import srresnet

WEIGHTS, CONFIG = "model.weights.h5", "config.json"


@dataclass(frozen=True)
class Architecture:
    """How a network is built and shown."""

    build: Callable[..., keras.Model]
    title: str
    channels: str = "rgb"


MODELS = {
    "edsr": Architecture(edsr, "EDSR"),
    "srresnet": Architecture(srresnet, "SRResNet"),
    "compact": Architecture(compact, "Compact"),
}


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to use a set of weights.

    Attributes:
        name: A key of `MODELS`.
        scale: The factor of enlargement.
        options: The builder's keyword arguments, such as `blocks` and `filters`.
        channels: `rgb`, or `luma` for networks on Y alone.
        value_range: Of the input and the output.
        training: `pixel` (MAE and the like) or `gan`: tells the methods of a table apart.
    """

    name: str
    scale: int
    options: dict[str, Any] = field(default_factory=dict)
    channels: str = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)
    training: str = "pixel"

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
        config = ModelConfig(**{**content, "value_range": tuple(content["value_range"])})
    except FileNotFoundError:
        raise SrlibError(f"{folder}: expected a model (a folder with {CONFIG} and {WEIGHTS})") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SrlibError(f"{path}: not a model's config: {error}") from None
    if config.name not in MODELS:
        raise SrlibError(f"{path}: unknown network {config.name!r}; expected one of {', '.join(MODELS)}")
    return config


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
    """Fills `model` from a weights file whose every variable must fit."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SrlibError(f"{path}: these weights do not fit the network {model.name}: {reason}") from None


def multiply_adds(model: keras.Model, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one LR picture of `height` × `width`."""
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    probe = keras.Model(model.input, [layer.output for layer in convolutions])
    outputs = probe.compute_output_spec(keras.KerasTensor((1, height, width, model.input.shape[-1])))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return sum(
        out.shape[1] * out.shape[2] * math.prod(layer.kernel.shape)
        for layer, out in zip(convolutions, outputs, strict=True)
    )
