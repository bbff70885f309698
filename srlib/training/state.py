"""The state a killed run goes on from: every variable that training changes, and where it stood."""

import contextlib
import dataclasses
import json
import math
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from srlib.errors import SrlibError
from srlib.files import atomic_path
from srlib.training.divergence import Row, Watch

STATE = "state.npz"

Weights = list[np.ndarray]

SAVING_SHARE = 0.01
"""Saving takes at most this share of the time."""

SAVING_SECONDS = 600
"""A state is never older than this, however slow the disk."""


@dataclass
class Progress:
    """Where training stands, besides its arrays. All of it fits into JSON.

    Attributes:
        step: Steps done.
        loss: The rows of loss.csv.
        validation: The rows of validation.csv.
        best_psnr_y: Of the weights kept as `best`.
        kept: The step of each set of kept weights: `best`, or the last validated ones where the last count; `latest`,
            of the latest row; `good`, the same once the loss of the next step has confirmed them.
        sums: Losses since the last row, added up; `summed` steps.
        watch: What is known about the usual size of the loss.
        memory: What `Trainer.remarks` counts.
    """

    step: int = 0
    loss: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    best_psnr_y: float = -math.inf
    kept: dict[str, int] = field(default_factory=dict)
    sums: Row = field(default_factory=dict)
    summed: int = 0
    watch: Watch = field(default_factory=Watch)
    memory: dict[str, int] = field(default_factory=dict)

    def add(self, logs: Row) -> None:
        """Counts the losses of one more step."""
        self.step, self.summed = self.step + 1, self.summed + 1
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in logs.items()}

    def close_row(self, rate: float) -> Row:
        """Ends a row of loss.csv: the means since the last one."""
        means = {name: total / self.summed for name, total in self.sums.items()}
        self.loss.append({"step": self.step, **means, "learning_rate": rate})
        self.sums, self.summed = {}, 0
        return self.loss[-1]


class Saving:
    """Tells when to save: after the first step, and then whenever the time it takes has been earned."""

    def __init__(self) -> None:
        self._started = self._saved = time.monotonic()
        self._longest = self._total = 0.0

    def due(self) -> bool:
        """Whether this saving and that after the last step still fit into the share, or the state is too old.

        Three times the longest so far are earned first: a state grows by the weights that are kept.
        """
        now = time.monotonic()
        earned = SAVING_SHARE * (now - self._started)
        return self._total + 3 * self._longest <= earned or now - self._saved > SAVING_SECONDS

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measures the saving done in the block."""
        begun = time.monotonic()
        yield
        self._saved = time.monotonic()
        taken = self._saved - begun
        self._longest = max(self._longest, taken)
        self._total += taken


def save_state(folder: Path, variables: Sequence[Any], kept: dict[str, Weights], progress: Progress) -> None:
    """Writes the state whole or not at all.

    Args:
        folder: Where `state.npz` goes.
        variables: Keras variables: weights, batch statistics, averages, optimizer.
        kept: Earlier weights by name, such as the best so far.
        progress: Where training stands.
    """
    arrays = {f"variable{i}": np.asarray(ops.convert_to_numpy(v)) for i, v in enumerate(variables)}
    arrays |= {f"{name}.{i}": value for name, weights in kept.items() for i, value in enumerate(weights)}
    arrays["progress"] = np.frombuffer(json.dumps(dataclasses.asdict(progress)).encode(), np.uint8)
    with atomic_path(folder / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_state(folder: Path, variables: Sequence[Any]) -> tuple[dict[str, Weights], Progress] | None:
    """Fills `variables` from the state in `folder` and returns (kept, progress); None where there is no state yet.

    Raises:
        SrlibError: The state is damaged or belongs to another network.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values = [stored[f"variable{i}"] for i in range(len(variables))]
            kept: dict[str, Weights] = {}
            for name in stored.files:  # in the order of writing
                if "." in name:
                    kept.setdefault(name.split(".")[0], []).append(stored[name])
            facts = json.loads(stored["progress"].tobytes())
            progress = Progress(**facts | {"watch": Watch(**facts["watch"])})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SrlibError(f"{path}: not a usable resume state ({error}); delete it to start afresh") from None
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise SrlibError(f"{path}: a resume state of another network; delete it to start afresh")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return kept, progress
