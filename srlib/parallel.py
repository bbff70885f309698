"""Process many items at once on all CPU cores, with progress."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from srlib.errors import SrlibError
from srlib.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    label: str,
    unit: str,
    workers: int | None = None,
    processes: bool = False,
) -> list[Result]:
    """`function` of every item, in their order, by `workers` threads or processes (as many as there are cores).

    Threads start at once and share everything. Processes take half a second, but do not wait for each other where work
    holds Python's lock; `function`, items and results must then pickle, and the program that was started must keep to
    `if __name__ == "__main__"`. The first error, also Ctrl-C, cancels what has not begun and is raised.

    Raises:
        SrlibError: A process was killed.
    """
    items = list(items)
    with progress(len(items), label, unit) as advance, _pool(workers or cores(), processes) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                future.result()
                advance()
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise SrlibError(f"{label}: a process was killed before it was done; is there memory enough?") from None
        finally:
            pool.shutdown(cancel_futures=True)  # waits: a second call, by `with`, would take the cancelling back


def _pool(workers: int, processes: bool) -> Executor:
    if not processes:
        return ThreadPoolExecutor(workers)
    # Not forked: threads of this process may hold locks that nobody would give back in a copy of it.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_obey)


def _obey() -> None:
    """In a process of the pool: leaves Ctrl-C to the one that began it, and ends with that one, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
