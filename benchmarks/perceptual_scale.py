"""The calibrated factors of the perceptual loss, which `perceptual_scale: auto` takes.

    python benchmarks/perceptual_scale.py [--vgg19 H5] [--squeezenet H5] [--random] [--write]

Prints a row of srlib/models/perceptual_scales.csv for each layer, distance and side of the ReLU: of the networks whose
ImageNet weights are named, and with --random of both networks with random weights (geometric mean of three seeds).
--write puts the rows into that file. A factor gives the perceptual loss a gradient at SR that is BALANCE times as long
as the mean absolute error's. SR is made by the shipped psnr-x4 from photographs inside scikit-image: nothing is
fetched. The crops are as large as those in recipes/photos.yaml, 96 × 96.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from srlib.engine import pin_threads
from srlib.errors import SrlibError
from srlib.files import write_text
from srlib.models.features import LAYERS, FeatureNetwork, feature_network
from srlib.models.perceptual_scales import TABLE, FeatureSpace, measured_scales

if TYPE_CHECKING:
    import keras

BALANCE = 6.0
"""Length of the perceptual gradient over that of the mean absolute error, as in the training of gan-x4."""

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
CROPS = 4
"""Crops of each photograph: those with the largest standard deviation."""
SCALE, SIDE = 4, 96
SEEDS = (1, 2, 3)
"""Seeds of random weights, which are measured on one crop of each photograph."""

Crops = npt.NDArray[np.float32]
Factors = Iterator[tuple[FeatureSpace, float]]


def main() -> None:
    """Print the rows, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vgg19", type=Path, metavar="H5", help="VGG19's ImageNet weights in Keras' layout")
    parser.add_argument("--squeezenet", type=Path, metavar="H5", help="SqueezeNet's ImageNet weights")
    parser.add_argument("--random", action="store_true", help="random weights of both networks, too")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {TABLE}")
    options = parser.parse_args()
    pin_threads()
    hr, sr = reference()
    rows: dict[FeatureSpace, float] = {}
    for network in LAYERS:
        file: Path | None = getattr(options, network)
        for space, value in factors(network, hr, sr, weights=file) if file else ():
            rows[space] = value
            show(space, value)
        for space, value, spread in random_factors(network, hr, sr) if options.random else ():
            rows[space] = value
            show(space, value, f"largest / smallest of {len(SEEDS)} seeds: {spread:.2f}")
    if options.write:
        write(rows)


def show(space: FeatureSpace, value: float, note: str = "") -> None:
    """Print a row."""
    print(*space, f"{value:.2e}", note, flush=True)


def reference() -> tuple[Crops, Crops]:
    """Return crops of HR and of SR, float32 [N, 96, 96, 3] in [0, 1]."""
    import skimage

    from srlib.imaging.read import read_image
    from srlib.imaging.resize import crop_to_multiple, downscale
    from srlib.models import load_model, super_resolve

    network, _ = load_model(Path("srlib/weights/psnr-x4/keras"))
    hr_crops, sr_crops = [], []
    for name in PHOTOGRAPHS:
        hr = crop_to_multiple(read_image(Path(skimage.__file__).parent / "data" / name), SCALE)
        sr = super_resolve(network, downscale(hr, SCALE)[None])[0]
        corners = product(*(range(0, size - SIDE + 1, SIDE) for size in hr.shape[:2]))
        crops = [(slice(y, y + SIDE), slice(x, x + SIDE)) for y, x in corners]
        for crop in sorted(crops, key=lambda crop: -float(hr[crop].std()))[:CROPS]:
            hr_crops.append(hr[crop] / np.float32(255))
            sr_crops.append(sr[crop])
    return np.stack(hr_crops), np.stack(sr_crops).astype(np.float32)


def factors(network: FeatureNetwork, hr: Crops, sr: Crops, *, weights: Path | None = None, seed: int = 0) -> Factors:
    """Yield the factor of every layer, before and after its ReLU, for each distance."""
    from keras import ops

    from srlib.training import losses
    from srlib.training.gan.gradient_shares import gradient_norms

    image, truth = ops.convert_to_tensor(sr), ops.convert_to_tensor(hr)
    unit = gradient_norms(lambda x: {"mae": losses.mae(truth, x)}, image)["mae"]
    for layer, before in product(LAYERS[network], (False, True)):
        features = feature_network(network, [layer], pre_activation=before, weights=weights, seed=seed)
        for distance, norm in gradient_norms(distances(features, truth), image).items():
            space = FeatureSpace(network, "file" if weights else "random", layer, before, distance)
            yield space, BALANCE * unit / norm


def distances(features: "keras.Model", truth: Any) -> Any:
    """Return a function of SR: its distances from HR in the features, without a factor."""
    from srlib.training import losses

    hr_features = features(truth)

    def compute(sr: Any) -> dict[str, Any]:
        sr_features = features(sr)
        return {name: losses.perceptual(hr_features, sr_features, scale=1.0, loss=name) for name in ("mse", "mae")}

    return compute


def random_factors(network: FeatureNetwork, hr: Crops, sr: Crops) -> Iterator[tuple[FeatureSpace, float, float]]:
    """Yield the geometric mean of the factor over the seeds, and the largest over the smallest."""
    crops = hr[::CROPS], sr[::CROPS]
    for rows in zip(*(factors(network, *crops, seed=seed) for seed in SEEDS), strict=True):
        values = [value for _, value in rows]
        yield rows[0][0], statistics.geometric_mean(values), max(values) / min(values)


def write(rows: dict[FeatureSpace, float]) -> None:
    """Replace these rows of the table; its other rows stay."""
    earlier = measured_scales() if TABLE.exists() else {}
    texts = earlier | {space.fields(): value for space, value in rows.items()}
    lines = [",".join([*fields, f"{value:.2e}"]) for fields, value in texts.items()]
    write_text(TABLE, "\n".join([",".join([*FeatureSpace._fields, "scale"]), *sorted(lines)]) + "\n")


if __name__ == "__main__":
    try:
        main()
    except SrlibError as error:
        sys.exit(f"error: {error}")
