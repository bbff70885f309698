"""EDSR: enhanced deep residual networks for single image super-resolution (Lim et al. 2017, arXiv:1707.02921)."""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.models.base import Network, Scale
from srlib.models.blocks import DIV2K_MEAN, add_mean, conv, nearest_skip, residual_block, subtract_mean, upsample
from srlib.models.lazy import keras, layers
from srlib.schema import Depth, Width


class Edsr(Network):
    """EDSR (Lim et al. 2017), on RGB. The large model has `blocks: 32, filters: 256, residual_scaling: 0.1`.

    With f filters and b blocks it has 28 f + (2 b + 1 + u)(9 f + 1) f + 3 (9 f + 1) parameters, where u is 4, 9, 8 at
    ×2, ×3, ×4: 1,517,571 by default at ×4.
    """

    title: ClassVar[str] = "EDSR"

    name: Literal["edsr"] = "edsr"
    blocks: Depth = Field(default=16, description="Residual blocks of two convolutions without normalization.")
    filters: Width = Field(default=64, description="Channels of each convolution.")
    residual_scaling: float = Field(default=1.0, gt=0, le=1, description="Factor on the output of each residual block.")
    skip: Literal["none", "nearest"] = Field(
        default="none",
        description="`none` as published; `nearest` adds the network's output to the nearest-neighbor upscaled input, "
        "so that a short training starts from an image.",
    )

    @property
    def equivariant_width(self) -> int | None:
        """The channels of all inner layers."""
        return self.filters

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the mean or the nearest-neighbor image is added in float32, also with bfloat16 layers."""
        lr = keras.Input((None, None, 3), name="lr")
        x = head = conv(self.filters, "head", dtype=dtype)(subtract_mean(lr, DIV2K_MEAN))
        for index in range(1, self.blocks + 1):
            x = residual_block(x, self.filters, f"block{index}", scaling=self.residual_scaling, dtype=dtype)
        x = conv(self.filters, "body", dtype=dtype)(x)
        x = layers.Add(name="body_add", dtype=dtype)([x, head])
        x = upsample(x, scale, self.filters, dtype=dtype)
        if self.skip == "nearest":
            return keras.Model(lr, nearest_skip(x, lr, scale, dtype=dtype), name="edsr")
        return keras.Model(lr, add_mean(conv(3, "tail", dtype=dtype)(x), DIV2K_MEAN), name="edsr")
