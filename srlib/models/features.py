"""Frozen networks for the perceptual loss and for LPIPS: VGG19 and SqueezeNet 1.1, with ImageNet or random weights.

Both take float32 RGB [B, H, W, 3] in [0, 1] and convert it to what their published weights expect: BGR, 0 to 255, mean
of ImageNet subtracted.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular

if TYPE_CHECKING:
    import h5py
    import keras

FeatureNetwork = Literal["vgg19", "squeezenet"]

LAYERS: dict[FeatureNetwork, tuple[str, ...]] = {
    "vgg19": tuple(f"block{b}_conv{i}" for b, n in enumerate((2, 2, 4, 4, 4), start=1) for i in range(1, n + 1)),
    "squeezenet": ("conv1", *(f"fire{i}" for i in range(2, 10))),
}
"""Network → the layers whose features can be used, from the input to the output."""

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

LARGEST_FILE = 2**30
"""Largest size of a weights file in bytes; VGG19's with its classifier has 575 MB."""


_SQUEEZENET_STRIDES = {"conv1": 2, "fire2": 4, "fire3": 4, "fire4": 8, "fire5": 8}
"""Layer of SqueezeNet → pixels of the image per pixel of its output; 16 for the later ones."""


def least_side(network: FeatureNetwork, layer: str, *, pixels: int = 1) -> int:
    """Return the fewest pixels per side that an image must have for an output of `pixels` pixels per side.

    Example:
        >>> least_side("squeezenet", "fire9"), least_side("vgg19", "block5_conv4")
        (31, 16)
    """
    if network == "vgg19":
        return int(2 ** (int(layer[5]) - 1)) * pixels
    stride = _SQUEEZENET_STRIDES.get(layer, 16)  # no padding: the first pixel needs as many again, but for one
    return (pixels + 1) * stride - 1


class Features(NamedTuple):
    """Output of a layer before and after its ReLU."""

    before: "keras.KerasTensor"
    after: "keras.KerasTensor"


def feature_network(
    network: FeatureNetwork,
    taps: Sequence[str],
    *,
    pre_activation: bool = False,
    weights: Path | None = None,
    seed: int = 0,
    dtype: str = "float32",
) -> "keras.Model":
    """Build a frozen network that ends at the last of `taps` and returns their features.

    Args:
        network: `vgg19` (Simonyan & Zisserman 2015) or `squeezenet` (Iandola et al. 2016, version 1.1).
        taps: Names of layers in `LAYERS[network]`.
        pre_activation: Return the features before the layers' ReLU instead of after it.
        weights: HDF5 file in Keras' layout; the classifier may be missing. None: random weights (He et al. 2015, whose
            variance keeps the signal's strength through all layers).
        seed: Seed for the random weights.
        dtype: Keras dtype policy of the convolutions; the features are float32.

    Returns:
        A model with a list of outputs, one for each tap, or a single output for a single tap.

    Raises:
        SrlibError: A layer that the network does not have, or a weights file that does not fit it.
    """
    import keras
    from keras import layers, ops

    names = LAYERS[network]
    for tap in taps:
        if tap not in names:
            raise SrlibError(f"{network} has no layer {tap!r}; expected one of {', '.join(names)}")
    last = max(names.index(tap) for tap in taps)
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(255.0, name="to_255", dtype="float32")(ops.flip(image, axis=-1))
    x = layers.Rescaling(1.0, [-m for m in IMAGENET_MEAN_BGR], name="subtract_mean", dtype="float32")(x)
    build = {"vgg19": _vgg19, "squeezenet": _squeezenet}[network]
    outputs = dict(build(x, names[: last + 1], seed, dtype))
    ends = [ops.cast(outputs[tap].before if pre_activation else outputs[tap].after, "float32") for tap in taps]
    model = keras.Model(image, ends if len(ends) > 1 else ends[0], name=network)
    if weights is not None:
        for name, arrays in read_weights(weights, network, names[last]).items():
            model.get_layer(name).set_weights(arrays)
    model.trainable = False
    return model


def feature_magnitudes(features: "keras.Model") -> tuple[float, ...]:
    """Return the root mean square of each output for an image whose spectrum falls with the frequency, as photographs'.

    Features differ in size by orders of magnitude from layer to layer; divided by these, they do not.

    Args:
        features: A model from `feature_network`.
    """
    from keras import ops

    side = 128
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((3, side, side)))
    noise = np.fft.irfft2(white / frequency, s=(side, side))
    image = np.clip(0.5 + 0.2 * noise / noise.std(), 0, 1).transpose(1, 2, 0)[None].astype(np.float32)
    return tuple(float(np.sqrt(np.square(ops.convert_to_numpy(x)).mean())) for x in as_list(features(image)))


def as_list(outputs: "keras.KerasTensor | list[keras.KerasTensor]") -> "list[keras.KerasTensor]":
    """Return a model's outputs as a list, also where there is one."""
    return outputs if isinstance(outputs, list) else [outputs]


def _convolutions(seed: int, dtype: str) -> "Callable[..., keras.layers.Conv2D]":
    """Return a builder of convolutions (filters, size, name, index); `index` selects the seed of the weights."""
    from keras import initializers, layers

    def conv(filters: int, size: int, name: str, index: int, **options: int | str) -> layers.Conv2D:
        start = initializers.HeNormal(seed=seed * 1000 + index)
        return layers.Conv2D(filters, size, name=name, kernel_initializer=start, dtype=dtype, **options)

    return conv


def _vgg19(x: "keras.KerasTensor", names: Sequence[str], seed: int, dtype: str) -> "Iterator[tuple[str, Features]]":
    from keras import layers

    conv = _convolutions(seed, dtype)
    for index, name in enumerate(names):
        block = int(name[5])
        if name.endswith("conv1") and block > 1:
            x = layers.MaxPooling2D(2, name=f"block{block - 1}_pool", dtype=dtype)(x)
        before = conv(64 * min(2 ** (block - 1), 8), 3, name, index, padding="same")(x)
        x = layers.ReLU(name=f"{name}_relu", dtype=dtype)(before)
        yield name, Features(before, x)


def _squeezenet(
    x: "keras.KerasTensor", names: Sequence[str], seed: int, dtype: str
) -> "Iterator[tuple[str, Features]]":
    from keras import layers

    conv = _convolutions(seed, dtype)
    for index, name in enumerate(names):
        if name == "conv1":
            before = conv(64, 3, name, 0, strides=2)(x)
        else:
            if name in ("fire2", "fire4", "fire6"):
                x = layers.MaxPooling2D(3, 2, name=f"{name}_pool", dtype=dtype)(x)
            width = 16 * (int(name[4:]) // 2)
            x = conv(width, 1, f"{name}_squeeze1x1", 3 * index, activation="relu")(x)
            expand = [
                conv(4 * width, size, f"{name}_expand{size}x{size}", 3 * index + size, padding="same")(x)
                for size in (1, 3)
            ]
            before = layers.Concatenate(name=f"{name}_concat", dtype=dtype)(expand)
        x = layers.ReLU(name=f"{name}_relu", dtype=dtype)(before)
        yield name, Features(before, x)


def kernel_shapes(network: FeatureNetwork, layer: str) -> dict[str, tuple[int, int, int, int]]:
    """Return the kernel shape of each convolution up to a layer: height, width, input channels, filters."""
    names = LAYERS[network][: LAYERS[network].index(layer) + 1]
    shapes: dict[str, tuple[int, int, int, int]] = {}
    channels = 3
    for name in names:
        if network == "vgg19":
            filters = 64 * min(2 ** (int(name[5]) - 1), 8)
            shapes[name] = (3, 3, channels, filters)
        elif name == "conv1":
            filters = 64
            shapes[name] = (3, 3, channels, filters)
        else:
            width = 16 * (int(name[4:]) // 2)
            filters = 8 * width
            shapes[f"{name}_squeeze1x1"] = (1, 1, channels, width)
            shapes |= {f"{name}_expand{size}x{size}": (size, size, width, 4 * width) for size in (1, 3)}
        channels = filters
    return shapes


def read_weights(path: Path, network: FeatureNetwork, layer: str) -> dict[str, list[np.ndarray]]:
    """Read the convolutions up to a layer from a Keras HDF5 file.

    Args:
        path: HDF5 file in Keras' layout; layers behind `layer` may be missing.
        network: The network that the file belongs to.
        layer: The last layer that is needed.

    Returns:
        Convolution → kernel and bias.

    Raises:
        SrlibError: The file cannot be read, or a layer is missing or has another shape.
    """
    import h5py

    expected = "expected an HDF5 file of Keras weights"
    try:
        with h5py.File(io.BytesIO(read_regular(path, limit=LARGEST_FILE)), "r") as file:
            groups = _groups(file)
            shapes = kernel_shapes(network, layer)
            return {name: _arrays(path, network, groups, name, shape) for name, shape in shapes.items()}
    except OSError as error:
        raise SrlibError(f"{path}: {expected} ({one_line(error)}); download it again") from None
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError) as error:
        raise SrlibError(f"{path}: {expected} in the layout of {network} ({one_line(error)})") from None


def _groups(file: "h5py.File") -> "dict[str, h5py.Group]":
    """Return the layer groups by name; Keras nests the layers of SqueezeNet's modules one level deeper."""
    groups = {}
    for name, group in file.items():
        if "weight_names" in group.attrs:
            groups[name.replace("/", "_")] = group
        else:
            groups |= {f"{name}_{inner}": group[inner] for inner in group}
    return groups


def _arrays(
    path: Path, network: FeatureNetwork, groups: "dict[str, h5py.Group]", name: str, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Return kernel and bias of a convolution."""
    if name not in groups:
        raise SrlibError(f"{path}: expected weights of {network}, but there is no layer {name}")
    arrays = [groups[name][weight] for weight in groups[name].attrs["weight_names"]]
    shapes = [shape, shape[-1:]]
    if [array.shape for array in arrays] != shapes:
        raise SrlibError(f"{path}: {name}: expected {shapes}, got {[array.shape for array in arrays]}")
    return [np.asarray(array[()], np.float32) for array in arrays]
