"""RGB to YUV and back by every matrix and range: no shift of colors, none of their place."""

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import av

from srlib.films.color import Color, RgbConverter, from_rgb


def waves(shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:64, :96]
    x = x + shift
    channels = [128 + 90 * np.sin(x / 5), 128 + 60 * np.cos(y / 7), 128 + 90 * np.cos(x / 6 + y / 9)]
    return np.rint(np.stack(channels, -1))


def to_rgb(frame: "av.VideoFrame", color: Color) -> np.ndarray:
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return RgbConverter(color)(frame)


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("depth", [8, 10])
def test_there_and_back(matrix, is_full_range, depth):
    color = Color(matrix, is_full_range, depth=depth)
    unit = 1 if depth == 8 else 257
    rgb = (waves() * unit).astype(np.uint8 if depth == 8 else np.uint16)
    back = to_rgb(from_rgb(rgb, color), color)
    assert back.dtype == rgb.dtype
    difference = (back.astype(float) - rgb) / unit
    assert np.abs(difference[4:-4, 4:-4]).mean() < 0.6, "shifted by half a pixel it would be 3"
    assert np.abs(difference.mean((0, 1))).max() < 0.15


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("depth", [8, 10])
def test_black_and_white_are_exact(is_full_range, depth):
    color = Color(1, is_full_range, depth=depth)
    peak = 255 if depth == 8 else 65535
    rgb = np.zeros((8, 8, 3), np.uint8 if depth == 8 else np.uint16)
    rgb[:, 4:] = peak
    frame = from_rgb(rgb, color)
    luma = np.frombuffer(bytes(frame.planes[0]), np.uint8 if depth == 8 else np.uint16)
    step = 2 ** (depth - 8)
    levels = (0, 2**depth - 1) if is_full_range else (16 * step, 235 * step)
    assert (luma[0], luma[7]) == levels
    back = to_rgb(frame, color)
    assert back[0, 0].tolist() == [0, 0, 0] and back[0, 7].tolist() == [peak] * 3


def test_known_colors():
    """Red, green and blue in BT.709 with 8 bits: the values of ITU-R BT.709."""
    for rgb, yuv in (((255, 0, 0), (63, 102, 240)), ((0, 255, 0), (173, 42, 26)), ((0, 0, 255), (32, 240, 118))):
        frame = from_rgb(np.full((4, 4, 3), rgb, np.uint8), Color(1, False))
        assert tuple(bytes(plane)[0] for plane in frame.planes) == yuv


@pytest.mark.parametrize("pixel_format", ["gray", "yuv422p", "yuv444p", "nv12", "gbrp", "gbrp10le", "yuv422p10le"])
def test_other_formats_of_input(pixel_format):
    gray = np.repeat(waves()[..., :1], 3, axis=2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(gray, "rgb24").reformat(
        format=pixel_format, dst_colorspace="itu709", src_color_range="JPEG", dst_color_range="MPEG"
    )
    is_rgb, depth = pixel_format.startswith("gbr"), 10 if "10" in pixel_format else 8
    back = to_rgb(frame, Color(1, False, depth=depth, is_rgb=is_rgb)).astype(float)
    assert np.abs(back / (1 if depth == 8 else 257) - gray).max() <= 1
