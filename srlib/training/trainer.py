"""The part of training that Keras runs: a network together with the losses it is trained with."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from keras import ops

from srlib.engine import fixed_order
from srlib.imaging.color import STUDIO_BLACK, STUDIO_WEIGHTS
from srlib.models import channels_of
from srlib.training.optimizers import CombinedOptimizer, NetworkUpdate
from srlib.training.types import Tensor


def as_float(image: Tensor) -> Tensor:
    """Convert uint8 [0, 255] to float32 [0, 1] on the device."""
    return ops.cast(image, "float32") / 255.0


def as_luma(image: Tensor) -> Tensor:
    """Convert uint8 RGB [..., 3] to float32 Y [..., 1] on the device, as `luma-studio` in srlib.imaging.color."""
    weights = ops.convert_to_tensor(STUDIO_WEIGHTS, "float32")
    return ops.sum(as_float(image) * weights, axis=-1, keepdims=True) + STUDIO_BLACK / 255


class Trainer(keras.Model):
    """A super-resolution network and its losses, for batches of lr [B, h, w, 3] and hr [B, scale·h, scale·w, 3], uint8.

    Kinds of training differ in `compute_loss` alone, so that the same code runs on every Keras backend.

    Attributes:
        network: The super-resolution network.
        monitored: The name of the loss that must not explode.
    """

    monitored = "loss"

    def __init__(self, network: keras.Model, name: str) -> None:
        super().__init__(name=name)
        self.network = network

    def to_network(self, image: Tensor) -> Tensor:
        """Convert uint8 RGB to what the network takes and returns: float32 RGB or luma."""
        return as_float(image) if channels_of(self.network) == "rgb" else as_luma(image)

    def call(self, lr: Tensor, training: bool | None = None) -> Tensor:
        """Super-resolve uint8 RGB: float32, RGB or luma, about [0, 1], not clipped."""
        return self.network(self.to_network(lr), training=training)

    def compile_with(self, updates: Sequence[NetworkUpdate]) -> None:
        """Prepare for training. TensorFlow runs without XLA, which is five times slower than oneDNN on CPUs.

        Args:
            updates: Update of each network's weights.
        """
        optimizer = CombinedOptimizer(updates)
        self.compile(optimizer=optimizer, jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
        optimizer.build(self.trainable_variables)

    def train_on_batch(self, lr: Tensor, hr: Tensor, **options: bool) -> Tensor:
        """Do what Keras' method does, with floating-point additions in an order that is always the same."""
        with fixed_order():
            return super().train_on_batch(lr, hr, **options)

    @property
    def step_variables(self) -> list[keras.Variable]:
        """Every variable that a step may change: networks with batch statistics, optimizers, averages."""
        return [*self.network.variables, *self.optimizer.variables]

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Give each network its averaged weights within the block, if there is an average."""
        with contextlib.ExitStack() as stack:
            for update in self.optimizer.updates:
                stack.enter_context(update.averaged_weights())
            yield
