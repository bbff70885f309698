"""Spread work over the workers of a Dask cluster that the user has started (extra `cluster`).

Tasks and results are pickled between client and workers: that is how Dask works, so a scheduler belongs into a network
that is trusted. Nothing here starts a scheduler or a worker.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import re
import secrets
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from srlib.cluster_worker import Requirements, own_versions, remedy, results_before, run_task, stop_tasks
from srlib.errors import SrlibError, one_line, pip_install
from srlib.progress import progress

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "DASK_SCHEDULER_ADDRESS"
"""Environment variable with the scheduler's address, as Dask itself names it."""

_ADDRESS = re.compile(r"(?:(?:tcp|tls|ucx|wss?)://)?(?:\[[0-9A-Fa-f:]+\]|[^\s/:]+):[0-9]{1,5}/?")

_EXAMPLE = f"such as tcp://10.0.0.1:8786, from --scheduler or {VARIABLE}"

_LARGEST_TASK = 100
"""Items per task: a task costs the scheduler about 5 ms and 3.5 kB."""

_TASKS_PER_THREAD = 8
"""Tasks per thread of the cluster for few items, so that all threads end at about the same time."""

_CONNECT = 10.0
"""Seconds to wait for a scheduler's answer."""

_LOOK = 5.0
"""Seconds between two looks at whether any worker is connected, while tasks wait."""

_ABSENT = 60.0
"""Seconds without any worker after which a line says so."""

_STILL_ABSENT = 600.0
"""Seconds until that line comes again."""

_PATIENCE = 30.0
"""Seconds to wait, after an interruption, until the workers have finished the items that they work on."""


class Cluster:
    """A Dask cluster whose workers have been checked. Made by `connected`.

    Args:
        client: The connection to the scheduler.
        requirements: What the workers were checked for; each task checks it again on workers that joined later.
    """

    def __init__(self, client: "Client", requirements: Requirements) -> None:
        self._client = client
        self._requirements = requirements

    def for_each(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        label: str,
        unit: str,
        task: int | None = None,
        on_result: Callable[[int, Result], object] | None = None,
    ) -> list[Result]:
        """Return `function(item)` for every item, in the order of the items; see `srlib.parallel.for_each`.

        The first error, also Ctrl-C, cancels what has not begun; what is done by then goes to `on_result`. A task whose
        worker was killed runs again on another.

        Args:
            function: The function. It is pickled with each task, so it must be small.
            items: The items. Paths in them must be absolute.
            label: What is done, as shown in front of the progress.
            unit: What is counted, in the plural ("images").
            task: Items per task (default: about 100, fewer where there are few).
            on_result: Callback that receives the position of an item and its result as soon as its task has ended.

        Raises:
            SrlibError: Workers died repeatedly, the connection was lost, or a worker joined that lacks something.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        items = list(items)
        size = task or self._task_size(len(items))
        starts = range(0, len(items), size)
        results: dict[int, list[Result]] = {}
        name = f"srlib-{label.replace(' ', '-')}-{secrets.token_hex(8)}"
        call = functools.partial(run_task, function, self._requirements)
        with progress(len(items), label, unit) as advance:

            def keep(start: int, values: list[Result]) -> None:
                results[start] = values
                if on_result:
                    for position, result in enumerate(values, start):
                        on_result(position, result)
                advance(len(values))

            futures = {
                self._client.submit(call, items[start : start + size], key=f"{name}-{start}", pure=False): start
                for start in starts
            }
            try:
                for future in self._completed(futures):
                    start = futures.pop(future)
                    try:
                        values = future.result()
                    except Exception as error:
                        keep(start, results_before(error))
                        raise
                    future.release()
                    keep(start, values)
            except KilledWorker as error:
                raise SrlibError(
                    f"{label}: the same images killed {error.allowed_failures + 1} workers of the cluster; is there "
                    "enough memory? `dask worker --memory-limit` sets it"
                ) from None
            except (FutureCancelledError, OSError) as error:
                is_lost = isinstance(error, FutureCancelledError | CommClosedError) or self._client.status != "running"
                if not is_lost:  # an error of the function
                    raise
                raise SrlibError(f"{label}: the connection to the scheduler was lost; run it again") from None
            finally:
                for start, values in self._stop(futures, name):
                    keep(start, values)
        return [result for start in starts for result in results[start]]

    def _completed(self, futures: "dict[Future, int]") -> "Iterator[Future]":
        from distributed import as_completed

        waiting = as_completed(list(futures), loop=self._client.loop)
        absence = _Absence(self._client)
        next_look = time.monotonic() + _LOOK
        while not waiting.is_empty():
            if waiting.has_ready():
                yield next(waiting)
            elif time.monotonic() < next_look:
                time.sleep(0.02)
            else:
                absence.lasts()
                next_look = time.monotonic() + _LOOK

    def _task_size(self, count: int) -> int:
        threads: int = sum(self._client.nthreads().values())
        return max(1, min(_LARGEST_TASK, count // (threads * _TASKS_PER_THREAD)))

    def _stop(self, futures: "dict[Future, int]", group: str) -> list[tuple[int, list[Any]]]:
        """Cancel the tasks that have not begun, and wait until the others have finished the items that they work on.

        Returns:
            What these others have done: the position of the first item, and the results.
        """
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        done: list[tuple[int, list[Any]]] = []
        if not futures or self._client.status != "running":
            return done
        with contextlib.suppress(CommClosedError, FutureCancelledError):  # the scheduler is gone, and with it the tasks
            self._client.run(stop_tasks, group, on_error="ignore")
            keys = {key for keys in self._client.processing().values() for key in keys}
            begun = [future for future in futures if future.key in keys or future.done()]
            self._client.cancel([future for future in futures if future not in begun], force=True)
            end = time.monotonic() + _PATIENCE
            while not all(future.done() for future in begun) and time.monotonic() < end:
                time.sleep(0.05)
            for future in begun:
                if future.status == "finished":
                    done.append((futures[future], future.result()))
                elif future.status == "error":
                    done.append((futures[future], results_before(future.exception())))
            self._client.cancel(begun, force=True)
        return done


class _Absence:
    """The time for which no worker has been connected; after a while a line says so, and again later."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._line_after = _ABSENT

    def lasts(self) -> bool:
        """Return whether no worker is connected."""
        if self._client.nthreads():
            self._begin()
            return False
        if (seconds := time.monotonic() - self._since) >= self._line_after:
            address = self._client.scheduler.address
            print(
                f"{address}: no worker has been connected for {max(1, round(seconds / 60))} min, and the work waits; "
                f"start one (dask worker {address}), or end with Ctrl-C",
                file=sys.stderr,
                flush=True,
            )
            self._line_after = seconds + _STILL_ABSENT
        return True


@contextlib.contextmanager
def connected(
    address: str | None, *, inputs: Iterable[Path] = (), outputs: Iterable[Path] = ()
) -> Iterator[Cluster | None]:
    """Connect to a Dask scheduler, and check that all workers have this srlib and see the files.

    Args:
        address: Address of the scheduler, such as `tcp://10.0.0.1:8786`. None or an empty one yields None.
        inputs: Files and folders that workers read.
        outputs: Folders that workers write to; they are created.

    Yields:
        The cluster, or None without an address.

    Raises:
        SrlibError: Dask is not installed, the scheduler does not answer, or workers lack something: one line each.
    """
    if not address:
        yield None
        return
    if not _ADDRESS.fullmatch(address):
        raise SrlibError(f"{one_line(address)}: expected the address of a Dask scheduler, {_EXAMPLE}")
    if importlib.util.find_spec("distributed") is None:
        raise SrlibError(f"{address}: a Dask cluster needs dask and distributed: {pip_install('srlib[cluster]')}")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client(address))
        probes = [stack.enter_context(_probe(Path(folder))) for folder in outputs]
        paths = tuple(str(Path(path).absolute()) for path in inputs)
        requirements = Requirements(secrets.token_hex(8), tuple(own_versions().items()), paths, tuple(probes))
        _wait_for_worker(client, address)
        _check_workers(client, address, requirements)
        yield Cluster(client, requirements)


@contextlib.contextmanager
def _client(address: str) -> "Iterator[Client]":
    import dask
    from distributed import Client

    if address.startswith("tls:") and not dask.config.get("distributed.comm.tls.ca-file", None):
        raise SrlibError(f"{address}: TLS needs certificates; name them in Dask's configuration, distributed.comm.tls")
    for name in logging.root.manager.loggerDict:
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # versions are compared below
        try:
            client = Client(address, timeout=_CONNECT, set_as_default=False)
        except OSError:
            raise SrlibError(
                f"{address}: no Dask scheduler answered within {_CONNECT:.0f} s; expected its address, {_EXAMPLE}"
            ) from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # a scheduler that has gone away; the work is done or its error raised
            client.close(timeout=5)


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[str]:
    """Yield the path of a temporary file in a folder, by which workers show that they see the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".srlib-", suffix=".tmp") as file:
        yield os.path.abspath(file.name)


def _wait_for_worker(client: "Client", address: str) -> None:
    if not client.nthreads():
        print(
            f"{address}: no workers yet; waiting for the first (to start one: dask worker {address})", file=sys.stderr
        )
        absence = _Absence(client)
        while absence.lasts():
            time.sleep(0.5)


def _check_workers(client: "Client", address: str, requirements: Requirements) -> None:
    """Raise one line per mistake with the workers that have it."""

    # Nested functions are pickled by value: a worker without srlib can run this one too.
    def look(facts: object) -> str | None:
        try:
            from srlib.cluster_worker import mismatch
        except ImportError:
            try:
                from srlib import __version__ as version
            except ImportError:
                return "has no srlib"
            return f"has srlib {version}"
        return mismatch(facts)  # type: ignore[arg-type]

    here = dict(requirements.versions)
    lines: dict[str, str | None] = {}
    for worker, answer in client.get_versions()["workers"].items():
        python = answer["host"]["python"].split(".")
        if python[:2] != here["Python"].split("."):  # functions of another Python cannot be run at all
            lines[worker] = f"has Python {'.'.join(python[:2])}, and this is {here['Python']}"
    others = [worker for worker in client.nthreads() if worker not in lines]
    lines |= client.run(look, requirements, workers=others, on_error="return") if others else {}
    mistakes = Counter(one_line(line) for line in lines.values() if line)
    if mistakes:
        total = len(lines)
        raise SrlibError(
            "\n".join(
                f"{address}: {count} of {total} workers: {line}; {remedy(line)}" for line, count in mistakes.items()
            )
        )
