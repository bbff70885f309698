"""The state a killed run goes on from: every variable that training changes, and where it stood."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from srlib.errors import SrlibError
from srlib.files import atomic_path

STATE = "state.npz"

Weights = list[np.ndarray]


def save_state(folder: Path, variables: Sequence[Any], kept: dict[str, Weights], facts: dict[str, Any]) -> None:
    """Writes the state whole or not at all.

    Args:
        folder: Where `state.npz` goes.
        variables: Keras variables: weights, batch statistics, averages, optimizer.
        kept: Earlier weights by name, such as the best so far.
        facts: What JSON can hold: the step, the rows of the loss curve.
    """
    arrays = {f"variable{i}": np.asarray(ops.convert_to_numpy(v)) for i, v in enumerate(variables)}
    arrays |= {f"{name}.{i}": value for name, weights in kept.items() for i, value in enumerate(weights)}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with atomic_path(folder / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_state(folder: Path, variables: Sequence[Any]) -> tuple[dict[str, Weights], dict[str, Any]] | None:
    """Fills `variables` from the state in `folder` and returns (kept, facts); None where there is no state yet.

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
            facts = json.loads(stored["facts"].tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SrlibError(f"{path}: not a usable resume state ({error}); delete it to start afresh") from None
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise SrlibError(f"{path}: a resume state of another network; delete it to start afresh")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return kept, facts
