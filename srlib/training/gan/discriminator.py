"""The discriminators of the SRGAN: of patches, of pixels (a U-Net), and of the features of a frozen network."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from srlib.models.features import as_list
from srlib.params import Finetune
from srlib.training.types import Tensor

CONVOLUTIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
"""(width as a multiple of `filters`, stride) of each convolution: 64 to 512 filters in the paper."""

HEAD_SIDES = (1, 3, 3)
"""Kernel sizes of the convolutions on each feature map, in `feature_discriminator`."""


def build_discriminator(section: Finetune, features: keras.Model, magnitudes: Sequence[float]) -> keras.Model:
    """Build the discriminator of a recipe, with initial weights.

    Args:
        section: The section `finetune`.
        features: The feature network of the perceptual loss, which one of the discriminators reads.
        magnitudes: The size of each of its outputs, by `feature_magnitudes`.

    Returns:
        A model: RGB [B, H, W, 3] in [0, 1] → float32 logits: one map, or for several layers of `features` a list.
    """
    filters, dtype = section.discriminator_filters, section.precision
    if section.discriminator == "features":
        return feature_discriminator(features, magnitudes, filters, dtype=dtype)
    build = {"patch": patch_discriminator, "unet": unet_discriminator}[section.discriminator]
    return build(filters, dtype=dtype)


def patch_discriminator(filters: int = 64, *, dtype: str = "float32") -> keras.Model:
    """Build the discriminator of the SRGAN paper (Ledig et al. 2017, arXiv:1609.04802), one score per patch.

    As in the paper: 3×3 convolutions, batch normalization from the second on, LeakyReLU 0.2. The paper's two dense
    layers (1024 units, then one) are applied at each position instead of to the flattened feature map, so that images
    may have any size and each patch gets its own score. There is no sigmoid: the losses take logits.

    Args:
        filters: Width of the first convolution; 64 in the paper.
        dtype: Keras dtype policy of the hidden layers.

    Returns:
        A model: RGB [B, H, W, 3] in [0, 1] → float32 logits [B, ⌈H/16⌉, ⌈W/16⌉, 1].
    """
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(2.0, -1.0, name="to_plus_minus_one", dtype="float32")(image)
    for index, (width, stride) in enumerate(CONVOLUTIONS, start=1):
        x = layers.Conv2D(
            filters * width, 3, stride, padding="same", use_bias=index == 1, name=f"conv{index}", dtype=dtype
        )(x)
        if index > 1:
            x = layers.BatchNormalization(name=f"norm{index}", dtype=dtype)(x)
        x = layers.LeakyReLU(0.2, name=f"relu{index}", dtype=dtype)(x)
    x = layers.Dense(filters * 16, name="dense1", dtype=dtype)(x)
    x = layers.LeakyReLU(0.2, name="relu_dense1", dtype=dtype)(x)
    logits = layers.Dense(1, name="dense2", dtype="float32")(x)
    return keras.Model(image, logits, name="discriminator")


def unet_discriminator(filters: int = 64, *, dtype: str = "float32") -> keras.Model:
    """Build the discriminator of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833), one score per pixel.

    A U-Net (Schönfeld et al. 2020, arXiv:2002.12655): three strided convolutions lead to an eighth of the resolution,
    three bilinear upsamplings lead back, and the feature map of the same resolution is added to each. All convolutions
    but the first and the last have spectral normalization, so that there are no batch statistics.

    Args:
        filters: Width at full resolution; 64 in the paper. It doubles with each halving of the resolution.
        dtype: Keras dtype policy of the hidden layers.

    Returns:
        A model: RGB [B, H, W, 3] in [0, 1] → float32 logits [B, H, W, 1].
    """

    def convolution(x: keras.KerasTensor, width: int, name: str, size: int = 3, strides: int = 1) -> keras.KerasTensor:
        conv = SpectralConv2D(width, size, strides, padding="same", use_bias=False, name=f"conv_{name}", dtype=dtype)
        return layers.LeakyReLU(0.2, name=f"relu_{name}", dtype=dtype)(conv(x))

    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(filters, 3, padding="same", name="conv_first", dtype=dtype)(image)
    x = layers.LeakyReLU(0.2, name="relu_first", dtype=dtype)(x)
    skips = []
    for depth in (1, 2, 3):
        skips.append(x)
        x = convolution(x, filters * 2**depth, f"down{depth}", size=4, strides=2)
    for depth in (2, 1, 0):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"double{depth}", dtype=dtype)(x)
        x = CropLike(name=f"crop{depth}", dtype=dtype)([x, skips[depth]])
        x = convolution(x, filters * 2**depth, f"up{depth}")
        x = layers.Add(name=f"add{depth}", dtype=dtype)([x, skips[depth]])
    for number in (1, 2):
        x = convolution(x, filters, f"last{number}")
    logits = layers.Conv2D(1, 3, padding="same", name="conv_logits", dtype="float32")(x)
    return keras.Model(image, logits, name="discriminator")


def feature_discriminator(
    features: keras.Model, magnitudes: Sequence[float], filters: int = 64, *, dtype: str = "float32"
) -> keras.Model:
    """Build a discriminator of small networks, one on each output of a frozen feature network.

    What a discriminator of its own would have to learn first, the features know already: it tells SR from HR within
    tens of steps (Projected GAN: Sauer et al. 2021, arXiv:2111.01007, there for whole images). Each small network has
    three convolutions with spectral normalization, of 1×1 and twice 3×3 pixels, and one logit per position.

    Args:
        features: Network from `srlib.models.features`.
        magnitudes: The size of each of its outputs, by `feature_magnitudes`.
        filters: Channels of each convolution.
        dtype: Keras dtype policy of the hidden layers.

    Returns:
        A model: RGB [B, H, W, 3] in [0, 1] → float32 logits [B, h, w, 1]; for several outputs a list of them.
    """
    image = keras.Input((None, None, 3), name="image")
    logits = []
    for index, (x, size) in enumerate(zip(as_list(features(image)), magnitudes, strict=True), start=1):
        x = layers.Rescaling(1 / size, name=f"scale{index}", dtype="float32")(x)
        for number, side in enumerate(HEAD_SIDES, start=1):
            x = SpectralConv2D(filters, side, name=f"conv{index}_{number}", dtype=dtype)(x)
            x = layers.LeakyReLU(0.2, name=f"relu{index}_{number}", dtype=dtype)(x)
        logits.append(layers.Conv2D(1, 1, name=f"logits{index}", dtype="float32")(x))
    return keras.Model(image, logits, name="discriminator")


@keras.saving.register_keras_serializable("srlib")
class SpectralConv2D(layers.Conv2D):
    """A convolution with spectral normalization (Miyato et al. 2018, arXiv:1802.05957).

    The kernel, as a matrix [height · width · input channels, filters], is divided by its largest singular value, which
    one step of the power iteration follows in each call in training: for HR and for SR.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Add the left singular vector that the power iteration updates."""
        super().build(input_shape)
        self.vector = self.add_weight(
            name="vector",
            shape=(self.filters,),
            initializer=keras.initializers.RandomNormal(seed=self.filters),
            trainable=False,
        )

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Convolve with the normalized kernel."""
        kernel = ops.convert_to_tensor(self.kernel)
        matrix = ops.reshape(kernel, (-1, self.filters))
        left = ops.stop_gradient(_unit(ops.matmul(matrix, ops.convert_to_tensor(self.vector))))
        right = ops.stop_gradient(_unit(ops.matmul(left, matrix)))
        if training:
            self.vector.assign(ops.cast(right, self.vector.dtype))
        sigma = ops.sum(ops.matmul(left, matrix) * right)
        outputs = self.convolution_op(inputs, kernel / sigma)
        return ops.add(outputs, self.bias) if self.use_bias else outputs


def _unit(vector: Tensor) -> Tensor:
    return vector / (ops.norm(vector) + 1e-12)


@keras.saving.register_keras_serializable("srlib")
class CropLike(layers.Layer):
    """Crops a feature map to the height and width of a second one.

    A strided convolution rounds odd sizes up, so that twice its size may be one pixel too much.
    """

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return the top left part of the first feature map."""
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the size of the second feature map with the channels of the first."""
        x, like = input_shape
        return (*like[:3], x[3])
