"""Photographs as they were published become upright, sRGB and smaller."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from skimage import data

from srlib.data.photographs import PhotographFile, write_photographs
from srlib.errors import SrlibError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(image: Image.Image, factor: float = 1.0, **options: object) -> np.ndarray:
    """Store an image as PNG, and return what is made of it."""
    image.save("published.png", **options)
    write_photographs([PhotographFile(Path("published.png"), Path("out/made.png"), factor)])
    return np.asarray(Image.open("out/made.png"))


def test_a_photograph_is_downscaled(folder: Path) -> None:
    coffee = Image.fromarray(data.coffee()[:75, :130])
    result = made(coffee, 0.33)
    assert result.shape == (25, 43, 3)
    np.testing.assert_array_equal(result, np.asarray(coffee.resize((43, 25), Image.Resampling.BICUBIC)))
    assert made(coffee, 0.001).shape == (1, 1, 3)


def test_a_photograph_is_turned_upright(folder: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(made(Image.fromarray(pixels), exif=exif), np.rot90(pixels, -1))


def test_a_color_profile_is_converted(folder: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"####").replace(b"gXYZ", b"rXYZ").replace(b"####", b"gXYZ")
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    assert np.abs(made(red, icc_profile=swapped).astype(int) - (0, 255, 0)).max() <= 2
    assert np.abs(made(red, icc_profile=srgb).astype(int) - (255, 0, 0)).max() <= 1
    for other in (b"damaged", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()):
        np.testing.assert_array_equal(made(red, icc_profile=other), np.asarray(red))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_modes_become_rgb(mode: str, folder: Path) -> None:
    image = Image.fromarray(data.coffee()[:6, :8]).convert(mode)
    np.testing.assert_array_equal(made(image), np.asarray(image.convert("RGB")))


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    Path("a.jpg").write_bytes(b"a page of the server")
    with pytest.raises(SrlibError, match=r"^a\.jpg: cannot be decoded: .*; delete it and run again"):
        write_photographs([PhotographFile(Path("a.jpg"), Path("a.png"), 0.5)])
    Image.new("RGB", (64, 64)).save(content := io.BytesIO(), "PNG")
    Path("a.jpg").write_bytes(content.getvalue()[:60])
    with pytest.raises(SrlibError, match=r"^a\.jpg: cannot be decoded"):
        write_photographs([PhotographFile(Path("a.jpg"), Path("a.png"), 0.5)])
    assert not Path("a.png").exists()
