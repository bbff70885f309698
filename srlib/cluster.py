"""Spread work over the workers of a Dask cluster that the user has started (extra `cluster`).

Tasks and results are pickled between client and workers: that is how Dask works, so a scheduler belongs into a network
that is trusted. Nothing here starts a scheduler or a worker.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from srlib import __version__
from srlib.errors import SrlibError, one_line
from srlib.progress import progress
from srlib.signals import Stopped

if TYPE_CHECKING:
    from distributed import Client

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

_PATIENCE = 30.0
"""Seconds to wait, after an interruption, until the workers have finished the items that they work on."""

# Their versions may change pixels; compared where client and worker have them.
_PACKAGES = ("kornia-rs", "numpy", "opencv-python-headless", "openvino", "pillow", "tifffile")


@dataclass(frozen=True)
class _Requirements:
    """What each worker must have and see, and the run that asks.

    Attributes:
        run: Random name of the run.
        versions: Name and version of srlib, Python and packages.
        inputs: Files and folders to read.
        probes: A file of the client in each folder to write to.
    """

    run: str
    versions: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    probes: tuple[str, ...]


class Cluster:
    """A Dask cluster whose workers have been checked. Made by `connected`.

    Args:
        client: The connection to the scheduler.
        requirements: What the workers were checked for; each task checks it again on workers that joined later.
    """

    def __init__(self, client: "Client", requirements: _Requirements) -> None:
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

        The first error, also Ctrl-C, cancels what has not begun. A task whose worker was killed runs again on another.

        Args:
            function: The function. It is pickled with each task, so it must be small.
            items: The items. Paths in them must be absolute.
            label: What is done, as shown in front of the progress.
            unit: What is counted, in the plural ("images").
            task: Items per task (default: about 100, fewer where there are few).
            on_result: Callback that receives the position of an item and its result as soon as its task is done.

        Raises:
            SrlibError: Workers died repeatedly, the connection was lost, or a worker joined that lacks something.
        """
        from distributed import KilledWorker, as_completed
        from distributed.client import FutureCancelledError

        items = list(items)
        size = task or self._task_size(len(items))
        starts = range(0, len(items), size)
        results: dict[int, list[Result]] = {}
        name = f"srlib-{label.replace(' ', '-')}-{secrets.token_hex(8)}"
        call = functools.partial(_run, function, self._requirements)
        with progress(len(items), label, unit) as advance:
            futures = {
                self._client.submit(call, items[start : start + size], key=f"{name}-{start}", pure=False): start
                for start in starts
            }
            try:
                for future in as_completed(futures, loop=self._client.loop):
                    start = futures.pop(future)
                    results[start] = future.result()
                    future.release()
                    if on_result:
                        for position, result in enumerate(results[start], start):
                            on_result(position, result)
                    advance(len(results[start]))
            except KilledWorker as error:
                raise SrlibError(
                    f"{label}: the same images killed {error.allowed_failures + 1} workers of the cluster; is there "
                    "enough memory? `dask worker --memory-limit` sets it"
                ) from None
            except (FutureCancelledError, OSError) as error:
                if isinstance(error, OSError) and self._client.status == "running":
                    raise
                raise SrlibError(f"{label}: the connection to the scheduler was lost; run it again") from None
            finally:
                self._stop(list(futures))
        return [result for start in starts for result in results[start]]

    def _task_size(self, count: int) -> int:
        threads: int = sum(self._client.nthreads().values())
        return max(1, min(_LARGEST_TASK, count // (threads * _TASKS_PER_THREAD)))

    def _stop(self, futures: list[object]) -> None:
        """Cancel what has not ended, and wait until the workers have finished the items that they work on."""
        if not futures or self._client.status != "running":
            return
        self._client.cancel(futures, force=True)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            answers = self._client.run(_running_tasks, self._requirements.run, on_error="ignore")
            if not any(answers.values()):
                return
            time.sleep(0.1)


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
        raise SrlibError(f"{address}: a Dask cluster needs dask and distributed: pip install 'srlib[cluster]'")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client(address))
        probes = [stack.enter_context(_probe(Path(folder))) for folder in outputs]
        paths = tuple(str(Path(path).absolute()) for path in inputs)
        requirements = _Requirements(secrets.token_hex(8), tuple(_versions().items()), paths, tuple(probes))
        _wait_for_worker(client, address)
        _check_workers(client, address, requirements)
        yield Cluster(client, requirements)


@contextlib.contextmanager
def _client(address: str) -> "Iterator[Client]":
    from distributed import Client

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
        while not client.nthreads():
            time.sleep(0.5)


def _check_workers(client: "Client", address: str, requirements: _Requirements) -> None:
    """Raise one line per mistake with the workers that have it."""

    # Nested functions are pickled by value: a worker without srlib can run this one too.
    def look(facts: object) -> str | None:
        try:
            from srlib.cluster import mismatch
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
                f"{address}: {count} of {total} workers: {line}; {_remedy(line)}" for line, count in mistakes.items()
            )
        )


def _remedy(line: str) -> str:
    if line.startswith("has "):
        return f"install srlib {__version__} and its packages on all of them as here, and start them again"
    return "all must see the same folders under the same paths, as on a shared disk"


@functools.lru_cache(maxsize=8)
def mismatch(requirements: _Requirements) -> str | None:
    """Return what this process lacks as a worker, or None."""
    return _mismatch_of_versions(requirements.versions) or _mismatch_of_files(requirements.inputs, requirements.probes)


def _mismatch_of_versions(versions: tuple[tuple[str, str], ...]) -> str | None:
    here = _versions()
    for name, version in versions:
        if here.get(name, version) != version:
            if name == "code":
                return f"has srlib {here['srlib']} with other code than here"
            return f"has {name} {here[name]}, and this is {version}"
    return None


def _mismatch_of_files(inputs: tuple[str, ...], probes: tuple[str, ...]) -> str | None:
    for path in inputs:
        if not os.access(path, os.R_OK):
            return f"{'cannot read' if os.path.exists(path) else 'does not see'} {path}"
    for probe in probes:
        folder = os.path.dirname(probe)
        if not os.path.exists(probe):
            return f"does not see {folder}" if not os.path.isdir(folder) else f"sees another folder at {folder}"
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            return f"cannot write to {folder} ({error.strerror})"
    return None


@functools.cache
def _versions() -> dict[str, str]:
    """Return the versions of what may change pixels, and a digest of srlib's code."""
    versions = {"Python": ".".join(platform.python_version_tuple()[:2]), "srlib": __version__}
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    versions["code"] = digest.hexdigest()
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


_running: Counter[str] = Counter()
_running_lock = threading.Lock()


def _running_tasks(run: str) -> int:
    """Return how many tasks of a run this worker process works on."""
    return _running[run]


def _run(function: Callable[[Item], Result], requirements: _Requirements, items: Sequence[Item]) -> list[Result]:
    """Run one task in a worker."""
    if line := mismatch(requirements):
        raise SrlibError(f"a worker that joined later {line}; {_remedy(line)}")
    with _running_lock:
        _running[requirements.run] += 1
    try:
        results = []
        for item in items:
            stop_if_cancelled()
            results.append(function(item))
        return results
    finally:
        with _running_lock:
            _running[requirements.run] -= 1


def stop_if_cancelled() -> None:
    """Raise `Stopped` in a task of the cluster that its client has cancelled, or whose client has gone away.

    Outside such a task nothing happens.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise Stopped(signal.SIGTERM)
