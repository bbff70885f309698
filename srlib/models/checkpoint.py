"""Models on disk: a folder with `config.json` and `model.weights.h5`.

The config says which network, scale, channels, value range and options; weights are only ever loaded with the config
they were saved with. Neither file carries a date, so that the same weights have the same hash.
"""

import dataclasses
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from srlib.atomic import atomic_path
from srlib.engine import keras_defaults
from srlib.errors import SrlibError, one_line
from srlib.files import read_regular, write_bytes, write_json
from srlib.imaging.input_range import CLEAN, InputRange
from srlib.models.base import SCALES, Network, Option, Scale
from srlib.models.registry import MODELS, network_of
from srlib.schema import text_of

if TYPE_CHECKING:
    import keras

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
VALUE_RANGE = (0.0, 1.0)
Training = Literal["pixel", "gan"]
GAN_TITLE = "SRGAN"
"""Name in tables of every network after adversarial training."""

LARGEST_CONFIG = 2**20
"""Largest size of a `config.json` in bytes."""


_HDF5_ERRORS = (ValueError, LookupError, RuntimeError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises, beside OSError, for damaged files."""


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to use a set of weights; an object with contradictions cannot be created.

    Attributes:
        name: The network, a key of `MODELS`.
        scale: Upscaling factor: 2, 3 or 4.
        options: Options of the network, such as `blocks` and `filters`; missing ones get their defaults.
        channels: `rgb`, or `luma-studio` for networks on Y alone. Default: what the network works on.
        value_range: Range of input and output: (0.0, 1.0).
        training: `pixel` for a pixel loss, `gan` after adversarial training.
        inputs: Degradation of the LR images that it was trained on; None where it is not known. The file leaves it out
            for clean images.

    Raises:
        SrlibError: A wrong value; the line names the attribute, what was expected and what came.

    Example:
        >>> ModelConfig("edsr", 4, {"filters": 32}).options
        {'blocks': 16, 'filters': 32, 'residual_scaling': 1.0, 'skip': 'none'}
    """

    name: str
    scale: Scale
    options: Mapping[str, Option] = field(default_factory=dict)
    channels: str = ""
    value_range: tuple[float, float] = VALUE_RANGE
    training: Training = "pixel"
    inputs: InputRange | None = CLEAN

    def __post_init__(self) -> None:
        network = network_of(self.name, self.options)
        for key, value, expected in (
            ("scale", self.scale, SCALES),
            ("channels", self.channels, ("", network.channels)),
            ("value_range", self.value_range, (VALUE_RANGE,)),
            ("training", self.training, get_args(Training)),
        ):
            if not any(type(value) is type(one) and value == one for one in expected):
                valid = " or ".join(str(one) for one in expected if one != "")
                raise SrlibError(f"{key}: {self.name} works with {valid}, got {text_of(value)}")
        object.__setattr__(self, "channels", network.channels)
        object.__setattr__(self, "options", network.options)

    @property
    def network(self) -> Network:
        """The network with its options."""
        return network_of(self.name, self.options)

    @property
    def title(self) -> str:
        """The name in tables: EDSR, for example, or SRGAN after adversarial training."""
        return GAN_TITLE if self.training == "gan" else MODELS[self.name].title

    def as_json(self) -> dict[str, object]:
        """Return the content of `config.json`."""
        content = dataclasses.asdict(self)
        inputs = content.pop("inputs")
        return content if self.inputs == CLEAN else {**content, "inputs": inputs}


def build(config: ModelConfig, *, dtype: str = "float32") -> "keras.Model":
    """Build the network of a config with fresh weights.

    Args:
        config: Network, scale and options.
        dtype: Keras dtype policy of the hidden layers: `float32` or `mixed_bfloat16`.

    Returns:
        A Keras model from float32 [B, h, w, C] in [0, 1] to float32 [B, scale·h, scale·w, C], not clipped.
    """
    return config.network.build(config.scale, dtype)


def save_model(model: "keras.Model", config: ModelConfig, folder: Path) -> None:
    """Write a model's folder, completely or not at all; the same weights and config give the same bytes."""
    content = weights_bytes(model)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_bytes(temporary / WEIGHTS, content)
        write_json(temporary / CONFIG, config.as_json())


def read_config(folder: Path) -> ModelConfig:
    """Read and check a model's `config.json`.

    Raises:
        SrlibError: The folder holds no model, or one that this version does not know.
    """
    path = Path(folder) / CONFIG
    try:
        content = json.loads(read_regular(path, limit=LARGEST_CONFIG))
    except (FileNotFoundError, NotADirectoryError):
        raise SrlibError(f"{folder}: expected a model (a folder with {CONFIG} and {WEIGHTS})") from None
    except (ValueError, RecursionError) as error:
        raise SrlibError(f"{path}: not valid JSON: {one_line(error)}") from None
    try:
        return _parse(content)
    except SrlibError as error:
        raise SrlibError(f"{path}: not a model's config: {error}") from None


def _parse(content: object) -> ModelConfig:
    """Return the config that this JSON value stands for."""
    keys = {item.name for item in dataclasses.fields(ModelConfig)} - {"inputs"}
    if not isinstance(content, dict):
        raise SrlibError(f"expected an object with the keys {', '.join(sorted(keys))}, got {text_of(content)}")
    if missing := keys - content.keys():
        raise SrlibError(f"{min(missing)}: missing key")
    if unknown := content.keys() - keys - {"inputs"}:
        raise SrlibError(f"{text_of(min(unknown))}: unknown key")
    value_range = content["value_range"]
    if isinstance(value_range, list):
        value_range = tuple(float(v) if type(v) is int else v for v in value_range)
    if (inputs := content.get("inputs", CLEAN)) not in (CLEAN, None):
        inputs = InputRange.from_json(inputs)
    return ModelConfig(**{**content, "value_range": value_range, "inputs": inputs})


def load_model(folder: Path, *, scale: int | None = None, dtype: str = "float32") -> "tuple[keras.Model, ModelConfig]":
    """Build a saved network and load its weights.

    Args:
        folder: A folder that `save_model` wrote.
        scale: The upscaling factor that the model must have. Default: any.
        dtype: Keras dtype policy of the hidden layers.

    Returns:
        The network, and its config.

    Raises:
        SrlibError: No model in the folder, a model for another scale, weights that do not fit the config, or a Keras
            backend that is not installed.

    Example:
        >>> from importlib.resources import files
        >>> model, config = load_model(files("srlib") / "weights/psnr-x4/keras")
        >>> config.title, config.scale, model.output.shape[-1]
        ('Large kernel', 4, 3)
    """
    config = read_config(folder)
    if scale not in (None, config.scale):
        raise SrlibError(f"{folder}: expected a model for ×{scale}, got one for ×{config.scale}")
    with keras_defaults():
        model = build(config, dtype=dtype)
        load_weights(model, Path(folder) / WEIGHTS)
    return model, config


class _Weights(io.BytesIO):
    """A weights file in memory, under a name that Keras accepts: what is checked is what is loaded."""

    def __str__(self) -> str:
        return WEIGHTS


def weights_bytes(model: "keras.Model") -> bytes:
    """Return the content of the weights file of a model, as `model.save_weights` writes it.

    HDF5 crashes the process if the disk is full when it closes a file, so the file is made in memory. Of HDF5's two
    ways to do that only the core driver gives the bytes of a file on disk, and Keras offers no public way to choose it.
    """
    import h5py
    from keras.src.saving import saving_lib

    class MemoryStore(saving_lib.H5IOStore):
        def _get_h5_file(self, path: str, mode: str | None = None) -> h5py.File:
            return h5py.File(path, mode or self.mode, driver="core", backing_store=False)

    store = MemoryStore(WEIGHTS, mode="w")
    try:
        saving_lib._save_state(model, store, assets_store=None, inner_path="", visited_saveables=set())
        store.h5_file.flush()
        return bytes(store.h5_file.id.get_file_image())
    finally:
        store.close()


def load_weights(model: "keras.Model", path: Path) -> None:
    """Load weights into `model` from a file that holds its variables, nothing else, and only finite numbers.

    Raises:
        SrlibError: No such file, no regular file, a file that is too large or damaged, weights of another network, or
            a value that is not finite.
    """
    from keras import ops

    memory = _read_weights(model, path)
    _check_shapes(model, memory, path)
    try:
        model.load_weights(memory)
    except (OSError, *_HDF5_ERRORS) as error:
        raise _misfit(path, model, one_line(error)) from None
    for variable in model.variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise SrlibError(
                f"{path}: {variable.path} has values that are not finite numbers: the training diverged; train again"
            )


def _read_weights(model: "keras.Model", path: Path) -> _Weights:
    """Return the file in memory; one much larger than `model` needs is refused before it is read."""
    variables = model.variables
    size = sum(4 * int(np.prod(variable.shape)) for variable in variables)
    try:
        # HDF5 spends a few kilobytes on each array; weights of a somewhat larger network get a more helpful message.
        return _Weights(read_regular(path, limit=4 * size + 2**14 * len(variables) + 2**20))
    except (FileNotFoundError, NotADirectoryError):
        raise SrlibError(f"{path}: no such file; a model is a folder with {CONFIG} and {WEIGHTS}") from None
    except OSError as error:
        raise SrlibError(f"{path}: not a readable weights file: {one_line(error)}") from None


def _check_shapes(model: "keras.Model", memory: _Weights, path: Path) -> None:
    """Compare the shapes of all arrays in the file with those of the model's variables."""
    import h5py

    stored: Counter[tuple[int, ...]] = Counter()
    try:
        with h5py.File(memory, "r") as file:
            file.visititems(lambda _, item: stored.update([item.shape] if isinstance(item, h5py.Dataset) else []))
    except (OSError, *_HDF5_ERRORS) as error:
        raise SrlibError(f"{path}: not a readable weights file: {one_line(error)}") from None
    expected = Counter(tuple(variable.shape) for variable in model.variables)
    if missing := expected - stored:
        raise _misfit(path, model, f"missing array of shape {min(missing)}")
    if surplus := stored - expected:
        raise _misfit(path, model, f"unexpected array of shape {min(surplus)}")


def _misfit(path: Path, model: "keras.Model", reason: str) -> SrlibError:
    return SrlibError(f"{path}: these weights do not fit the network {model.name}: {reason}")
