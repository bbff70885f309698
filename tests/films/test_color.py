"""RGB to YUV and back by every matrix and range: no shift of colors, none of their place."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import av

from srlib.films.color import Color, RgbConverter, from_rgb
from srlib.films.reading import FrameReader, describe_film


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


@pytest.mark.parametrize("later", [Color(1, False), Color(6, True), Color(9, False)])
def test_frames_of_a_joined_film_are_read_by_their_own_tags(later):
    """Read by the matrix and range of the first frame, colors would be off by 6 levels on average."""
    first, rgb = Color(6, False), waves().astype(np.uint8)
    convert = RgbConverter(first)
    for color in (first, later, first):
        frame = from_rgb(rgb, color)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        assert np.abs(convert(frame).astype(float) - rgb)[4:-4, 4:-4].mean() < 0.6


def test_what_a_frame_does_not_name_is_as_in_the_film():
    color, rgb = Color(9, True), waves().astype(np.uint8)
    frame = from_rgb(rgb, color)
    frame.colorspace, frame.color_range = 2, 0
    assert np.abs(to_rgb(frame, color).astype(float) - rgb)[4:-4, 4:-4].mean() < 0.6


def joined(path: Path, *tags: tuple[Color, int]) -> Path:
    """Write a film of three frames in each color, joined without re-encoding; the tags are color and transfer."""
    with av.open(str(path), "w") as out:
        stream = None
        for part, (color, transfer) in enumerate(tags):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.colorspace, encoder.color_range, encoder.color_trc = color.matrix, color.range, transfer
            encoder.options = {"crf": "1", "x264-params": "repeat-headers=1:annexb=0:bframes=0"}
            if stream is None:
                stream = out.add_stream("libx264", rate=25, options=dict(encoder.options))
                encoder = stream.codec_context
                encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
                encoder.colorspace, encoder.color_range = color.matrix, color.range
            frames = [from_rgb(waves().astype(np.uint8), color) for _ in range(3)]
            packets = []
            for number, frame in enumerate(frames):
                frame.pts, frame.time_base = 3 * part + number, Fraction(1, 25)
                frame.color_trc = transfer
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                out.mux(packet)
    return path


def test_a_joined_film_has_the_same_colors_throughout(tmp_path):
    source = joined(tmp_path / "a.mp4", (Color(6, False), 2), (Color(1, True), 2))
    frames = list(FrameReader(describe_film(source)).frames())
    assert len(frames) == 6
    for frame in frames:
        assert np.abs(frame.rgb.astype(float) - waves())[4:-4, 4:-4].mean() < 1.5


def test_hdr_within_a_film_ends_it(tmp_path):
    reader = FrameReader(describe_film(joined(tmp_path / "a.mp4", (Color(6, False), 2), (Color(6, False), 16))))
    assert len(list(reader.frames())) == 3
    assert reader.problems() == [
        "3 of 6 frames are missing or cannot be decoded",
        "frame 4: HDR (PQ) is not supported, the networks are trained on SDR; convert it to SDR first; "
        "the result ends before it",
    ]
