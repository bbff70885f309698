"""Keras, imported at its first use: reading params.yaml, which lists all networks, must not load it.

from srlib.models.lazy import keras, layers, ops
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING


class LazyModule(ModuleType):
    """A module that is imported when one of its names is used for the first time."""

    def __getattr__(self, name: str) -> object:
        """Return a name of the real module."""
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import keras
    from keras import layers, ops
else:
    keras, layers, ops = map(LazyModule, ("keras", "keras.layers", "keras.ops"))

__all__ = ["keras", "layers", "ops"]
