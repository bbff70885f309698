"""How far long work has come: a bar on a terminal, a plain line every ten seconds anywhere else. Both on stderr."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

INTERVAL = 10.0  # seconds between two plain lines
WINDOW = 120.0  # seconds over which the rate is measured
_clock = time.monotonic


class Advance(Protocol):
    """Says that `n` more units are done; `status` values (loss=0.031) are shown until they are replaced."""

    def __call__(self, n: int = 1, **status: object) -> None:
        """Counts `n` units."""


@contextlib.contextmanager
def progress(total: int, label: str, unit: str, start: int = 0) -> Iterator[Advance]:
    """Shows the progress of long work with its rate and the remaining time.

    On a terminal a bar; elsewhere one plain line per 10 s and one at the end. The rate counts from the first call of
    `advance`, over the last two minutes: neither a slow first step nor the part done before a resume distorts it.

    Args:
        total: Units to be done in all, those before `start` included.
        label: What is done, as shown at the front of the line.
        unit: What is counted, in the plural ("steps", "pictures"); "B" shows bytes as kB, MB, GB.
        start: Units that were done before, by a run that is resumed.

    Yields:
        The function `advance(n=1, **status)`; threads may share it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Description(ProgressColumn):
        def render(self, task: "Task") -> "Text":
            return Text(_describe(task, unit), no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    live = sys.stderr.isatty() and console.is_interactive
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Description(),
        console=console,
        speed_estimate_period=WINDOW,
        get_time=lambda: _clock(),
    )
    task_id = bar.add_task(label, total=total, completed=start, status={})
    task = bar.tasks[0]
    lock = threading.Lock()
    last_line = _clock()

    def print_line() -> None:
        print(f"{label}: {_describe(task, unit)}", file=sys.stderr, flush=True)

    def advance(n: int = 1, **status: object) -> None:
        nonlocal last_line
        with lock:
            bar.update(task_id, advance=n, status=task.fields["status"] | status)
            if not live and not task.finished and _clock() - last_line >= INTERVAL:
                print_line()
                last_line = _clock()

    with bar if live else contextlib.nullcontext():
        try:
            yield advance
        finally:
            bar.stop_task(task_id)
            if not live:
                print_line()


def _describe(task: "Task", unit: str) -> str:
    """`1,200/5,000 steps (24%), 5.3 steps/s, 11:55 left, loss 0.031`; at the end the time it took instead."""
    parts = [_counts(task.completed, task.total or 0, unit)]
    if task.speed:
        parts.append(_rate(task.speed, unit))
    if task.completed >= (task.total or 0):
        parts.append(f"{_duration(task.elapsed or 0)} in all")
    elif task.stop_time is not None:
        parts.append("stopped")
    elif task.time_remaining is not None:
        parts.append(f"{_duration(task.time_remaining)} left")
    parts += [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in task.fields["status"].items()
    ]
    return ", ".join(parts)


def _counts(done: float, total: float, unit: str) -> str:
    percent = f" ({100 * done / total:.0f}%)" if total else ""
    if unit == "B":
        return f"{_bytes(done)} of {_bytes(total)}{percent}"
    return f"{done:,.0f}/{total:,.0f} {unit}{percent}"


def _rate(speed: float, unit: str) -> str:
    if unit == "B":
        return f"{_bytes(speed)}/s"
    return f"{speed:.3g} {unit}/s" if speed < 1000 else f"{speed:,.0f} {unit}/s"


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
