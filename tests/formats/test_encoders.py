"""JPEG of what compresses worst, and of what Pillow alone can write."""

import io

import numpy as np
import pytest
from PIL import Image

from srlib.formats import encoders
from srlib.formats.metadata import Metadata

from .generated import exif

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"
ICC = b"profile" * 20_000  # three segments


def noise(height: int, width: int, channels: int, *, levels: int = 256) -> np.ndarray:
    steps = np.random.default_rng(0).integers(0, levels, (height, width, channels))
    return (steps * 255 // (levels - 1)).astype(np.uint8)


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 256])
def test_noise_becomes_a_jpeg_of_every_quality(channels, levels, capfd):
    pixels = noise(72, 90, channels, levels=levels)
    big = noise(300, 400, channels, levels=levels)
    for quality in range(1, 101):
        assert size_of(encoders.jpeg(pixels, Metadata(), quality)) == (90, 72)
        if quality > 88:
            assert size_of(encoders.jpeg(big, Metadata(), quality)) == (400, 300)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 65_500), (9, 65_500), (65_500, 2), (17, 3)])
def test_noise_of_odd_shapes_becomes_a_jpeg(shape, channels):
    for quality in (1, 90, 94, 95, 100):
        content = encoders.jpeg(noise(*shape, channels, levels=2), Metadata(icc=ICC), quality)
        assert size_of(content) == shape[::-1]


@pytest.mark.parametrize("quality", [75, 89, 90, 95, 100])
def test_the_bytes_are_those_of_pillow(quality):
    pixels = np.linspace(0, 255, 300 * 200 * 3).reshape(300, 200, 3).astype(np.uint8)
    data = exif(1)
    subsampling = 0 if quality >= 90 else 2
    for metadata, options in (
        (Metadata(), {}),
        (Metadata(ICC, data, XMP), {"icc_profile": ICC, "exif": b"Exif\0\0" + data, "xmp": XMP}),
    ):
        want = io.BytesIO()
        image = Image.fromarray(pixels)
        image.save(want, "JPEG", quality=quality, subsampling=subsampling, optimize=True, **options)
        assert encoders.jpeg(pixels, metadata, quality) == want.getvalue()


def test_a_jpeg_too_large_for_optimal_tables(monkeypatch):
    monkeypatch.setattr(encoders, "_OPTIMIZED", 0)
    for shape in ((1, 65_500), (300, 400)):
        assert size_of(encoders.jpeg(noise(*shape, 3, levels=2), Metadata(icc=ICC), 100)) == shape[::-1]
