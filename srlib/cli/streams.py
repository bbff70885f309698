"""The standard streams of a command: closed ones, messages that cannot be written, and output that cannot be."""

import io
import os
import sys
from typing import Any, BinaryIO, cast

from srlib.errors import SrlibError, one_line


def prepare_streams() -> None:
    """Let closed streams stay empty, go on where messages cannot be written, and let errors of the output name it."""
    _open_closed_streams()
    _forgive_standard_error()
    _name_standard_output()


def flush_output() -> None:
    """Write out what was printed.

    Raises:
        SrlibError: Standard output cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
        raise SrlibError(f"standard output: {error.strerror or one_line(error)}") from None


def _open_closed_streams() -> None:
    """Open what takes the place of a closed standard stream, or the next file to be opened would get its output.

    Input is empty, messages go nowhere, and writing to standard output fails.
    """
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class _Messages(io.FileIO):
    """Standard error that drops what cannot be written: a full disk or a closed pipe must not stop the work."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _forgive_standard_error() -> None:
    """Go on where messages cannot be written; results and the exit status tell what happened."""
    if sys.__stderr__ is None or sys.stderr is not sys.__stderr__:  # there is none, or somebody reads it
        return
    encoding = sys.__stderr__.encoding
    raw = io.BufferedWriter(_Messages(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


class _Output(io.FileIO):
    """Standard output whose errors name it, whenever they come: at a line, at a full buffer, or at the end."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def _name_standard_output() -> None:
    """Let the message say that it was standard output that could not be written."""
    stream = sys.__stdout__
    if not isinstance(stream, io.TextIOWrapper) or sys.stdout is not stream:  # there is none, or somebody reads it
        return
    raw = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        cast(BinaryIO, raw if stream.write_through else io.BufferedWriter(raw)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
