"""Large kernel: the compact network with one large convolution on a few channels after every few residual blocks.

A large kernel on some channels sees repeated structure that 3×3 kernels reach only after many layers, for fewer
multiply-adds than more filters would cost (PLKSR: Lee et al. 2024, arXiv:2404.11848). The network has only
convolutions, ReLU and additions, so that it can be equivariant.
"""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.models.base import Network, Scale
from srlib.models.blocks import conv, large_kernel_block, residual_block, subpixel_skip
from srlib.models.lazy import keras, layers
from srlib.schema import Depth, Positive, Width


class LargeKernel(Network):
    """Large kernel, on RGB: residual blocks, some followed by a large kernel, and one sub-pixel convolution.

    With f filters, b blocks and n = b // every large kernels of side k on c channels it has 28 f + (2 b + 1)(9 f + 1) f
    + 3 scale² (9 f + 1) + n ((f + 1) c + (k² c + 1) c + (c + 1) f) parameters: 1,429,744 by default at ×4.
    """

    title: ClassVar[str] = "Large kernel"
    smaller: ClassVar[str] = "compact"

    name: Literal["large_kernel"] = "large_kernel"
    blocks: Depth = Field(16, description="Residual blocks of two convolutions.")
    filters: Width = Field(64, description="Channels of each 3×3 convolution; equivariant: a multiple of 8.")
    every: Positive = Field(4, description="A large kernel follows each `every`-th block.")
    size: Literal[5, 7, 9, 11, 13, 15, 17] = Field(13, description="Side of the large kernels.")
    large_filters: Width = Field(16, description="Channels of the large kernels; equivariant: a multiple of 8.")

    @property
    def equivariant_width(self) -> int | None:
        """The channels of the residual blocks, if those of the large kernels are whole groups of eight."""
        return None if self.large_filters % 8 else self.filters

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the upscaled input is added in float32."""
        lr = keras.Input((None, None, 3), name="lr")
        x = head = conv(self.filters, "head", dtype=dtype)(lr)
        for index in range(1, self.blocks + 1):
            x = residual_block(x, self.filters, f"block{index}", dtype=dtype)
            if index % self.every == 0:
                x = large_kernel_block(x, self.large_filters, self.size, f"large{index}", dtype=dtype)
        x = conv(self.filters, "body", dtype=dtype)(x)
        x = layers.Add(name="body_add", dtype=dtype)([x, head])
        return keras.Model(lr, subpixel_skip(x, lr, scale, dtype=dtype), name="large_kernel")
