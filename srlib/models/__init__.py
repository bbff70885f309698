"""Super-resolution networks by name, and their weights on disk. Keras is imported when a network is built."""

from srlib.models.apply import channels_of, multiply_adds, super_resolve
from srlib.models.base import SCALES, Network, Scale
from srlib.models.checkpoint import (
    CONFIG,
    WEIGHTS,
    ModelConfig,
    build,
    load_model,
    load_weights,
    read_config,
    save_model,
)
from srlib.models.registry import MODELS, model_options

__all__ = [
    "CONFIG",
    "MODELS",
    "SCALES",
    "WEIGHTS",
    "ModelConfig",
    "Network",
    "Scale",
    "build",
    "channels_of",
    "load_model",
    "load_weights",
    "model_options",
    "multiply_adds",
    "read_config",
    "save_model",
    "super_resolve",
]
