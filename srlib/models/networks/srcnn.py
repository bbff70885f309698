"""SRCNN: image super-resolution using deep convolutional networks (Dong et al. 2014/2016, arXiv:1501.00092)."""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.imaging.color import Channels
from srlib.models.base import Network, Scale
from srlib.models.blocks import ConvOptions, add_mean, bicubic, conv, subtract_mean
from srlib.models.lazy import keras


class Srcnn(Network):
    """SRCNN (Dong et al. 2014), on luma: bicubic upscaling inside the network, then 9×9, `middle` and 5×5 convolutions.

    With f filters and a middle of m × m it has 95 f + m² f² / 2 + 1 parameters: 57,281 by default, 8,129 with
    `middle: 1`. The paper's 57,184 and 8,032 weights leave out the biases.
    """

    title: ClassVar[str] = "SRCNN"
    channels: ClassVar[Channels] = "luma-studio"

    name: Literal["srcnn"] = "srcnn"
    filters: int = Field(
        default=64,
        ge=2,
        le=4_096,
        description="Channels of the first convolution; the second has half as many. 64 in the paper.",
    )
    middle: Literal[1, 3, 5] = Field(
        default=5, description="Kernel size of the second convolution: the paper's 9-1-5, 9-3-5 or 9-5-5 network."
    )

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; the last convolution is float32."""
        options: ConvOptions = {"activation": "relu", "kernel_initializer": "he_normal"}
        lr = keras.Input((None, None, 1), name="lr")
        x = subtract_mean(bicubic(lr, scale))
        x = conv(self.filters, "extraction", size=9, dtype=dtype, **options)(x)
        x = conv(self.filters // 2, "mapping", size=self.middle, dtype=dtype, **options)(x)
        x = conv(1, "reconstruction", size=5, dtype="float32")(x)
        return keras.Model(lr, add_mean(x), name="srcnn")
