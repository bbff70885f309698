"""Large kernel: the compact network with one large convolution on a few channels after every few residual blocks.

A large kernel on some of the channels sees repeated structure that stacked 3×3 kernels reach only after many layers,
for fewer multiply-adds than more filters would cost (PLKSR: Lee et al. 2024, arXiv:2404.11848, which uses kernels of
13×13 to 17×17 on a quarter of the channels in every block). Here a 1×1 convolution selects the channels and another one
adds them back. The network consists of convolutions, ReLU and additions only, so that it can be equivariant, and with
one large kernel in four blocks the receptive field (59 pixels) stays small enough for tiles.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from srlib.models.base import Network, Scale
from srlib.schema import Positive

if TYPE_CHECKING:
    import keras


class LargeKernel(Network):
    """Large kernel, on RGB: residual blocks, some followed by a large kernel, and one sub-pixel convolution.

    With f filters, b blocks and n = b // every large kernels of side k on c channels it has 28 f + (2 b + 1)(9 f + 1) f
    + 3 scale² (9 f + 1) + n ((f + 1) c + (k² c + 1) c + (c + 1) f) parameters: 1,429,744 by default at ×4.
    """

    title: ClassVar[str] = "Large kernel"

    name: Literal["large_kernel"] = "large_kernel"
    blocks: Positive = Field(16, description="Residual blocks of two convolutions.")
    filters: Positive = Field(64, description="Channels of each 3×3 convolution; equivariant: a multiple of 8.")
    every: Positive = Field(4, description="A large kernel follows each `every`-th block.")
    size: Literal[5, 7, 9, 11, 13, 15, 17] = Field(13, description="Side of the large kernels.")
    large_filters: Positive = Field(16, description="Channels of the large kernels; equivariant: a multiple of 8.")

    @property
    def equivariant_width(self) -> int | None:
        """The channels of the residual blocks, if the large kernels work on whole groups of eight channels."""
        return None if self.large_filters % 8 else self.filters

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the upscaled input is added in float32."""
        import keras
        from keras import layers, ops

        from srlib.models.blocks import conv, residual_block, scaled_initializer

        lr = keras.Input((None, None, 3), name="lr")
        x = head = conv(self.filters, "head", dtype=dtype)(lr)
        for index in range(1, self.blocks + 1):
            x = residual_block(x, self.filters, f"block{index}", dtype=dtype)
            if index % self.every == 0:
                large = conv(self.large_filters, f"large{index}_reduce", size=1, dtype=dtype)(x)
                large = conv(self.large_filters, f"large{index}_conv", size=self.size, dtype=dtype, activation="relu")(
                    large
                )
                large = conv(self.filters, f"large{index}_expand", size=1, dtype=dtype)(large)
                x = layers.Add(name=f"large{index}_add", dtype=dtype)([x, large])
        x = conv(self.filters, "body", dtype=dtype)(x)
        x = layers.Add(name="body_add", dtype=dtype)([x, head])
        x = conv(3 * scale**2, "upsample_conv", dtype=dtype, kernel_initializer=scaled_initializer(0.1))(x)
        # LR, added to every sub-pixel, becomes its own nearest-neighbor upscaling.
        x = ops.cast(x, "float32") + ops.concatenate([lr] * scale**2, axis=-1)
        return keras.Model(lr, ops.depth_to_space(x, scale), name="large_kernel")
