"""FSRCNN: accelerating the super-resolution convolutional neural network (Dong et al. 2016, arXiv:1608.00367)."""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.imaging.color import Channels
from srlib.models.base import Network, Scale
from srlib.models.blocks import add_mean, conv, prelu, subtract_mean
from srlib.models.lazy import keras, layers
from srlib.schema import Depth, Width


class Fsrcnn(Network):
    """FSRCNN (Dong et al. 2016), on luma; FSRCNN-s has `filters: 32, shrink: 5, blocks: 1`.

    5×5 features, 1×1 shrinking, 3×3 mapping and 1×1 expansion on LR, each with a PReLU, then one transposed 9×9
    convolution. With f filters, s shrunk channels and b blocks it has 110 f + 2 f s + 2 s + b (9 s + 2) s + 1
    parameters: 12,809 by default. The paper's 12,464 weights, 3,937 for FSRCNN-s, leave out biases and slopes.
    """

    title: ClassVar[str] = "FSRCNN"
    channels: ClassVar[Channels] = "luma-studio"

    name: Literal["fsrcnn"] = "fsrcnn"
    filters: Width = Field(default=56, description="Channels of the features and of the expansion; d in the paper.")
    shrink: Width = Field(default=12, description="Channels of the mapping; s in the paper.")
    blocks: Depth = Field(default=4, description="3×3 convolutions of the mapping; m in the paper.")

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the transposed convolution is float32."""
        lr = keras.Input((None, None, 1), name="lr")
        x = subtract_mean(lr)
        steps = [("features", self.filters, 5), ("shrink", self.shrink, 1)]
        steps += [(f"mapping{index}", self.shrink, 3) for index in range(1, self.blocks + 1)]
        for name, width, size in [*steps, ("expand", self.filters, 1)]:
            x = conv(width, name, size=size, kernel_initializer="he_normal", dtype=dtype)(x)
            x = prelu(f"{name}_prelu", dtype)(x)
        x = layers.Conv2DTranspose(
            1, 9, scale, padding="same", name="upsample_deconv", dtype="float32",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
        )(x)  # fmt: skip
        return keras.Model(lr, add_mean(x), name="fsrcnn")
