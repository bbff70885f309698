"""The error that users are meant to read, one-line forms of other errors, and how the lines of a run are kept."""

import contextlib
import errno
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from srlib.signals import Stopped, report_stop

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a full disk, or of one on which a user's share is full."""

LONGEST_LINE = 300
"""Characters of another error's message that `one_line` keeps."""


class SrlibError(Exception):
    """Bad input or a bad environment, in one line: what is wrong, where, what was expected, how to mend it.

    Stages and the command line print the message without a traceback and exit with a status that is not 0.
    """


def one_line(error: BaseException | str, limit: int = LONGEST_LINE) -> str:
    r"""Return an error's message as one printable line, or the name of its type where it has none.

    Args:
        error: The error, or its message.
        limit: Most characters to keep; a longer message ends in `…`.

    Example:
        >>> one_line(ValueError("first line\n  second line"))
        'first line second line'
        >>> one_line(RecursionError())
        'RecursionError'
    """
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
    if not text:
        return type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def printable(value: object) -> str:
    r"""Return the text of a value, such as a file's name, without what would break a line or control a terminal.

    Example:
        >>> printable("a\nb \x1b[31m é")
        'a\\nb \\x1b[31m é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def pip_install(requirement: str) -> str:
    """Return the command that installs a package for this Python: a bare `pip` may be another one's, or none.

    Example:
        >>> pip_install("srlib[films]").removeprefix(sys.executable)
        " -m pip install 'srlib[films]'"
    """
    return f"{shlex.quote(sys.executable or 'python')} -m pip install {shlex.quote(requirement)}"


@contextlib.contextmanager
def problems_kept(problems: Sequence[str], stopped: Callable[[], str] | None = None) -> Iterator[None]:
    """Keep the lines that were collected when the block ends early: in front of its error, or printed.

    Args:
        problems: The lines so far, read when the block ends.
        stopped: Function that returns the line of a stop, such as Ctrl-C (default: nothing is printed for it).

    Raises:
        SrlibError: That of the block, with the lines so far.
    """
    try:
        yield
    except SrlibError as error:
        if not problems:
            raise
        raise SrlibError("\n".join([*problems, str(error)])) from error
    except BaseException as error:
        for line in problems:
            print(printable(line), file=sys.stderr)
        if stopped and isinstance(error, KeyboardInterrupt | Stopped):
            report_stop(error, stopped())
        raise


def failure_line(
    error: Exception, name: str, target: Path | None, kind: Literal["image", "film"], *, done: int = 0
) -> str:
    """Return the line of an input that failed.

    Args:
        error: Why.
        name: Name of the input in messages.
        target: The file to write; None is standard output.
        kind: What the input is.
        done: Number of inputs that are done.

    Raises:
        SrlibError: The disk is full.
        BrokenPipeError: Nobody reads standard output any more.

    Example:
        >>> failure_line(KeyError(320), "a.png", Path("b.png"), "image")
        'a.png: unexpected KeyError (320); please report this image'
    """
    if isinstance(error, SrlibError):
        return str(error)
    if isinstance(error, MemoryError):
        advice = "cut the image, or ask for a smaller size" if kind == "image" else "ask for a smaller size"
        return f"{name}: not enough memory; {advice}"
    if isinstance(error, BrokenPipeError) and target is None:
        raise error
    if isinstance(error, OSError):
        line = f"{printable(error.filename or target or name)}: {error.strerror or one_line(error)}"
        if error.errno in DISK_FULL:
            so_far = f"{done} {kind}s are done, " if done else ""
            raise SrlibError(f"{line}; {so_far}make space and run it again to continue") from error
        return line
    return f"{name}: unexpected {type(error).__name__} ({one_line(error)}); please report this {kind}"
