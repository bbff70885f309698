"""What a film shows of its degradation, from a few of its first frames."""

import itertools
import statistics
from contextlib import closing
from pathlib import Path

from srlib.films.reading import FrameReader, describe_film
from srlib.inference.input_traces import InputTraces, traces_of

_FRAMES, _STEP = 5, 12
"""Frames that are looked at, and how far they are apart."""


def film_traces(path: Path, seconds: float | None = None) -> InputTraces:
    """Return the median traces of some frames at a film's beginning: the same at each run, so that a run continues.

    Args:
        path: The film.
        seconds: Only frames of the first so many seconds.

    Raises:
        SrlibError: Not a film that can be read.
    """
    reader = FrameReader(describe_film(path), seconds)
    with closing(reader.frames()) as frames:  # type: ignore[type-var]
        traces = [traces_of(frame.rgb) for frame in itertools.islice(frames, 0, _FRAMES * _STEP, _STEP)]
    noises = [one.noise for one in traces if one.noise is not None]
    blurs = [one.blur for one in traces if one.blur is not None]
    blocks = [one.blocks for one in traces if one.blocks is not None]
    noise, blur, block = (statistics.median(values) if values else None for values in (noises, blurs, blocks))
    return InputTraces(noise, blur, None, block)
