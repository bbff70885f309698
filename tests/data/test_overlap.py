"""Training images that show the scene of a test image, as people meet them: scaled, cropped, turned, compressed."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from typer.testing import CliRunner

from srlib.arrays import Image
from srlib.cli import app
from srlib.data.overlap import find_overlaps
from srlib.errors import SrlibError
from srlib.imaging.array_image import write_image
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left")
ROOT = Path(__file__).parents[2]


def photograph(name: str) -> Image:
    image = skimage.data.stereo_motorcycle()[0] if name == "motorcycle_left" else getattr(skimage.data, name)()
    return np.ascontiguousarray(image[..., :3])


def turned(image: Image) -> Image:
    return np.ascontiguousarray(np.rot90(image))


def smaller(image: Image) -> Image:
    size = (image.shape[1] * 2 // 5, image.shape[0] * 2 // 5)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def middle(image: Image) -> Image:
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4])


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A test set of five photographs, with LR images beside."""
    for name in NAMES:
        write_png(tmp_path / "test/Set/HR" / f"{name}.png", photograph(name))
        write_png(tmp_path / "test/Set/LR" / f"{name}.png", downscale(middle(photograph(name)), 4))
    return tmp_path / "test"


@pytest.mark.parametrize("change", [np.array, smaller, middle, turned], ids=["same", "smaller", "cropped", "turned"])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_found(name: str, change: Callable[[Image], Image], tests: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "train/deep/copy.jpg", change(photograph(name)), quality=70)
    search = find_overlaps(tmp_path / "train", tests)
    assert [(pair.image, pair.test) for pair in search.overlaps] == [
        (tmp_path / "train/deep/copy.jpg", tests / f"Set/HR/{name}.png")
    ]
    assert (search.images, search.tests, search.unreadable) == (1, 5, ())


def test_other_photographs_are_not(tests: Path, tmp_path: Path) -> None:
    for name in ("immunohistochemistry", "retina", "hubble_deep_field", "colorwheel", "logo"):
        write_png(tmp_path / f"train/{name}.png", np.ascontiguousarray(getattr(skimage.data, name)()[..., :3]))
    write_png(tmp_path / "train/flat.png", np.full((64, 64, 3), 90, np.uint8))
    search = find_overlaps(tmp_path / "train", tests)
    assert search.overlaps == () and search.images == 4
    assert search.plain == tuple(tmp_path / f"train/{name}.png" for name in ("colorwheel", "flat"))


def test_images_that_cannot_be_compared_are_named(tests: Path, tmp_path: Path) -> None:
    """An image without corners is not found in itself: 'no overlap found' would say too much."""
    dark = photograph("chelsea") // 40
    write_png(tests / "Set/HR/dark.png", dark)
    write_png(tmp_path / "train/dark.png", dark)
    result = CliRunner().invoke(app, ["overlap", str(tmp_path / "train"), str(tests)])
    assert result.exit_code == 0
    assert f"with too few corners, as a dark or blurred image has: {tests}/Set/HR/dark.png and 1 more" in result.stderr
    assert "0 images compared with 5 test images: no overlap found" in result.stdout


def test_the_published_training_set_that_holds_a_test_image(tmp_path: Path) -> None:
    """`woman` of Set5 is a photograph of BSD400, which is usually trained on."""
    data = ROOT.parent / "shared/data"
    bsd400, woman = (
        data / "train/bsd400/302003.jpg",
        data / "mirror/SelfExSR/data/Set5/image_SRF_4/img_005_SRF_4_HR.png",
    )
    if not (bsd400.exists() and woman.exists()):
        pytest.skip("needs the photographs of ../shared/data")
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "train/302003.jpg").symlink_to(bsd400)
    (tmp_path / "test/woman.png").symlink_to(woman)
    (overlap,) = find_overlaps(tmp_path / "train", tmp_path / "test").overlaps
    assert overlap.points > 100


def test_the_command(tests: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "train/copy.jpg", photograph("coffee"), quality=80)
    (tmp_path / "train/broken.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["overlap", str(tmp_path / "train"), str(tests)])
    assert result.exit_code == 1
    assert f"{tmp_path}/train/copy.jpg: the same scene or subject as {tests}/Set/HR/coffee.png (" in result.output
    assert "left out: " in result.output and "broken.png" in result.output
    assert "1 images compared with 5 test images: 1 to leave out of the training" in result.output
    (tmp_path / "train/copy.jpg").unlink()
    write_png(tmp_path / "train/other.png", skimage.data.retina()[::4, ::4])
    result = CliRunner().invoke(app, ["overlap", str(tmp_path / "train"), str(tests)])
    assert result.exit_code == 1, "one image is not known"
    assert "1 images compared with 5 test images: no overlap found" in result.output
    (tmp_path / "train/broken.png").unlink()
    result = CliRunner().invoke(app, ["overlap", str(tmp_path / "train"), str(tests)])
    assert result.exit_code == 0 and "no overlap found" in result.output and "left out" not in result.output


def test_nothing_to_compare_is_one_line(tests: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SrlibError, match="empty: expected a folder of images, found none"):
        find_overlaps(tmp_path / "empty", tests)
    with pytest.raises(SrlibError, match="no such folder"):
        find_overlaps(tests, tmp_path / "missing")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"no image")
    with pytest.raises(SrlibError, match=r"none of the test images can be read:\n.*a\.png"):
        find_overlaps(tests, tmp_path / "broken")
    (tests / "Set/HR").rename(tmp_path / "elsewhere")
    with pytest.raises(SrlibError, match="found only images in folders named LR"):
        find_overlaps(tmp_path / "elsewhere", tests)
