"""Progress of long work on stderr: a bar on a terminal, a plain line every ten seconds anywhere else.

Where somebody looks somewhere else, as at a page, `observed` hands the progress over and nothing is printed.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text

INTERVAL = 10.0
"""Seconds between two plain lines."""

WINDOW = 120.0
"""Seconds over which the rate is measured."""

SHORTEST = 0.1
"""Part of the time since the start that the rate must be measured over to be shown. Threads that finish their first
units at the same moment would otherwise show thousands per second."""

_clock = time.monotonic

Observer = Callable[[float, str], None]
"""Receives the part that is done, from 0 to 1, and its description. What it raises ends the work."""

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Hand the progress of work that this block begins to a function, and print nothing.

    Example:
        >>> with observed(lambda part, text: print(f"{part:.0%}")):
        ...     with progress(2, "prepare", "images") as advance:
        ...         advance()
        50%
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


class Advance(Protocol):
    """Callback that reports progress; `status` (loss=0.031) is displayed until the next call replaces it."""

    def __call__(self, n: int = 1, **status: object) -> None:
        """Add `n` finished units."""


@contextlib.contextmanager
def progress(total: int, label: str, unit: str, start: int = 0, *, is_estimated: bool = False) -> Iterator[Advance]:
    """Display the progress of long work with its rate and the remaining time.

    On a terminal this is a bar; elsewhere one plain line per 10 s and one at the end. The rate is measured over the
    last two minutes from the first call of `advance`, so neither a slow first step nor a resume distorts it. It is
    shown with the remaining time once that call is long enough ago.

    Args:
        total: Number of units, including those before `start`.
        label: Name of the work, at the front of the line.
        unit: Plural name of a unit ("steps", "images"); "B" displays bytes as kB, MB, GB.
        start: Units finished by an earlier run that is resumed.
        is_estimated: Whether `total` is an estimate: what is finished when the block ends without an error is all.

    Yields:
        The function `advance(n=1, **status)`; threads may share it.

    Example:
        >>> with progress(3, "prepare", "images") as advance:
        ...     for _ in range(3):
        ...         advance()
    """
    bar = _bar(unit)
    observer = _observer.get()
    live = observer is None and sys.stderr.isatty() and bar.console.is_interactive
    task_id = bar.add_task(label, total=total, completed=start, status={}, first=None)
    task = bar.tasks[0]
    lock = threading.Lock()
    last_line = _clock()

    def print_line() -> None:
        print(f"{label}: {_describe(task, unit)}", file=sys.stderr, flush=True)

    def advance(n: int = 1, **status: object) -> None:
        nonlocal last_line
        with lock:
            first = task.elapsed if task.fields["first"] is None else task.fields["first"]
            bar.update(task_id, advance=n, status=task.fields["status"] | status, first=first)
            if observer:
                observer(task.completed / total if total else 1.0, _describe(task, unit))
            elif not live and not task.finished and _clock() - last_line >= INTERVAL:
                print_line()
                last_line = _clock()

    with bar if live else contextlib.nullcontext():
        try:
            yield advance
            if is_estimated:
                task.total = task.completed  # rich's own way forgets the rate
        finally:
            bar.stop_task(task_id)
            if not live and not observer:
                print_line()


def _bar(unit: str) -> "Progress":
    """Return a bar on stderr, which need not be displayed, that also measures the rate."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Description(ProgressColumn):
        def render(self, task: "Task") -> "Text":
            return Text(_describe(task, unit), no_wrap=True, overflow="ellipsis")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Description(),
        console=Console(stderr=True),
        speed_estimate_period=WINDOW,
        get_time=lambda: _clock(),
    )


def _describe(task: "Task", unit: str) -> str:
    """Return `1,200/5,000 steps (24%), 5.3 steps/s, 11:55 left, loss 0.031`, or the total time at the end."""
    parts = [_counts(task.completed, task.total or 0, unit)]
    is_measured = _is_measured(task)
    if task.speed and is_measured:
        parts.append(_rate(task.speed, unit))
    if task.completed >= (task.total or 0):
        parts.append(f"{_duration(task.elapsed or 0)} in all")
    elif task.stop_time is not None:
        parts.append("stopped")
    elif task.time_remaining is not None and is_measured:
        parts.append(f"{_duration(task.time_remaining)} left")
    parts += [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in task.fields["status"].items()
    ]
    return ", ".join(parts)


def _is_measured(task: "Task") -> bool:
    """Return whether the rate is that of enough time."""
    first, elapsed = task.fields["first"], task.elapsed if task.finished_time is None else task.finished_time
    return first is not None and elapsed is not None and elapsed - first >= SHORTEST * elapsed


def _counts(done: float, total: float, unit: str) -> str:
    percent = f" ({100 * done / total:.0f}%)" if total else ""
    if unit == "B":
        return f"{_bytes(done)} of {_bytes(total)}{percent}"
    return f"{done:,.0f}/{total:,.0f} {unit}{percent}"


def _rate(speed: float, unit: str) -> str:
    if unit == "B":
        return f"{_bytes(speed)}/s"
    return f"{speed:.3g} {unit}/s" if speed < 999.5 else f"{speed:,.0f} {unit}/s"


def _bytes(count: float) -> str:
    names = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(names) > 1:
        count /= 1000
        del names[0]
    return f"{count:.3g} {names[0]}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
