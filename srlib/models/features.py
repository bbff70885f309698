"""Fixed networks whose features the content loss compares: VGG19 and SqueezeNet 1.1, ImageNet weights or random ones.

Both take float32 RGB [B, H, W, 3] in [0, 1] and turn it into what their published weights expect: BGR, 0 to 255, mean
of ImageNet subtracted.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
from keras import layers

from srlib.errors import SrlibError

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
Taps = dict[str, dict[str, Any]]


def feature_network(
    network: Literal["vgg19", "squeezenet"],
    taps: Sequence[str],
    *,
    pre_activation: bool = False,
    weights: Path | None = None,
    seed: int = 0,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a frozen network that ends at the last of `taps` and returns their outputs: a list, or one tensor for one.

    Args:
        network: `vgg19` (Simonyan & Zisserman 2015) or `squeezenet` (Iandola et al. 2016, version 1.1).
        taps: Names of layers: `block1_conv1` … `block5_conv4`, or `conv1`, `fire2` … `fire9`.
        pre_activation: Whether the features are taken before the layer's ReLU.
        weights: An HDF5 file in Keras' layout, without the classifier. None: random weights (He et al. 2015, so that
            the signal does not fade with depth).
        seed: Of the random weights.
        dtype: Policy of the convolutions; the features come out as float32.

    Raises:
        SrlibError: A layer that the network does not have, or a weights file that does not fit it.
    """
    build = NETWORKS[network]
    names = LAYERS[network]
    for tap in taps:
        if tap not in names:
            raise SrlibError(
                f"finetune.features.layer: {network} has no layer {tap!r}; expected one of {', '.join(names)}"
            )
    last = max(names.index(tap) for tap in taps)
    picture = keras.Input((None, None, 3), name="picture")
    x = layers.Rescaling(255.0, name="to_255", dtype="float32")(keras.ops.flip(picture, axis=-1))
    x = layers.Rescaling(1.0, [-m for m in IMAGENET_MEAN_BGR], name="subtract_mean", dtype="float32")(x)
    outputs = build(x, names[: last + 1], _he(seed), dtype)
    features = [keras.ops.cast(outputs[tap]["before" if pre_activation else "after"], "float32") for tap in taps]
    model = keras.Model(picture, features if len(features) > 1 else features[0], name=network)
    if weights is not None:
        _load(model, weights)
    model.trainable = False
    return model


def _he(seed: int) -> Callable[[int], keras.initializers.Initializer]:
    return lambda index: keras.initializers.HeNormal(seed=seed * 1000 + index)


def _vgg19(x: Any, names: Sequence[str], initializer: Callable[[int], Any], dtype: str) -> Taps:
    outputs: Taps = {}
    for index, name in enumerate(names):
        block = int(name[5])
        if name.endswith("conv1") and block > 1:
            x = layers.MaxPooling2D(2, name=f"block{block - 1}_pool", dtype=dtype)(x)
        before = layers.Conv2D(
            64 * min(2 ** (block - 1), 8),
            3,
            padding="same",
            name=name,
            kernel_initializer=initializer(index),
            dtype=dtype,
        )(x)
        x = layers.ReLU(name=f"{name}_relu", dtype=dtype)(before)
        outputs[name] = {"before": before, "after": x}
    return outputs


def _squeezenet(x: Any, names: Sequence[str], initializer: Callable[[int], Any], dtype: str) -> Taps:
    outputs: Taps = {}
    for index, name in enumerate(names):
        if name == "conv1":
            before = layers.Conv2D(64, 3, 2, name="conv1", kernel_initializer=initializer(0), dtype=dtype)(x)
            x = layers.ReLU(name="conv1_relu", dtype=dtype)(before)
        else:
            if name in ("fire2", "fire4", "fire6"):
                x = layers.MaxPooling2D(3, 2, name=f"{name}_pool", dtype=dtype)(x)
            width = 16 * ((int(name[4:])) // 2)
            x = layers.Conv2D(
                width,
                1,
                name=f"{name}_squeeze1x1",
                activation="relu",
                kernel_initializer=initializer(3 * index),
                dtype=dtype,
            )(x)
            before = layers.Concatenate(name=f"{name}_concat", dtype=dtype)(
                [
                    layers.Conv2D(
                        4 * width,
                        size,
                        padding="same",
                        name=f"{name}_expand{size}x{size}",
                        kernel_initializer=initializer(3 * index + size),
                        dtype=dtype,
                    )(x)
                    for size in (1, 3)
                ]
            )
            x = layers.ReLU(name=f"{name}_relu", dtype=dtype)(before)
        outputs[name] = {"before": before, "after": x}
    return outputs


NETWORKS: dict[str, Callable[..., Taps]] = {"vgg19": _vgg19, "squeezenet": _squeezenet}
LAYERS: dict[str, list[str]] = {
    "vgg19": [f"block{b}_conv{i}" for b, n in enumerate((2, 2, 4, 4, 4), start=1) for i in range(1, n + 1)],
    "squeezenet": ["conv1", *(f"fire{i}" for i in range(2, 10))],
}


def _load(model: keras.Model, path: Path) -> None:
    """Fills every convolution of `model` from a Keras HDF5 file; a missing layer or another shape is an error."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            stored = {name.replace("/", "_"): name for name in file if "weight_names" in file[name].attrs}
            for group in (g for g in file if "weight_names" not in file[g].attrs):
                stored |= {f"{group}_{name}": f"{group}/{name}" for name in file[group]}
            for layer in model.layers:
                if not layer.weights:
                    continue
                if layer.name not in stored:
                    raise SrlibError(f"{path}: expected weights of {model.name}, but there is no layer {layer.name}")
                group = file[stored[layer.name]]
                values = [group[name][()] for name in group.attrs["weight_names"]]
                shapes = [tuple(weight.shape) for weight in layer.weights]
                if [value.shape for value in values] != shapes:
                    raise SrlibError(
                        f"{path}: {layer.name}: expected {shapes}, got {[value.shape for value in values]}"
                    )
                layer.set_weights(values)
    except OSError as error:
        raise SrlibError(f"{path}: not a readable HDF5 weights file ({error}); download it again") from None
