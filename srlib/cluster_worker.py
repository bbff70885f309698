"""What a worker of a Dask cluster runs: the check of its versions and files, and the tasks."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from srlib import __version__
from srlib.errors import SrlibError
from srlib.signals import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")

# Their versions may change pixels; compared where client and worker have them.
_PACKAGES = ("kornia-rs", "numpy", "opencv-python-headless", "openvino", "pillow", "tifffile")


@dataclass(frozen=True)
class Requirements:
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


@functools.lru_cache(maxsize=8)
def mismatch(requirements: Requirements) -> str | None:
    """Return what this process lacks as a worker, or None."""
    return _mismatch_of_versions(requirements.versions) or _mismatch_of_files(requirements.inputs, requirements.probes)


def _mismatch_of_versions(versions: tuple[tuple[str, str], ...]) -> str | None:
    here = own_versions()
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
def own_versions() -> dict[str, str]:
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


_stopped: set[str] = set()
"""Groups of tasks that this process is to end after the items that it works on."""


def stop_tasks(group: str) -> None:
    """Let each task of a group end after the item that it works on, and return what it has."""
    _stopped.add(group)


def group_of(key: str) -> str:
    """Return the group of a task, given its key, `GROUP-NUMBER`."""
    return key.rpartition("-")[0]


def run_task(function: Callable[[Item], Result], requirements: Requirements, items: Sequence[Item]) -> list[Result]:
    """Run one task in a worker: return the result for each item, or for the first ones if `stop_tasks` was called.

    An error of the function carries the results before it; see `results_before`.

    Raises:
        SrlibError: The worker, which joined after the others were checked, lacks something.
        Stopped: The client has cancelled the task.
    """
    if line := mismatch(requirements):
        raise SrlibError(f"a worker that joined later {line}; {remedy(line)}")
    results: list[Result] = []
    try:
        for item in items:
            stop_if_cancelled()
            results.append(function(item))
    except Stopped:
        if not _is_stopped():
            raise
    except Exception as error:
        error.__dict__[_RESULTS] = results  # pickled with it
        raise
    return results


_RESULTS = "results_before"


def results_before(error: BaseException) -> list[Any]:
    """Return the results of a task before the error that ended it; none for an error of Dask."""
    results: list[Any] = error.__dict__.get(_RESULTS, [])
    return results


def _is_stopped() -> bool:
    """Return whether this thread works on a task whose group was stopped."""
    from distributed import get_worker

    return group_of(str(get_worker().get_current_task())) in _stopped


def stop_if_cancelled() -> None:
    """Raise `Stopped` in a task of the cluster that its client has stopped or cancelled, or whose client is gone.

    Outside such a task nothing happens.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled" or _is_stopped():
        raise Stopped(signal.SIGTERM)


def remedy(line: str) -> str:
    """Return what the user can do about a line of `mismatch`."""
    if line.startswith("has "):
        return f"install srlib {__version__} and its packages on all of them as here, and start them again"
    return "all must see the same folders under the same paths, as on a shared disk"
