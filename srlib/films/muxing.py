"""Join segments and the other streams of a film into the result, without re-encoding either."""

import heapq
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError, one_line
from srlib.films.containers import Container, address
from srlib.films.encoding import SEGMENT_MUXER, Encoding, set_color
from srlib.films.reading import Film, open_film, video_of
from srlib.films.segments import Segment

if TYPE_CHECKING:
    import av

_STALE_TAGS = ("DURATION", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER")
"""Beginnings of tags that describe the encoded stream that is replaced."""

_FILE_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Tags that belong to the container of the input."""

_NO_TEXT = b"\0\0"
"""An empty subtitle in MP4."""

Timed = tuple[float, int, "av.Packet"]
"""Time in seconds, a number that decides between equal times, a packet."""


def write_film(
    path: Path,
    film: Film,
    segments: Sequence[Segment],
    encoding: Encoding,
    container: Container,
    seconds: float | None = None,
) -> list[str]:
    """Write the result.

    Args:
        path: File to write.
        film: The film that was upscaled.
        segments: Its upscaled frames.
        encoding: How they were encoded.
        container: Kind of file.
        seconds: Only the first so many seconds of the other streams.

    Returns:
        What the container cannot hold, in the words of a message.

    Raises:
        SrlibError: The container refuses a stream.
        OSError: The disk is full.
    """
    import av

    output = av.open(address(path), "w", format=container.muxer, container_options=dict(container.options))
    try:
        with open_film(film.path) as source, output, closing(_video_packets(segments, film)) as video:
            output.flags |= av.container.Flags.bitexact.value
            output.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _FILE_TAGS})
            target = _add_video(output, source, segments[0], film, encoding)
            targets, notes = _add_others(output, source, film, container)
            limit = None if seconds is None else film.end_tick(seconds) * film.time_base
            if chapters := _chapters(source, limit):
                output.set_chapters(chapters)
            others = _other_packets(source, targets, limit, container)
            for _, number, packet in heapq.merge(video, others):
                packet.stream = target if number == -1 else targets[number]
                output.mux(packet)
            return notes
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise SrlibError(f"{container.name} cannot hold this film ({one_line(error.strerror or error)})") from error


def _add_video(
    output: "av.container.OutputContainer",
    source: "av.container.InputContainer",
    segment: Segment,
    film: Film,
    encoding: Encoding,
) -> "av.VideoStream":
    """Add the stream of the upscaled frames, with the tags of the film's."""
    import av

    with av.open(address(segment.path), format=SEGMENT_MUXER) as encoded:
        stream = output.add_stream_from_template(encoded.streams.video[0], opaque=True)
    stream.time_base = film.time_base
    set_color(stream.codec_context, encoding.color)
    stream.codec_context.sample_aspect_ratio = encoding.sample_aspect
    if encoding.codec == "hevc" and output.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players want
    if film.display_matrix is not None:
        stream.set_display_matrix(film.display_matrix)
    original = video_of(source, film.path)
    stream.metadata.update({k: v for k, v in original.metadata.items() if not k.upper().startswith(_STALE_TAGS)})
    stream.disposition = original.disposition
    return stream


def _add_others(
    output: "av.container.OutputContainer", source: "av.container.InputContainer", film: Film, container: Container
) -> tuple[dict[int, "av.Stream"], list[str]]:
    """Add the other streams; return them by their index in the source, and what cannot be held."""
    targets: dict[int, av.Stream] = {}
    lost: Counter[str] = Counter()
    main = video_of(source, film.path)
    for stream in source.streams:
        if stream is main or (stream.type == "data" and source.chapters()):
            continue  # in MP4 the titles of chapters are a stream, which is written anew
        name = f"{stream.type} ({stream.codec_context.name})" if stream.codec_context else stream.type
        if stream.type == "attachment" and container.muxer == "matroska" and stream.data:
            title = stream.metadata.get("filename", "attachment")
            output.add_attachment(title, stream.mimetype or "application/octet-stream", stream.data)
        elif stream.type in ("audio", "subtitle") and stream.codec_context is not None:
            try:
                target = output.add_stream_from_template(stream, opaque=True)
            except ValueError:
                lost[name] += 1
                continue
            target.time_base = stream.time_base
            target.metadata.update(stream.metadata)
            target.disposition = stream.disposition
            targets[stream.index] = target
        else:
            lost[name] += 1
    streams = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in lost.items())
    hint = "; Matroska (.mkv) holds more kinds" if not container.in_milliseconds else ""
    return targets, [f"{container.name} does not keep: {streams}{hint}"] if lost else []


def _chapters(source: "av.container.InputContainer", limit: float | None) -> list[dict[str, object]]:
    """Return the chapters, cut at a time in seconds."""
    chapters = source.chapters()
    if limit is None:
        return list(chapters)
    inside = [chapter for chapter in chapters if chapter["start"] * chapter["time_base"] < limit]
    return [{**chapter, "end": min(chapter["end"], int(limit / chapter["time_base"]))} for chapter in inside]


def _video_packets(segments: Sequence[Segment], film: Film) -> Generator[Timed, None, None]:
    """Yield the packets of all segments with the times of the film.

    An encoder may reorder frames. The decoding times are the frame times in order, as late as the deepest reordering
    of all segments demands, so that they increase over the joints too.
    """
    import av

    times = [time for segment in segments for time in segment.times]
    ticks = [tick for tick, _ in times]
    # A frame lasts until the next: what MP4 says about the duration of reordered frames is that of others.
    ends = [*ticks[1:], ticks[-1] + max(times[-1][1], round(1 / film.rate / film.time_base), 1)]
    orders = [_order(segment) for segment in segments]
    depth = max(depth for _, depth in orders)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
    number = first = 0
    for segment, (ranks, _) in zip(segments, orders, strict=True):
        with av.open(address(segment.path), format=SEGMENT_MUXER) as container:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                place = first + ranks[packet.pts]
                packet.time_base = film.time_base
                packet.pts, packet.duration = ticks[place], ends[place] - ticks[place]
                packet.dts = ticks[number - depth] if number >= depth else ticks[0] - (depth - number) * step
                yield float(packet.dts * film.time_base), -1, packet
                number += 1
        first = number


def _order(segment: Segment) -> tuple[dict[int, int], int]:
    """Return how a segment's frames are reordered.

    Returns:
        Presentation time of each packet, in the segment's own ticks → its place in their order; and by how many packets
        one comes later in the file than in that order, at most.
    """
    import av

    with av.open(address(segment.path), format=SEGMENT_MUXER) as container:
        times = [packet.pts for packet in container.demux(container.streams.video[0]) if packet.size]
    if len(set(times)) != len(segment.times):
        raise SrlibError(
            f"{segment.path}: holds {len(set(times))} instead of {len(segment.times)} frames; "
            f"remove {segment.path.parent} and run it again"
        )
    ranks = {time: rank for rank, time in enumerate(sorted(times))}
    return ranks, max(place - ranks[time] for place, time in enumerate(times))


def _other_packets(
    source: "av.container.InputContainer",
    targets: dict[int, "av.Stream"],
    limit: float | None,
    container: Container,
) -> Iterator[Timed]:
    """Yield the packets of the other streams, until the file ends or breaks off."""
    import av

    if not targets:
        return
    # MP4 stores the priming samples of an audio encoder before time zero; Matroska would move all times by them.
    has_no_negative_times = container.in_milliseconds and source.format.name.startswith("mov")
    last = float("-inf")
    packets = source.demux(*(source.streams[index] for index in targets))
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError, ValueError):
            return  # the frame reader met the same fault and reports it
        if packet is None:
            return
        time = packet.dts if packet.dts is not None else packet.pts
        if not packet.size or time is None or packet.pts is None:
            continue
        if (
            packet.size == len(_NO_TEXT)
            and packet.stream.codec_context.name == "mov_text"
            and bytes(packet) == _NO_TEXT
        ):
            continue  # fills the time between subtitles in MP4, whose muxer writes it by itself
        seconds = time * packet.time_base
        if (limit is not None and seconds >= limit) or (has_no_negative_times and packet.pts < 0):
            continue
        last = max(last, float(seconds))
        yield last, packet.stream_index, packet
