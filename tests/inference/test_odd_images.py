"""Three hundred generated odd images: every mode, depth and format, 1 to 70 pixels, through the whole path."""

import io
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from srlib.formats.encoders import FORMATS
from srlib.imaging.image_file import ImageFile, encode_image_file, read_image_file
from srlib.imaging.resize import resize
from srlib.inference.output_size import size_of
from srlib.inference.upscale import upscale_image

MODES = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "TIFF", "BMP", "GIF"),
    "P transparent": ("PNG", "GIF"),
    "RGB": ("PNG", "JPEG", "TIFF", "WEBP", "BMP"),
    "RGBA": ("PNG", "TIFF", "WEBP"),
    "CMYK": ("JPEG", "TIFF"),
    "L 16": ("PNG", "TIFF"),
    "RGB 16": ("PNG", "TIFF"),
    "RGBA 16": ("PNG", "TIFF"),
}
KINDS = [(mode, format) for mode, formats in MODES.items() for format in formats]
GRAY, DEEP = {"1", "L", "LA", "L 16"}, {"L 16", "RGB 16", "RGBA 16"}
ALPHA = {"LA", "P transparent", "RGBA", "RGBA 16"}


def drawn(mode: str, format: str, height: int, width: int, seed: int) -> bytes:
    """A file of noise in blocks, written by Pillow, or by OpenCV where it has 16 bits."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 3), -(-width // 3), 4), np.uint8)
    rgba = coarse.repeat(3, 0).repeat(3, 1)[:height, :width].copy()
    rgba[..., 3][rgba[..., 3] < 90] = 0
    rgba[..., 3][rgba[..., 3] > 160] = 255
    if mode in DEEP:
        deep = rgba.astype(np.uint16) * 256 + rng.integers(0, 256, rgba.shape, np.uint16)
        deep[..., 3][rgba[..., 3] == 0] = 0
        channels = {"L 16": deep[..., 0], "RGB 16": deep[..., :3], "RGBA 16": deep}[mode]
        return cv2.imencode(".png" if format == "PNG" else ".tiff", channels)[1].tobytes()
    image = Image.fromarray(rgba)
    image = image.convert("RGB").quantize(7) if mode.startswith("P") else image.convert(mode)
    out = io.BytesIO()
    image.save(out, format, **({"transparency": 2} if mode == "P transparent" else {}))
    return out.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
    target=st.sampled_from(sorted(FORMATS)),
    factor=st.sampled_from([Fraction(4), Fraction(2), Fraction(3, 2), Fraction(1)]),
)
def test_any_image_becomes_the_same_image_upscaled(bicubic, kind, height, width, seed, target, factor):
    mode, format = kind
    source = read_image_file(Path("a"), drawn(mode, format, height, width, seed))
    assert source.rgb.shape == (height, width, 3)
    assert source.gray == (mode in GRAY) or format in ("WEBP", "GIF", "BMP")
    assert (source.rgb.dtype == np.uint16) == (mode in DEEP)
    # WebP leaves an opaque alpha out, and a palette may not use its transparent color.
    assert (source.alpha is not None) == (mode in ALPHA) or mode == "P transparent" or format == "WEBP"
    result = upscale_image(source, bicubic, factor)
    content, _ = encode_image_file(result, target, quality=100)
    again = read_image_file(Path("a"), content)
    size = size_of(height, width, factor)
    assert again.rgb.shape[:2] == result.rgb.shape[:2] == size
    assert result.rgb.dtype == source.rgb.dtype
    if target in ("png", "tiff"):
        assert (again.alpha is None) == (result.alpha is None)
        np.testing.assert_array_equal(again.rgb, result.rgb)
        np.testing.assert_array_equal(again.alpha, result.alpha)
        assert again.gray == source.gray
    if source.gray:
        assert (result.rgb == result.rgb[..., :1]).all()
    if source.alpha is None and not source.gray:
        np.testing.assert_array_equal(result.rgb, resize(resize(source.rgb, 4), factor / 4))
    with Image.open(io.BytesIO(content)) as other:  # a second reader
        assert other.size == size[::-1]
        other.load()
        if source.alpha is not None and target != "jpeg" and source.alpha.min() < source.alpha.max():
            assert other.has_transparency_data


@pytest.fixture(scope="module")
def network():
    """The model that comes with srlib."""
    from srlib.inference.shipped import CLEAN_MODEL, shipped_models
    from srlib.inference.upscaler import open_model

    if CLEAN_MODEL not in shipped_models():
        pytest.skip(f"no {CLEAN_MODEL} in this installation")
    return open_model(CLEAN_MODEL)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_shipped_model_takes_any_image(network, kind, height, width, seed):
    source = read_image_file(Path("a"), drawn(*kind, height, width, seed))
    result = upscale_image(source, network, Fraction(network.scale))
    again = read_image_file(Path("a"), encode_image_file(result, "png")[0])
    assert again.rgb.shape[:2] == size_of(height, width, Fraction(network.scale))
    assert again.rgb.dtype == source.rgb.dtype and again.gray == source.gray
    np.testing.assert_array_equal(again.rgb, result.rgb)
    np.testing.assert_array_equal(again.alpha, result.alpha)


def test_the_shipped_model_makes_no_bands_on_a_16_bit_ramp(network):
    """A slow ramp of 16 bits: what an 8-bit image shows as 12 bands."""
    ramp = np.linspace(20000, 23000, 64).astype(np.uint16)
    source = ImageFile(np.broadcast_to(ramp[None, :, None], (48, 64, 3)).copy())
    got = upscale_image(source, network, Fraction(4)).rgb[64:-64, 64:-64].astype(float)
    want = resize(source.rgb, 4)[64:-64, 64:-64].astype(float)
    assert np.abs(got - want).max() < 257, "less than one level of 8 bits"
    assert len(np.unique(got)) > 60
