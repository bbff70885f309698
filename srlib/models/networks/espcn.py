"""ESPCN: an efficient sub-pixel convolutional neural network (Shi et al. 2016, arXiv:1609.05158)."""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.imaging.color import Channels
from srlib.models.base import Network, Scale
from srlib.models.blocks import ConvOptions, add_mean, conv, subtract_mean
from srlib.models.lazy import keras, ops


class Espcn(Network):
    """ESPCN (Shi et al. 2016), on luma: 5×5, 3×3 and 3×3 convolutions on LR with tanh, then sub-pixels.

    With f filters it has 26 f + (9 f + 1) f / 2 + (9 f / 2 + 1) scale² parameters: 24,752 by default at ×4. The
    paper's 24,640 weights at ×4, and 22,624 at ×3, leave out the biases.
    """

    title: ClassVar[str] = "ESPCN"
    channels: ClassVar[Channels] = "luma-studio"

    name: Literal["espcn"] = "espcn"
    filters: int = Field(
        default=64,
        ge=2,
        le=4_096,
        description="Channels of the first convolution; the second has half as many. 64 in the paper.",
    )

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the last convolution is float32."""
        options: ConvOptions = {"activation": "tanh", "kernel_initializer": "glorot_uniform"}
        lr = keras.Input((None, None, 1), name="lr")
        x = conv(self.filters, "features", size=5, dtype=dtype, **options)(subtract_mean(lr))
        x = conv(self.filters // 2, "mapping", dtype=dtype, **options)(x)
        x = conv(scale**2, "upsample_conv", dtype="float32")(x)
        return keras.Model(lr, add_mean(ops.depth_to_space(x, scale)), name="espcn")
