"""Work on many pictures at once, on all cores, with progress."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from srlib.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    function: Callable[[Item], Result], items: Iterable[Item], *, label: str, unit: str, workers: int | None = None
) -> list[Result]:
    """`function` of every item, in their order, on `workers` threads (as many as there are cores).

    Threads, since decoding, matrix products and writing leave Python's lock to the others; processes would each start
    anew and gain nothing. The first error, also Ctrl-C, cancels what has not begun and is raised.
    """
    items = list(items)
    with progress(len(items), label, unit) as advance, ThreadPoolExecutor(workers or cores()) as pool:

        def call(item: Item) -> Result:
            result = function(item)
            advance()
            return result

        futures = [pool.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
