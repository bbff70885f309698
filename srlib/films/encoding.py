"""Encode frames as segments: files that each begin with a key frame and can be joined without re-encoding."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError, one_line
from srlib.films.color import Color
from srlib.films.containers import CODECS, address

if TYPE_CHECKING:
    import av

SEGMENT_MUXER = "nut"
"""Container of a segment: any codec, any time base."""

_SEGMENT_PIXELS = 2**24
_LONGEST_SEGMENT, _SHORTEST_SEGMENT = 240, 16


@dataclass(frozen=True)
class YuvFrame:
    """A frame to encode.

    Attributes:
        tick: Its time in units of the film's time base.
        duration: Its duration in the same unit, 0 where unknown.
        image: The frame in 4:2:0, with color tags.
    """

    tick: int
    duration: int
    image: "av.VideoFrame"


@dataclass(frozen=True)
class Encoding:
    """How a result is encoded.

    Attributes:
        codec: A key of `CODECS`.
        quality: 1 to 100.
        width: Width of a frame, even.
        height: Height of a frame, even.
        color: How color is stored.
        sample_aspect: Width of a pixel through its height.
        time_base: Seconds per tick.
        rate: Frames per second, on average.
    """

    codec: str
    quality: int
    width: int
    height: int
    color: Color
    sample_aspect: Fraction
    time_base: Fraction
    rate: Fraction


def segment_frames(height: int, width: int) -> int:
    """Return the number of frames in a segment of a film with frames of this size: 16 to 240.

    An interrupted run loses at most one segment, half a minute to a few minutes of work on a CPU.
    """
    return min(_LONGEST_SEGMENT, max(_SHORTEST_SEGMENT, _SEGMENT_PIXELS // (height * width)))


def encode_segment(path: Path, frames: Iterable[YuvFrame], encoding: Encoding) -> Iterator[tuple[int, int]]:
    """Encode frames into a file.

    Args:
        path: File to write.
        frames: The frames.
        encoding: How.

    Yields:
        (tick, duration) of each frame as soon as it is in the encoder. The file is complete at the end.

    Raises:
        SrlibError: The encoder refuses the frames.
        OSError: The disk is full.
    """
    import av

    codec = CODECS[encoding.codec]
    pixel_format = codec.formats[encoding.color.depth]
    os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 writes to stderr on its own
    options = {**codec.options, "crf": str(codec.crf(encoding.quality))}
    with av.open(address(path), "w", format=SEGMENT_MUXER) as container:
        container.flags |= av.container.Flags.bitexact.value
        stream = container.add_stream(codec.encoder, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = encoding.width, encoding.height, pixel_format
        context.time_base, context.framerate = encoding.time_base, encoding.rate
        context.sample_aspect_ratio = encoding.sample_aspect
        context.gop_size = _LONGEST_SEGMENT
        set_color(context, encoding.color)
        try:
            for frame in frames:
                image = frame.image
                image.pts, image.time_base, image.duration = frame.tick, encoding.time_base, frame.duration
                container.mux(stream.encode(image))
                yield frame.tick, frame.duration
            container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise SrlibError(f"{encoding.codec}: the encoder failed ({one_line(error.strerror or error)})") from error


def set_color(context: "av.VideoCodecContext", color: Color) -> None:
    """Write the color tags into a stream."""
    context.colorspace, context.color_range = color.matrix, color.range
    context.color_primaries, context.color_trc = color.primaries, color.transfer
