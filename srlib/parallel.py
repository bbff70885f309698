"""Process many items at once on all CPU cores, or on the workers of a cluster, with progress."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from srlib.engine import available_cores
from srlib.errors import SrlibError
from srlib.progress import progress

if TYPE_CHECKING:
    from srlib.cluster import Cluster

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
    cluster: "Cluster | None" = None,
) -> list[Result]:
    """Return `function(item)` for every item, in the order of the items, computed by several workers at once.

    The first error, also Ctrl-C, cancels what has not begun and is raised.

    Args:
        function: The function. It must pickle, like items and results, if `processes` is true.
        items: The items.
        label: What is done, as shown in front of the progress.
        unit: What is counted, in the plural ("images").
        workers: Number of threads or processes (default: as many as there are cores).
        processes: Use processes instead of threads. They take half a second to start, but do not wait for each other
            where work holds Python's lock. The program that was started must keep to `if __name__ == "__main__"`.
        cluster: Use the workers of this cluster; see `srlib.cluster.Cluster.for_each` for what function and items must
            keep to (default: this machine alone).

    Returns:
        The results.

    Raises:
        SrlibError: A process was killed, or what `Cluster.for_each` names.
    """
    if cluster is not None:
        return cluster.for_each(function, items, label=label, unit=unit)
    items = list(items)
    with progress(len(items), label, unit) as advance, _pool(workers or available_cores(), processes) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                future.result()
                advance()
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise SrlibError(f"{label}: a process was killed before it finished; is there enough memory?") from None
        finally:
            pool.shutdown(cancel_futures=True)  # waits: a second call, by `with`, would take the cancelling back


def _pool(workers: int, processes: bool) -> Executor:
    if not processes:
        return ThreadPoolExecutor(workers)
    # Not forked: threads of this process may hold locks that nobody would give back in a copy of it.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_obey)


def _obey() -> None:
    """Make a worker process ignore Ctrl-C, which its parent handles, and exit when its parent has exited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
