"""Standard input and output as the input and output of a run."""

import sys
from collections.abc import Sequence

from srlib.errors import SrlibError
from srlib.inference.jobs import ImageJob

LARGEST_STREAM = 2**31
"""Most bytes that are read from standard input."""


def stream_content(job: ImageJob) -> bytes:
    """Read standard input, or the pipe of a process substitution, to its end.

    Raises:
        SrlibError: It holds more than `LARGEST_STREAM` bytes.
    """
    if job.source is None:
        content = sys.stdin.buffer.read(LARGEST_STREAM + 1)
    else:
        with job.source.open("rb") as file:
            content = file.read(LARGEST_STREAM + 1)
    if len(content) > LARGEST_STREAM:
        raise SrlibError(f"{job.name}: refused, more than {LARGEST_STREAM / 1e9:.1f} GB")
    return content


def write_stream(content: bytes) -> None:
    """Write to standard output.

    Raises:
        OSError: It is full or closed; the error names it.
    """
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def check_terminals(jobs: Sequence[ImageJob]) -> None:
    """Refuse to read an image from a terminal or to write one to it.

    Raises:
        SrlibError: Standard input or output is a terminal.
    """
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise SrlibError("-: expected an image on standard input, got a terminal; try `srlib upscale - … < a.png`")
    if any(job.target is None for job in jobs) and sys.stdout.isatty():
        raise SrlibError("-o -: an image cannot be shown by a terminal; redirect it, as in `-o - > big.png`")
