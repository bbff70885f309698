"""Turn the signals that end a process into an exception, so that `with` and `finally` blocks run."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

_PAUSE = 0.05
"""Seconds before a signal is sent again."""


class Stopped(BaseException):
    """The process was asked to end.

    Attributes:
        signum: The signal: SIGTERM or SIGHUP, or SIGINT where it was deferred or asked for.
        note: Further information for the user.
        is_reported: Whether a line about it has been printed.
    """

    def __init__(self, signum: int, note: str = "") -> None:
        super().__init__(signum, note)
        self.signum = signum
        self.note = note
        self.is_reported = False


def report_stop(error: BaseException, line: str) -> None:
    """Print the line of a stop, and note that it has one: the command line prints one for any other.

    Args:
        error: `Stopped` or KeyboardInterrupt.
        line: What was done, and how to continue.
    """
    print(line, file=sys.stderr)
    if isinstance(error, Stopped):
        error.is_reported = True


@contextlib.contextmanager
def stoppable(*others: signal.Signals) -> Iterator[None]:
    """Raise `Stopped` in the block on SIGTERM and SIGHUP, as Ctrl-C raises KeyboardInterrupt.

    Args:
        others: Further signals that raise `Stopped`.
    """

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(signum)

    with _handled_by(stop, signal.SIGTERM, signal.SIGHUP, *others), _raised_again():
        yield


@contextlib.contextmanager
def _raised_again() -> Iterator[None]:
    """Send a signal again whose exception Python dropped, as it does in a callback of the garbage collector."""
    before, is_over = sys.unraisablehook, threading.Event()

    def send(signum: int) -> None:
        if not is_over.wait(_PAUSE):
            os.kill(os.getpid(), signum)

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        error = dropped.exc_value
        if isinstance(error, KeyboardInterrupt | Stopped):
            signum = error.signum if isinstance(error, Stopped) else signal.SIGINT
            threading.Thread(target=send, args=(signum,), daemon=True).start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        is_over.set()
        sys.unraisablehook = before


@dataclass
class DeferredStop:
    """The signal that came in a block of `deferred_stop`; None before it."""

    signum: int | None = None


@contextlib.contextmanager
def deferred_stop() -> Iterator[DeferredStop]:
    """Note the first SIGINT, SIGTERM or SIGHUP within the block instead of raising, so that a step can be finished.

    The block is expected to look at `signum` and to raise `Stopped`; if it ends without raising, `Stopped` is raised
    then. A second signal raises at once: KeyboardInterrupt for SIGINT, `Stopped` for the others. Outside the main
    thread, where Python delivers no signals, nothing changes.
    """
    stop = DeferredStop()

    def note(signum: int, frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise KeyboardInterrupt if signum == signal.SIGINT else Stopped(signum)
        stop.signum = signum

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with _handled_by(note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield stop
    if stop.signum is not None:
        raise Stopped(stop.signum)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Install a handler within the block. Ignored signals stay ignored, as SIGHUP under nohup."""
    before = {s: signal.signal(s, handler) for s in signals if signal.getsignal(s) != signal.SIG_IGN}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)
