"""SRResNet, the generator of the SRGAN (Ledig et al. 2017, arXiv:1609.04802)."""

import keras
from keras import layers

from srlib.models.blocks import conv, prelu_layer, upsample


def srresnet(scale: int, *, blocks: int = 16, filters: int = 64, dtype: str = "float32") -> keras.Model:
    """Builds an SRResNet: float32 RGB [B, h, w, 3] in [0, 1] → the same at [B, scale·h, scale·w, 3], not clipped.

    As in the paper: a 9×9 convolution with PReLU, residual blocks of convolution, batch normalization, PReLU,
    convolution, batch normalization, a skip over all of them, sub-pixel upsampling with PReLU, a 9×9 convolution. The
    network's own output range is [−1, 1], mapped to [0, 1] at the end.

    Args:
        scale: 2, 3 or 4.
        blocks: Residual blocks; 16 in the paper.
        filters: Width; 64 in the paper.
        dtype: Policy of the hidden layers; the last convolution is float32.
    """

    def norm(name: str) -> layers.BatchNormalization:
        return layers.BatchNormalization(name=name, dtype=dtype)

    lr = keras.Input((None, None, 3), name="lr")
    x = conv(filters, "head", size=9, dtype=dtype)(lr)
    x = head = prelu_layer("head_prelu", dtype)(x)
    for index in range(1, blocks + 1):
        residual = conv(filters, f"block{index}_conv1", dtype=dtype)(x)
        residual = norm(f"block{index}_norm1")(residual)
        residual = prelu_layer(f"block{index}_prelu", dtype)(residual)
        residual = conv(filters, f"block{index}_conv2", dtype=dtype)(residual)
        residual = norm(f"block{index}_norm2")(residual)
        x = layers.Add(name=f"block{index}_add", dtype=dtype)([x, residual])
    x = norm("body_norm")(conv(filters, "body", dtype=dtype)(x))
    x = layers.Add(name="body_add", dtype=dtype)([x, head])
    x = upsample(x, scale, filters, dtype=dtype, prelu=True)
    x = conv(3, "tail", size=9, dtype="float32")(x)
    sr = layers.Rescaling(0.5, 0.5, name="to_unit_range", dtype="float32")(x)
    return keras.Model(lr, sr, name="srresnet")
