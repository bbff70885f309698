"""Read films: what they are, and their frames as RGB with their times.

Only regular files are opened, by FFmpeg's demuxer for their content, which may open no other file and no address.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.arrays import Pixels
from srlib.errors import SrlibError, one_line
from srlib.films import matroska
from srlib.films.color import Color, RgbConverter, color_of
from srlib.films.containers import address, demuxer_of

if TYPE_CHECKING:
    import av

_PROGRESSIVE = (0, 1)
"""FFmpeg's codes for a stream that does not name its field order, or has none."""

_LATE = 0.1
"""Seconds by which a film may end before its header says so, besides two frames, whose durations may be unknown."""

_HIGHEST_RATE = 1000
"""Frames per second; a header that says more is damaged or has no rate."""

_ONE_FRAME_PER_PACKET = {"av1", "ffv1", "h264", "hevc", "mjpeg", "prores", "vp9"}
"""FFmpeg's names of codecs without packets that show nothing, as VP8 and MPEG-4 have."""


@dataclass(frozen=True)
class Film:
    """A film and its first video stream.

    Attributes:
        path: The file.
        width: Width of a frame in pixels, before any rotation.
        height: Height of a frame.
        color: How it stores color.
        time_base: Seconds per tick of frame times.
        rate: Frames per second, on average.
        frames: Number of frames according to the header, estimated from the duration where it holds none.
        is_counted: Whether `frames` is the header's number of frames.
        codec: FFmpeg's name of its codec.
        start: Time of the first frame in ticks.
        duration: Seconds of the longest stream according to the header, or None.
        sample_aspect: Width of a pixel through its height.
        display_matrix: Nine numbers that say how a player rotates the frames, or None.
        has_alpha: Whether its frames have transparency.
    """

    path: Path
    width: int
    height: int
    color: Color
    time_base: Fraction
    rate: Fraction
    frames: int
    is_counted: bool
    codec: str
    start: int
    duration: float | None
    sample_aspect: Fraction
    display_matrix: tuple[int, ...] | None
    has_alpha: bool

    def frames_within(self, seconds: float | None) -> int:
        """Return the expected number of frames in the first `seconds`, or in all."""
        return self.frames if seconds is None else min(self.frames, max(1, round(seconds * self.rate)))

    def end_tick(self, seconds: float | None) -> float:
        """Return the tick from which frames are outside the first `seconds`."""
        return float("inf") if seconds is None else float(self.start + Fraction(seconds) / self.time_base)


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        tick: Its time in units of the film's time base.
        duration: Its duration in the same unit, 0 where unknown.
        rgb: uint8 or uint16 [height, width, 3].
    """

    tick: int
    duration: int
    rgb: Pixels


def open_film(path: Path) -> "av.container.InputContainer":
    """Open a film; see the module.

    Raises:
        SrlibError: Not a film, or one whose header is damaged.
        OSError: Missing or unreadable.
    """
    import av

    demuxer = demuxer_of(path)
    try:
        return av.open(
            address(path),
            format=demuxer,
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file"},
        )
    except (av.error.FFmpegError, OSError) as error:
        raise SrlibError(
            f"{path}: cannot be read as a film, its header is damaged or missing, as in a file that was cut off "
            f"({one_line(error.strerror or error)})"
        ) from error


def describe_film(path: Path) -> Film:
    """Return what a film is, from its header and its first frame.

    Raises:
        SrlibError: No video, no frame that can be decoded, or a kind that is refused: interlaced, HDR.
        OSError: Missing or unreadable.
    """
    with open_film(path) as container:
        stream = video_of(container, path)
        frame = _first_frame(container, stream, path)
        order = stream.codec_context.field_order
        if frame.interlaced_frame or order not in _PROGRESSIVE:
            raise SrlibError(
                f"{path}: interlaced; convert it to whole frames first: "
                "ffmpeg -i FILM -vf bwdif -crf 10 -c:a copy PROGRESSIVE.mkv"
            )
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        rate = min(max(Fraction(rate), Fraction(1, 1000)), Fraction(_HIGHEST_RATE))
        duration = None if container.duration is None else container.duration / 1_000_000
        seconds = 0.0
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        elif duration is not None:  # that of Matroska counts from zero
            seconds = duration - max(0.0, float((stream.start_time or 0) * stream.time_base))
        return Film(
            path,
            frame.width,
            frame.height,
            color_of(frame, stream.codec_context.name, str(path)),
            Fraction(stream.time_base),
            rate,
            max(1, stream.frames or round(seconds * rate)),
            bool(stream.frames),
            stream.codec_context.codec.canonical_name,
            int(frame.pts or 0),
            duration,
            Fraction(stream.sample_aspect_ratio or 1),
            _display_matrix(frame),
            any(component.is_alpha for component in frame.format.components)
            or stream.metadata.get("alpha_mode") == "1",
        )


def video_of(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    """Return the first video stream that is no cover image."""
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise SrlibError(f"{path}: holds no video")
    return streams[0]


def _first_frame(container: "av.container.InputContainer", stream: "av.VideoStream", path: Path) -> "av.VideoFrame":
    faults = Faults()
    frame = next(_decoded(container, stream, faults), None)
    if frame is None:
        raise SrlibError(f"{path}: no frame can be decoded ({faults.error or 'the video is empty'})")
    return frame


def _display_matrix(frame: "av.VideoFrame") -> tuple[int, ...] | None:
    from av.sidedata.sidedata import Type

    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            return tuple(int(number) for number in np.frombuffer(bytes(data), np.int32))
    return None


@dataclass
class Faults:
    """What was wrong with a film.

    Attributes:
        read: Packets of the video that were read.
        decoded: Frames that were decoded.
        packets: Packets that could not be decoded.
        discarded: Packets outside an edit list, which are not to be shown.
        damaged: Decoded frames that the decoder marked as damaged.
        interlaced: Interlaced frames.
        untimed: Frames that were left out because they have no time after that of the frame before.
        resized: Number of the first frame of another size, with which reading ended.
        unsupported: Why reading ended with a frame whose color is not supported.
        start: Time in seconds at which the film starts; the duration in a header counts from zero.
        end: Seconds from there to the end of the last packet of any stream.
        error: Message of the last error.
    """

    read: int = 0
    decoded: int = 0
    packets: int = 0
    discarded: int = 0
    damaged: int = 0
    interlaced: int = 0
    untimed: int = 0
    resized: int | None = None
    unsupported: str | None = None
    start: float = 0.0
    end: float = 0.0
    error: str | None = None


@dataclass
class FrameReader:
    """Decodes the frames of a film.

    Attributes:
        film: The film.
        seconds: Only the frames of the first so many seconds; None for all.
        times: (tick, duration) of each frame to pass over at the start, as an earlier run recorded them.
        count: Number of frames read so far, those passed over included.
        faults: What was wrong so far.
    """

    film: Film
    seconds: float | None = None
    times: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0
    faults: Faults = field(default_factory=Faults)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames after those to pass over, in the order of their times.

        Raises:
            SrlibError: The frames passed over have other times than recorded.
        """
        film, last, end = self.film, None, self.film.end_tick(self.seconds)
        convert = RgbConverter(film.color)
        with open_film(film.path) as container:
            for frame in _decoded(container, video_of(container, film.path), self.faults):
                if (frame.height, frame.width) != (film.height, film.width):
                    self.faults.resized = self.count + 1
                    return
                if frame.pts is None or (last is not None and frame.pts <= last):
                    self.faults.untimed += 1
                    continue
                if frame.pts >= end:
                    return
                last = int(frame.pts)
                self.faults.damaged += bool(frame.is_corrupt)
                self.faults.interlaced += bool(frame.interlaced_frame)
                if self.count >= len(self.times):
                    try:
                        rgb = convert(frame, f"frame {self.count + 1}")
                    except SrlibError as error:
                        self.faults.unsupported = str(error)
                        return
                self.count += 1
                if self.count > len(self.times):
                    yield Frame(last, int(frame.duration or 0), rgb)
                elif last != self.times[self.count - 1][0]:
                    raise SrlibError(f"{film.path}: frame {self.count} has another time than in the earlier run")

    def problems(self) -> list[str]:
        """Return what is missing from the film or looks wrong in it, in the words of a message."""
        film, faults = self.film, self.faults
        problems = []
        if self.seconds is None:
            expected = film.frames - faults.discarded
            if film.is_counted and self.count < expected:
                missing = expected - self.count
                problems.append(
                    f"{missing} of {expected} frames {'is' if missing == 1 else 'are'} missing or cannot be decoded"
                )
            elif film.duration is not None and faults.start + faults.end < film.duration - _LATE - 2 / film.rate:
                problems.append(f"is cut off after {faults.start + faults.end:.1f} of {film.duration:.1f} seconds")
            elif film.codec in _ONE_FRAME_PER_PACKET and not film.is_counted and faults.decoded < faults.read:
                problems.append(f"{faults.read - faults.decoded} of {faults.read} frames cannot be decoded")
            elif faults.packets:
                problems.append(f"{faults.packets} packet{'s' * (faults.packets > 1)} cannot be decoded")
            problems += matroska.damage(film.path)
        lines = (
            (faults.damaged, "frame is damaged", "frames are damaged"),
            (faults.interlaced, "frame is interlaced, seen as combs", "frames are interlaced, seen as combs"),
            (faults.untimed, "frame without a valid time was left out", "frames without a valid time were left out"),
        )
        problems += [f"{number} {one if number == 1 else several}" for number, one, several in lines if number]
        if faults.resized is not None:
            problems.append(f"frame {faults.resized} has another size; the result ends before it")
        if faults.unsupported is not None:
            problems.append(f"{faults.unsupported}; the result ends before it")
        if problems and faults.error:
            problems[-1] += f" ({faults.error})"
        return problems


def _decoded(
    container: "av.container.InputContainer", stream: "av.VideoStream", faults: Faults
) -> Iterator["av.VideoFrame"]:
    """Yield what can be decoded of a stream; note the rest."""
    import av

    others = [other for other in container.streams if other.type in ("audio", "subtitle")]
    packets = container.demux(stream, *others)
    faults.start = start = max(0, container.start_time or 0) / 1_000_000
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            faults.error = one_line(error.strerror if isinstance(error, OSError) and error.strerror else error)
            packet = None
        if packet is not None and packet.pts is not None and packet.size:
            faults.end = max(faults.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
        if packet is not None and packet.stream is not stream:
            continue
        if packet is not None and packet.size:
            faults.read += 1
            faults.discarded += packet.is_discard
        try:
            for frame in stream.decode(packet if packet is not None and packet.size else None):
                faults.decoded += 1
                yield frame
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, ValueError) as error:
            faults.packets += 1
            faults.error = one_line(error.strerror if isinstance(error, av.error.FFmpegError) else error)
        if packet is None:
            return
