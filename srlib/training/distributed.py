"""Several processes that train one network together, by JAX's own distribution.

SRLIB_LAUNCHER names a command that starts a program once per host or per GPU, such as `srun --kill-on-bad-exit=1`. With
it a training stage replaces itself by that command, which starts the stage again as many processes; JAX finds the other
processes by the variables of Slurm and Open MPI. Where something else starts the processes, as Kubernetes does,
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say which is which.

Process 0 is the main process: it alone writes files, shows progress and speaks to DVC and MLflow. The others compute.
"""

import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from srlib.engine import check_backend, pin_threads
from srlib.errors import SrlibError, one_line

LAUNCHER = "SRLIB_LAUNCHER"
LAUNCHED = "SRLIB_LAUNCHED"
HEARTBEAT = "SRLIB_HEARTBEAT"

_COORDINATOR = "JAX_COORDINATOR_ADDRESS"
_JAX = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
_PASSED_ON = ("DVC_ROOT", "DVC_STAGE", "KERAS_BACKEND", "PYTHONPATH", HEARTBEAT)
"""Variables that the started processes need, whether or not the launcher passes the environment on."""

_SHUTDOWN_SECONDS = 600
"""How long processes that have done their part wait for the main process, which still validates and saves."""


@dataclass
class _Group:
    """The processes of this training.

    Attributes:
        rank: Index of this process.
        world: Number of processes.
        is_joined: Whether this process takes part in collective operations, between `join` and `leave`.
        ends_together: Whether all processes are about to raise, so that none is missed by the others.
    """

    rank: int = 0
    world: int = 1
    is_joined: bool = False
    ends_together: bool = False


_group = _Group()


def rank() -> int:
    """Return the index of this process, from 0."""
    return _group.rank


def world() -> int:
    """Return the number of processes that train together."""
    return _group.world


def is_main() -> bool:
    """Return whether this process is the one that writes and reports."""
    return _group.rank == 0


def launcher_command() -> list[str]:
    """Return the words of SRLIB_LAUNCHER; [] without one.

    Raises:
        SrlibError: The command does not exist or has an open quote, or the Keras backend cannot train in several
            processes.
    """
    text = os.environ.get(LAUNCHER, "")
    if not text.strip():
        return []
    _require_jax(LAUNCHER)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SrlibError(f"{LAUNCHER}: expected a command such as `srun`, got {text!r} ({error})") from None
    if shutil.which(words[0]) is None:
        raise SrlibError(f"{LAUNCHER}: cannot run {words[0]}: no such command on this machine")
    return words


def launch(variables: Mapping[str, str]) -> None:
    """Replace this process by the command of SRLIB_LAUNCHER, which starts it again as several; do nothing without one.

    Args:
        variables: Further environment variables of the processes.

    Raises:
        SrlibError: The command cannot be run, or the Keras backend cannot train in several processes.
    """
    if LAUNCHED in os.environ or _group.is_joined or not (launcher := launcher_command()):
        return
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    settings = [f"{name}={value}" for name, value in {**passed, **variables, LAUNCHED: "1"}.items()]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(launcher[0], [*launcher, "env", *settings, sys.executable, *sys.argv])  # noqa: S606
    except OSError as error:
        raise SrlibError(f"{LAUNCHER}: cannot run {launcher[0]}: {error.strerror}") from None


def join() -> None:
    """Join the other processes, where a launcher or JAX's variables say that there are some.

    It must be called before JAX looks for devices.

    Raises:
        SrlibError: The variables are incomplete, or the Keras backend cannot train in several processes.
    """
    if LAUNCHED not in os.environ and not any(name in os.environ for name in _JAX):
        return
    _require_jax(LAUNCHER if LAUNCHED in os.environ else _JAX[0])
    import jax

    # JAX's preemption service would take over SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **_place(os.environ),
            heartbeat_timeout_seconds=_heartbeat(),
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError, KeyError) as error:
        raise SrlibError(f"several processes: {one_line(error)}; see docs/how-to/several-gpus.md") from None
    pin_threads()
    _group.rank, _group.world, _group.is_joined = jax.process_index(), jax.process_count(), True


def _require_jax(variable: str) -> None:
    if (backend := check_backend()) != "jax":
        raise SrlibError(
            f"{variable}: training in several processes needs KERAS_BACKEND=jax, got {backend}; set it, or unset "
            f"{variable}"
        )


def _heartbeat() -> int:
    """Return the seconds after which a silent process counts as dead."""
    text = os.environ.get(HEARTBEAT) or "30"
    if not text.isdecimal() or int(text) < 1:
        raise SrlibError(f"{HEARTBEAT}: expected a whole number of seconds, got {text!r}")
    return int(text)


def _place(variables: Mapping[str, str]) -> dict[str, object]:
    """Return what JAX must be given, beyond what it finds out by itself under Slurm and Open MPI 4."""
    if any(name in variables for name in _JAX):
        _require(variables, (_COORDINATOR, *_JAX))
        return _numbered(variables, _JAX)
    if _OPEN_MPI[0] in variables and "OMPI_MCA_orte_hnp_uri" not in variables:  # Open MPI 5
        if _COORDINATOR not in variables and find_spec("mpi4py") is not None:
            return {"cluster_detection_method": "mpi4py"}
        _require(variables, (_COORDINATOR, *_OPEN_MPI))
        return _numbered(variables, _OPEN_MPI)
    return {"local_device_ids": _slurm_gpus(variables)}


def _require(variables: Mapping[str, str], names: Sequence[str]) -> None:
    if missing := [name for name in names if not variables.get(name)]:
        raise SrlibError(f"{missing[0]}: not set; several processes need {', '.join(names)}")


def _numbered(variables: Mapping[str, str], names: tuple[str, str]) -> dict[str, object]:
    """Return JAX's arguments for a number of processes and an index that variables give."""
    for name in names:
        if not variables[name].isdecimal():
            raise SrlibError(f"{name}: expected a whole number, got {variables[name]!r}")
    count, index = (int(variables[name]) for name in names)
    if index >= count:
        raise SrlibError(f"{names[1]}: expected less than {names[0]} ({count}), got {index}")
    return {"num_processes": count, "process_id": index, "cluster_detection_method": "deactivate"}


def _slurm_gpus(variables: Mapping[str, str]) -> list[int] | None:
    """Return the visible GPUs that belong to this process of Slurm; None: as JAX decides, one per process.

    JAX takes GPU number SLURM_LOCALID. That is wrong for one process per host, which should use all GPUs, and where
    `--gpus-per-task` lets each process see its own only.
    """
    visible = [gpu for gpu in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    names = ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "SLURM_LOCALID")
    if not visible or not all(variables.get(name, "").isdecimal() for name in names):
        return None
    tasks, hosts, index = (int(variables[name]) for name in names)
    per_host = max(1, tasks // hosts)
    share = len(visible) // per_host
    if share == 0:  # The process sees no other GPUs than its own.
        return list(range(len(visible)))
    return list(range(index * share, (index + 1) * share))


def gather(value: object) -> list[object]:
    """Return the value of each process, in their order. Every process must call it.

    Args:
        value: A value that JSON can hold.
    """
    if not _group.is_joined:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with collective():
        sizes = process_allgather(np.array([len(content)], np.int32)).ravel()
        padded = np.zeros(max(sizes), np.uint8)
        padded[: len(content)] = content
        rows = process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def broadcast(arrays: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Return the arrays of the main process, to the last bit. Every process must call it, with equal shapes and types.

    Args:
        arrays: Arrays of numbers of 32 bits.
    """
    if not _group.is_joined:
        return list(arrays)
    from jax.experimental.multihost_utils import broadcast_one_to_all

    # As integers: JAX adds the zeros of the others, which would turn -0.0 into 0.0.
    bits = [np.ascontiguousarray(array).view(np.int32) for array in arrays]
    with collective():
        received = broadcast_one_to_all(bits)
    return [
        np.asarray(part).view(array.dtype).reshape(array.shape) for part, array in zip(received, arrays, strict=True)
    ]


def agreed_signal(signum: int | None) -> int | None:
    """Return a signal that one of the processes got, the same in all of them. Every process must call it.

    A process that stopped by itself would leave the others waiting.

    Args:
        signum: The signal that this process got.
    """
    if not _group.is_joined:
        return signum
    with collective():
        highest = _maximum()(signum or 0)
    if highest:
        expect_end()
    return highest or None


@functools.cache
def _maximum() -> Callable[[int], int]:
    """Return a function that returns the largest of the numbers that the processes give; it costs well under a step."""
    import jax

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
    each, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (["devices"], []))
    largest = jax.jit(lambda numbers: numbers.max(), out_shardings=whole)

    def maximum(number: int) -> int:
        own = np.full(jax.local_device_count(), number, np.int32)
        return int(largest(jax.make_array_from_process_local_data(each, own)))

    return maximum


def expect_end() -> None:
    """Note that every process raises now: they end together, and none takes the end of another for a failure."""
    _group.ends_together = True


def is_reported_by_main() -> bool:
    """Return whether the main process reports the end of this one, since all end for the same reason."""
    return _group.ends_together and not is_main()


@contextlib.contextmanager
def collective() -> Iterator[None]:
    """Turn the failure of a collective operation in the block into one line.

    Raises:
        SrlibError: Another process has ended, or the network between them fails.
    """
    if not _group.is_joined:
        yield
        return
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise SrlibError(
            f"process {_group.rank} of {_group.world} cannot go on: if another one ended first, its message says why "
            f"({one_line(error)})"
        ) from None


def leave() -> None:
    """Wait for all processes, then part. From here on the main process works alone."""
    if _group.is_joined:
        import jax

        jax.distributed.shutdown()
        _group.is_joined = False


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """End a process that fails in the block at once, with its status.

    Without this, JAX would wait at the exit for processes that wait for this one.
    """
    try:
        yield
    except BaseException as error:
        if not _group.is_joined:
            raise
        status = _status(error)
        try:
            if _group.ends_together:
                leave()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _status(error: BaseException) -> int:
    """Return the exit status that Python would give a process, after printing what it would print."""
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    traceback.print_exception(error)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
