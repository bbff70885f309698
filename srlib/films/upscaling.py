"""Upscale one film: decoding, network and encoding at the same time, segment by segment."""

import itertools
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from srlib.atomic import atomic_path, remove
from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.films.ahead import ahead
from srlib.films.color import from_rgb
from srlib.films.containers import CODECS, Container, codec_for, container_of
from srlib.films.encoding import Encoding, YuvFrame, encode_segment, segment_frames
from srlib.films.muxing import write_film
from srlib.films.options import FilmModel, FilmOptions
from srlib.films.reading import Film, Frame, FrameReader, describe_film
from srlib.films.segments import Segment, WorkFolder, open_work_folder
from srlib.films.yuv import YuvUpscaler
from srlib.imaging.array_image import from_array
from srlib.inference.limits import Stopwatch, prepare_folder
from srlib.inference.notes import size_notes
from srlib.inference.output_size import OutputSize, Target, size_of
from srlib.inference.upscale import RgbModel, upscale_image
from srlib.inference.upscaler import Upscaler
from srlib.memory import free_memory
from srlib.progress import progress
from srlib.signals import Stopped, report_stop

LONGEST_WORK = 24 * 3600
"""Estimated seconds above which a film is upscaled only on request."""

_ANNOUNCED = 2**24
"""Films of at least this many LR pixels in all print their size and estimated time first."""

_WAITING = 2
"""Frames that wait between two steps."""

_BYTES_PER_PIXEL = 90
"""Memory for each pixel of a result's frame: RGB in three steps, and YUV in the encoder's lookahead and threads."""

_TYPICAL_BITS = 0.15
"""Bits per pixel of an encoded film, to warn beforehand of a disk that is too small."""


@dataclass(frozen=True)
class FilmOutcome:
    """What became of a film that was upscaled.

    Attributes:
        problems: What is missing from it, in the words of a message.
        notes: What a user should know.
    """

    problems: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _Plan:
    film: Film
    target: Path
    container: Container
    encoding: Encoding
    notes: list[str]


def upscale_one_film(source: Path, target: Path, model: FilmModel, options: FilmOptions) -> FilmOutcome:
    """Upscale a film to a file, which appears whole or not at all.

    Finished segments stay in a work folder beside `target` until then: an interrupted run continues from them when it
    is started again with the same film, model and options.

    Args:
        source: The film.
        target: The file to write; its ending gives the container.
        model: Upscales one RGB image.
        options: How.

    Returns:
        What could not be decoded, and what could not be kept.

    Raises:
        SrlibError: The film is refused, or nothing of it can be decoded.
        OSError: A file cannot be read or written.
    """
    plan = _plan(source, target, model, options)
    _announce(plan, model, options)
    identity = {
        "film": file_hash(source),
        "model": model.fingerprint,
        "software": _software(),
        **{name: str(value) for name, value in asdict(plan.encoding).items()},
        "encoder": str(CODECS[plan.encoding.codec].options),
        "consistent": str(options.consistent),
        "seconds": str(options.seconds),
    }
    with open_work_folder(target, identity) as work:
        segments, reader = _upscale_frames(plan, model, options, work)
        if not segments:
            raise SrlibError(f"{source}: no frame can be decoded ({reader.faults.error or 'the video is empty'})")
        with atomic_path(target) as temporary:
            notes = write_film(temporary, plan.film, segments, plan.encoding, plan.container, options.seconds)
        remove(work.path)
    return FilmOutcome(reader.problems(), [*plan.notes, *notes])


def requested_size(film: Film, size: OutputSize, model_scale: int) -> Target:
    """Return what the frames of a film are brought to, before sides are made even.

    Raises:
        SrlibError: The result would be too large; names the film.
    """
    try:
        return size.target(film.height, film.width, model_scale)
    except SrlibError as error:
        raise SrlibError(f"{film.path}: {error}") from error


def _plan(source: Path, target: Path, model: FilmModel, options: FilmOptions) -> _Plan:
    """Decide everything about a result before any work."""
    film, container = describe_film(source), container_of(target)
    codec = codec_for(container, film.color.depth, options.codec)
    requested = requested_size(film, options.size, model.scale)
    asked = size_of(film.height, film.width, requested)
    height, width = (max(2, side - side % 2) for side in asked)
    notes = list(size_notes(film.height, film.width, requested, model.scale))
    if (height, width) != asked:
        notes.append(f"{width}×{height} instead of {asked[1]}×{asked[0]} pixels: films need even sizes")
    if container.in_milliseconds and (film.time_base.numerator * 1000) % film.time_base.denominator:
        notes.append(f"{container.name} stores times in milliseconds: frame times are rounded to them")
    if film.has_alpha:
        notes.append("transparency is not kept")
    if max(height, width) > (longest := CODECS[codec].longest):
        raise SrlibError(f"{source}: {width}×{height} pixels are too many for {codec} (at most {longest:,} per side)")
    needed, free = _BYTES_PER_PIXEL * height * width, free_memory()
    if free is not None and needed > free:
        raise SrlibError(
            f"{source}: frames of {width}×{height} pixels need about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free; ask for a smaller size"
        )
    encoding = Encoding(
        codec, options.quality, width, height, film.color, film.sample_aspect, film.time_base, film.rate
    )
    return _Plan(film, target, container, encoding, notes)


def _announce(plan: _Plan, model: FilmModel, options: FilmOptions) -> None:
    """Print size and estimated time of long work; refuse what takes days; make the folder."""
    film, encoding = plan.film, plan.encoding
    frames = film.frames_within(options.seconds)
    pixels = frames * film.height * film.width
    prepare_folder(plan.target, frames * encoding.height * encoding.width * _TYPICAL_BITS / 8)
    if pixels < _ANNOUNCED:
        return
    stopwatch = Stopwatch(model)
    size = f"{film.width}×{film.height} to {encoding.width}×{encoding.height} pixels, {frames:,} frames"
    if stopwatch.seconds_for(pixels) > LONGEST_WORK and not options.allow_large:
        raise SrlibError(
            f"{film.path}: {size} take about {stopwatch.time_for(pixels)}; use --allow-large to upscale it, "
            "or --preview 10 to see its first 10 seconds"
        )
    print(f"{film.path}: {size}, about {stopwatch.time_for(pixels)}", file=sys.stderr)


def _upscale_frames(
    plan: _Plan, model: FilmModel, options: FilmOptions, work: WorkFolder
) -> tuple[list[Segment], FrameReader]:
    """Bring the work folder to the end of the film; return all segments, and the reader for what was wrong."""
    film, segments = plan.film, work.finished()
    times = [time for segment in segments for time in segment.times]
    reader = FrameReader(film, options.seconds, times)
    length = segment_frames(film.height, film.width)
    expected = film.frames_within(options.seconds)
    total, is_over = max(expected, len(times)), threading.Event()
    try:
        with (
            progress(total, "upscaling", "frames", start=len(times), is_estimated=True) as advance,
            closing(ahead(reader.frames(), _WAITING)) as frames,
            closing(
                ahead(
                    _upscaled(frames, plan, model, options, is_over),
                    _WAITING,
                    on_wait=lambda: advance(0),
                    is_closed=is_over,
                )
            ) as results,
        ):
            while (first := next(results, None)) is not None:
                number = len(segments)
                batch = itertools.chain([first], itertools.islice(results, length - 1))
                written = []
                with work.writing(number) as path:
                    for time in encode_segment(path, batch, plan.encoding):
                        written.append(time)
                        advance()
                segments.append(work.finish(number, written))
    except (KeyboardInterrupt, Stopped) as error:
        done = sum(len(segment.times) for segment in segments)
        report_stop(error, f"stopped: {done} of {expected} frames are done; run it again to continue")
        raise
    return segments, reader


class _Over(Exception):  # noqa: N818 no error
    """Nobody needs the frame that is being upscaled."""


def _upscaled(
    frames: Iterable[Frame], plan: _Plan, model: RgbModel, options: FilmOptions, is_over: threading.Event
) -> Generator[YuvFrame, None, None]:
    """Upscale frames; the one in work is given up when `is_over` is set."""
    film, color = plan.film, plan.encoding.color
    target = plan.encoding.height, plan.encoding.width
    is_the_networks = target == (film.height * model.scale, film.width * model.scale) and not options.consistent
    by_network = None
    if is_the_networks and color.depth == 8 and isinstance(model, Upscaler):
        by_network = YuvUpscaler(model, color)

    def look(pixels: int) -> None:
        if is_over.is_set():
            raise _Over

    for frame in frames:
        image = by_network(frame.rgb, on_pixels=look) if by_network else None
        if image is None:
            lr = from_array(frame.rgb)
            image = from_rgb(upscale_image(lr, model, target, consistent=options.consistent, on_pixels=look).rgb, color)
        yield YuvFrame(frame.tick, frame.duration, image)


def _software() -> str:
    """Return the versions of what encodes."""
    import av

    return f"PyAV {av.__version__}, FFmpeg {av.library_versions['libavcodec']}"
