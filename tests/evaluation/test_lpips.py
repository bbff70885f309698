"""LPIPS against the paper's formula written anew, and on what it must order."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, evaluate, interpolation
from srlib.evaluation.lpips import KEY, TAPS, lpips, verified
from srlib.evaluation.methods import recipe_metrics
from srlib.evaluation.sets import find_sets
from srlib.imaging.write import write_png
from srlib.params import Evaluate, FeatureFile, Lpips

BACKBONE = "weights/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
LINEAR = "weights/lpips_v0.1_squeeze.npz"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    import skimage.data

    return skimage.data.chelsea()[40:168, 100:228]


def test_the_formula_of_the_paper(shared: Path, image: np.ndarray) -> None:
    from srlib.models.features import feature_network

    other = cv2.GaussianBlur(image, (0, 0), 2)
    network = feature_network("squeezenet", TAPS, weights=shared / BACKBONE)
    expected = 0.0
    with np.load(shared / LINEAR) as file:
        inside = [photo[None, 4:-4, 4:-4].astype(np.float32) / 255 for photo in (image, other)]
        for index, (x, y) in enumerate(zip(network(inside[0]), network(inside[1]), strict=True)):
            a, b = (np.asarray(f, np.float64)[0] for f in (x, y))
            a, b = (f / np.linalg.norm(f, axis=-1, keepdims=True).clip(1e-10) for f in (a, b))
            weight = file[f"lin{index}.model.1.weight"].ravel()
            expected += float((((a - b) ** 2) @ weight).mean())
    assert lpips(shared / BACKBONE, shared / LINEAR).compute(image, other, 4) == pytest.approx(expected, rel=1e-4)


def test_what_looks_worse_scores_worse(shared: Path, image: np.ndarray) -> None:
    metric = lpips(shared / BACKBONE, shared / LINEAR)
    blurred = [metric.compute(image, cv2.GaussianBlur(image, (0, 0), sigma), 4) for sigma in (0.5, 1, 2, 4)]
    assert metric.compute(image, image, 4) == 0
    assert 0 < blurred[0] < blurred[1] < blurred[2] < blurred[3]
    assert metric.better == "lower" and "SqueezeNet" in metric.title


def test_the_smallest_image_that_the_network_accepts(shared: Path, image: np.ndarray) -> None:
    metric = lpips(shared / BACKBONE, shared / LINEAR)
    assert metric.min_side == 31
    assert metric.compute(image[:39, :39], image[1:40, 1:40], 4) > 0


def test_a_column_only_where_the_recipe_names_weights(shared: Path) -> None:
    files = {}
    for key, name in (("backbone", BACKBONE), ("linear", LINEAR)):
        digest = hashlib.sha256((shared / name).read_bytes()).hexdigest()
        files[key] = FeatureFile(file=str(shared / name), sha256=digest)
    assert recipe_metrics(Evaluate(images="x")) is METRICS
    assert [*recipe_metrics(Evaluate(images="x", lpips=Lpips(**files)))] == [*METRICS, KEY]


def test_what_does_not_fit_is_named(shared: Path, tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(SrlibError, match="expected the linear weights of LPIPS"):
        lpips(shared / BACKBONE, shared / LINEAR.replace("squeeze", "vgg"))
    with pytest.raises(SrlibError, match="no such file"):
        verified(tmp_path / "none", "0" * 64, "evaluate.lpips.linear")
    with pytest.raises(SrlibError, match=r"evaluate.lpips.linear: .*expected the SHA-256 0000"):
        verified(shared / LINEAR, "0" * 64, "evaluate.lpips.linear")
    metric = lpips(shared / BACKBONE, shared / LINEAR)
    write_png(tmp_path / "Own/a.png", image)
    write_png(tmp_path / "Own/b.png", image[:36])
    with pytest.raises(SrlibError, match=r"b.png: LPIPS \(SqueezeNet\) needs 39×39 pixels, got 128×36"):
        next(evaluate(find_sets(tmp_path, 4), [interpolation("bicubic")], 4, metrics={KEY: metric}))
    assert 0 < metric.compute(image[:44, :44], image[4:48, :44], 4) < 1
