"""Saving and loading the resume state: every variable that training changes, and the progress made."""

import contextlib
import dataclasses
import errno
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from keras import ops
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from srlib.atomic import atomic_path
from srlib.errors import one_line
from srlib.training.session import Snapshot, TrainingSession
from srlib.training.types import LogRecord, Weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE = "state.npz"

TIME_SHARE = 0.01
"""Saving takes at most this share of the time."""

MAX_AGE = 600
"""A resume state is at most this many seconds old, however slow the disk is."""


class HasState(Protocol):
    """A callback, as far as checkpoints are concerned."""

    state: "DataclassInstance"


@dataclass
class TrainingState:
    """Progress of a training, apart from its arrays. All of it fits into JSON.

    Attributes:
        step: Number of steps done.
        loss: The records of loss.csv.
        validation: The records of validation.csv.
        snapshots: The step of each snapshot.
        callbacks: The state of each callback, by the name of its class.
    """

    step: int
    loss: list[LogRecord]
    validation: list[LogRecord]
    snapshots: dict[str, int]
    callbacks: dict[str, dict[str, object]]


class CheckpointBudget:
    """Decides when to save: after the first step, then as often as `TIME_SHARE` and `MAX_AGE` say."""

    def __init__(self) -> None:
        self._started = self._saved = time.monotonic()
        self._longest = self._total = 0.0

    def is_due(self) -> bool:
        """Return True if saving now and after the last step stays within `TIME_SHARE`, or the last save is too old.

        Three times the duration of the longest save must fit in, since a resume state grows by snapshots.
        """
        now = time.monotonic()
        earned = TIME_SHARE * (now - self._started)
        return self._total + 3 * self._longest <= earned or now - self._saved > MAX_AGE

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the saving done in the block."""
        begin = time.monotonic()
        yield
        self._saved = time.monotonic()
        duration = self._saved - begin
        self._longest = max(self._longest, duration)
        self._total += duration


def save_checkpoint(folder: Path, session: TrainingSession, callbacks: Sequence[HasState]) -> None:
    """Write the resume state, whole or not at all.

    Args:
        folder: Folder for `state.npz`.
        session: The training.
        callbacks: The callbacks whose state is saved too.
    """
    state = TrainingState(
        step=session.step,
        loss=session.log.loss,
        validation=session.log.validation,
        snapshots={name: snapshot.step for name, snapshot in session.snapshots.items()},
        callbacks={type(callback).__name__: dataclasses.asdict(callback.state) for callback in callbacks},
    )
    with session.variables() as variables:
        arrays = {f"variable.{i}": np.asarray(ops.convert_to_numpy(v)) for i, v in enumerate(variables)}
    for name, snapshot in session.snapshots.items():
        arrays |= {f"{name}.{i}": value for i, value in enumerate(snapshot.weights)}
    arrays["state"] = np.frombuffer(json.dumps(dataclasses.asdict(state)).encode(), np.uint8)
    with atomic_path(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_checkpoint(folder: Path, session: TrainingSession, callbacks: Sequence[HasState]) -> bool:
    """Let a training continue from the resume state in `folder`.

    A damaged state, or one of another network, changes nothing: a line on stderr says that training starts afresh.

    Args:
        folder: Folder with `state.npz`.
        session: A training at step 0.
        callbacks: The callbacks whose state is replaced.

    Returns:
        Whether there was a usable state.

    Raises:
        OSError: The file cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return False
    with session.variables() as variables:
        try:
            state, states, arrays = _read(path, session.steps, callbacks)
            values = _arrays(arrays, "variable", variables)
            snapshots = {
                name: Snapshot(step, _arrays(arrays, name, session.trainer.network.variables))
                for name, step in state.snapshots.items()
            }
        except Exception as error:  # Bytes that are not a resume state can fail in every way.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a place before the file's begin
                raise
            print(f"{session.name}: {path} is not usable; starts afresh ({_reason(error)})", file=sys.stderr)
            return False
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    session.step = state.step
    session.snapshots = snapshots
    session.log.loss[:] = state.loss
    session.log.validation[:] = state.validation
    for callback, callback_state in zip(callbacks, states, strict=True):
        callback.state = callback_state
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return one_line(error)


Arrays: TypeAlias = dict[str, NDArray[np.float32]]


def _read(
    path: Path, steps: int, callbacks: Sequence[HasState]
) -> tuple[TrainingState, list["DataclassInstance"], Arrays]:
    """Read a resume state and check everything about it but its arrays."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if any(member.compress_type for member in stored.zip.infolist()):
            raise ValueError("compressed arrays, which may fill the memory")
        arrays = {name: stored[name] for name in stored.files}
    state = TypeAdapter(TrainingState).validate_json(arrays.pop("state").tobytes(), strict=True)
    if not 0 < state.step <= steps:
        raise ValueError(f"expected a step from 1 to {steps}, got {state.step}")
    for name, records in (("loss", state.loss), ("validation", state.validation)):
        if any(record.keys() != records[0].keys() or "step" not in record for record in records):
            raise ValueError(f"{name}: records of different columns, or without a step")
    states = [
        TypeAdapter(type(callback.state)).validate_json(
            json.dumps(state.callbacks[type(callback).__name__]), strict=True
        )
        for callback in callbacks
    ]
    return state, states, arrays


def _arrays(arrays: Arrays, name: str, like: Sequence[NDArray[np.float32]]) -> Weights:
    """Return the arrays `name.0`, `name.1`, …, as many as `like` has and with the same shapes and types."""
    values = [arrays[f"{name}.{i}"] for i in range(len(like))]
    for value, other in zip(values, like, strict=True):
        if (value.shape, str(value.dtype)) != (tuple(other.shape), str(other.dtype)):
            raise ValueError(f"{name}: expected {other.dtype} {tuple(other.shape)}, got {value.dtype} {value.shape}")
    return values
