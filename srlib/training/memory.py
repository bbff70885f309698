"""How much memory a training takes at least, known before it begins and without taking it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
from keras.src.backend.common import global_state

from srlib.models import build
from srlib.models.features import feature_network
from srlib.params import Finetune, Params, Training
from srlib.training.gan.discriminator import build_discriminator
from srlib.training.pretrain import model_config

_MOMENTS = 2
"""Values per weight that Adam and Muon keep."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training takes at least.

    Attributes:
        weights: Weights, their gradients, the optimizer's moments and the moving average.
        batch: What the gradients of one batch need from the forward pass.
    """

    weights: int = 0
    batch: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.batch

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.weights + other.weights, self.batch + other.batch)


def least_memory(params: Params, section: Training) -> Memory:
    """Estimate the memory of a training from below.

    Of the forward pass, only the inputs of layers with weights are counted, without which no gradient can be computed.
    Of an SRGAN, the feature network is not counted. Networks are built as shapes alone.

    Args:
        params: The recipe.
        section: Its section `pretrain` or `finetune`.
    """
    patches, side = section.batch, section.lr_patch
    averages = 1 if section.ema_decay else 0
    memory = _memory(lambda: build(model_config(params)), section, patches, side, averages)
    if (finetune := params.finetune) is not None and section is finetune:
        # The discriminator sees real and generated patches.
        memory += _memory(lambda: _discriminator(finetune), section, 2 * patches, side * params.scale)
    return memory


def _discriminator(section: Finetune) -> keras.Model:
    features = feature_network(section.features.network, section.features.layers, dtype=section.precision)
    return build_discriminator(section, features, [1.0] * len(section.features.layers))


def _memory(make: Callable[[], keras.Model], section: Training, patches: int, side: int, averages: int = 0) -> Memory:
    with _shapes_alone():
        network = make()
        image = keras.Input((side, side, network.inputs[0].shape[-1]))
        sized = keras.models.clone_model(network, input_tensors=image)
        weights = sum(math.prod(variable.shape) for variable in sized.trainable_variables)
        # A kernel has several axes, a bias or a factor has one.
        with_kernel = [layer for layer in sized.layers if any(len(w.shape) > 1 for w in layer.trainable_weights)]
        values = sum(math.prod(layer.input.shape[1:]) for layer in with_kernel)
    bytes_per_value = 2 if section.precision == "mixed_bfloat16" else 4
    return Memory(4 * weights * (2 + _MOMENTS + averages), bytes_per_value * values * patches)


@contextmanager
def _shapes_alone() -> Iterator[None]:
    """Let networks be built whose variables never get a value."""
    name = "uninitialized_variables"  # Keras would give all in this list a value at the next stateless call
    others = list(global_state.get_global_attribute(name, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(name, others)
