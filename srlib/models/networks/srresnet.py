"""SRResNet, the generator of the SRGAN (Ledig et al. 2017, arXiv:1609.04802)."""

from typing import ClassVar, Literal

from pydantic import Field

from srlib.models.base import Network, Scale
from srlib.models.blocks import conv, prelu, upsample
from srlib.models.lazy import keras, layers
from srlib.schema import Depth, Width


class Srresnet(Network):
    """SRResNet (Ledig et al. 2017), on RGB: residual blocks with batch normalization and PReLU, 9×9 ends.

    With f filters and b blocks it has (2 b + 1 + u)(9 f + 1) f + (9 b + 492 + n) f + 3 parameters, where u is 4, 9, 8
    and n is 1, 1, 2 at ×2, ×3, ×4: 1,554,883 by default at ×4, the statistics of the normalization included.
    """

    title: ClassVar[str] = "SRResNet"

    name: Literal["srresnet"] = "srresnet"
    blocks: Depth = Field(default=16, description="Residual blocks of two convolutions; 16 in the paper.")
    filters: Width = Field(default=64, description="Channels of each convolution; 64 in the paper.")

    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network; its own output range [−1, 1] is mapped to [0, 1], and the last convolution is float32."""

        def conv_norm(x: keras.KerasTensor, number: str) -> keras.KerasTensor:
            name = number.replace("conv", "norm")
            x = conv(self.filters, number, dtype=dtype)(x)
            return layers.BatchNormalization(name=name if name != "body" else "body_norm", dtype=dtype)(x)

        lr = keras.Input((None, None, 3), name="lr")
        x = conv(self.filters, "head", size=9, dtype=dtype)(lr)
        x = head = prelu("head_prelu", dtype)(x)
        for index in range(1, self.blocks + 1):
            residual = prelu(f"block{index}_prelu", dtype)(conv_norm(x, f"block{index}_conv1"))
            residual = conv_norm(residual, f"block{index}_conv2")
            x = layers.Add(name=f"block{index}_add", dtype=dtype)([x, residual])
        x = layers.Add(name="body_add", dtype=dtype)([conv_norm(x, "body"), head])
        x = upsample(x, scale, self.filters, dtype=dtype, activate=True)
        x = conv(3, "tail", size=9, dtype="float32")(x)
        sr = layers.Rescaling(0.5, 0.5, name="to_unit_range", dtype="float32")(x)
        return keras.Model(lr, sr, name="srresnet")
