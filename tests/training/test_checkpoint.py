import itertools
import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from srlib.files import tree_hash
from srlib.training import checkpoint
from srlib.training.callbacks import DivergenceGuard, LossLog, Validation
from srlib.training.checkpoint import FILE, MAX_AGE, TIME_SHARE, CheckpointBudget, load_checkpoint
from srlib.training.metric_log import MetricLog
from srlib.training.pretrain import PixelTrainer, model_config, pixel_trainer
from srlib.training.session import TrainingSession
from srlib.training.validation import save_last_good

from .conftest import recipe, run_pretrain


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def save_times(step: float, duration: float, steps: int) -> tuple[list[float], float]:
    """When a training of `steps` steps begins to save, and how long all of it takes, on a clock of its own."""
    clock, times = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "time", SimpleNamespace(monotonic=clock.monotonic))
        budget = CheckpointBudget()
        for number in range(1, steps + 1):
            clock.now += step
            if number == steps or budget.is_due():
                times.append(clock.now - 1000)
                with budget.measure():
                    clock.now += duration
    return times, clock.now - 1000


class TestBudget:
    @given(st.floats(0.01, 10), st.floats(0.001, 1.2), st.integers(1, 2000))
    def test_saving_keeps_to_its_share_of_the_time(self, step: float, duration: float, steps: int) -> None:
        times, whole = save_times(step, duration, steps)
        assert times[0] == pytest.approx(step), "the first step is saved"
        assert len(times) <= 2 or len(times) * duration <= TIME_SHARE * whole * (1 + 1e-9)
        ages = [after - before for before, after in itertools.pairwise(times)]
        assert max(ages, default=0) <= max(4 * duration / TIME_SHARE, MAX_AGE) + step + duration + 1e-6

    def test_on_a_slow_disk_the_state_is_never_too_old(self) -> None:
        times, _ = save_times(step=1.0, duration=60.0, steps=5000)
        ages = [after - before for before, after in itertools.pairwise(times)]
        assert len(ages) > 6
        assert max(ages) <= MAX_AGE + 60.0 + 1.0 + 1e-6


def change_state(path: Path, **changes) -> None:
    """Replace values of the JSON in a resume state; one may be given as a function of the old value."""
    with np.load(path) as stored:
        arrays = dict(stored)
    state = json.loads(arrays["state"].tobytes())
    for name, value in changes.items():
        state[name] = value(state[name]) if callable(value) else value
    write_state(path, arrays, json.dumps(state))


def write_state(path: Path, arrays: dict, text: str) -> None:
    arrays["state"] = np.frombuffer(text.encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.fixture(scope="module")
def trained(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log, the model and the resume state of a finished training."""
    folder = tmp_path_factory.mktemp("trained")
    run_pretrain(folder, patches, recipe())
    return folder


@pytest.fixture(scope="module")
def trainer() -> PixelTrainer:
    return pixel_trainer(recipe())


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A copy of the resume state."""
    path = tmp_path / FILE
    path.write_bytes((trained / "resume" / FILE).read_bytes())
    return path


class TestLoading:
    def load(self, path: Path, trainer: PixelTrainer) -> tuple[bool, TrainingSession]:
        params = recipe()
        session = TrainingSession("pretrain", trainer, params.pretrain.steps, MetricLog(path.parent))
        pairs = (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8))
        rescue = partial(save_last_good, pairs=pairs, config=model_config(params), folder=path.parent)
        guard = DivergenceGuard(params.pretrain, rescue)
        callbacks = [guard, LossLog(3), Validation(pairs, 6, guard, keep_best=True)]
        return load_checkpoint(path.parent, session, callbacks), session

    def check_refused(self, path: Path, trainer: PixelTrainer, reason: str, capsys: pytest.CaptureFixture) -> None:
        before = [np.array(ops.convert_to_numpy(v)) for v in trainer.step_variables]
        loaded, session = self.load(path, trainer)
        assert not loaded
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"pretrain: {path} is not usable; starts afresh (")
        assert reason in line
        assert session.step == 0 and not session.snapshots and not session.log.loss
        for value, variable in zip(before, trainer.step_variables, strict=True):
            np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))

    def test_a_usable_state(self, path: Path, capsys) -> None:
        loaded, session = self.load(path, pixel_trainer(recipe()))
        assert loaded
        assert not capsys.readouterr().err
        assert session.step == 12
        assert set(session.snapshots) == {"latest", "good", "best"}
        assert [record["step"] for record in session.log.loss] == [3, 6, 9, 12]

    def test_no_state(self, path: Path, trainer: PixelTrainer, capsys) -> None:
        path.unlink()
        loaded, _ = self.load(path, trainer)
        assert not loaded
        assert not capsys.readouterr().err

    def test_a_truncated_file(self, path: Path, trainer: PixelTrainer, capsys) -> None:
        path.write_bytes(path.read_bytes()[:-100])
        self.check_refused(path, trainer, "", capsys)

    def test_an_empty_file(self, path: Path, trainer: PixelTrainer, capsys) -> None:
        path.write_bytes(b"")
        self.check_refused(path, trainer, "No data left in file", capsys)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"step": "12"}, "valid integer"),
            ({"step": None}, "valid integer"),
            ({"step": 10**6}, "expected a step from 1 to 12, got 1000000"),
            ({"step": 0}, "expected a step from 1 to 12, got 0"),
            ({"loss": [3]}, "loss"),
            ({"loss": lambda records: [*records, {"step": 12.0}]}, "records of different columns"),
            ({"validation": lambda records: [{"psnr_y": 1.0}]}, "without a step"),
            ({"validation": "none"}, "validation: Input should be a valid array"),
            ({"snapshots": {"worst": 3}}, "worst.0"),
            ({"callbacks": {}}, "DivergenceGuard"),
            ({"callbacks": lambda states: states | {"LossLog": {"sums": {"loss": "1"}}}}, "valid number"),
        ],
    )
    def test_values_of_other_types(self, changes, reason, path: Path, trainer: PixelTrainer, capsys) -> None:
        change_state(path, **changes)
        self.check_refused(path, trainer, reason, capsys)

    @pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "{", '{"step": 1}'])
    def test_other_json(self, text: str, path: Path, trainer: PixelTrainer, capsys) -> None:
        with np.load(path) as stored:
            write_state(path, dict(stored), text)
        self.check_refused(path, trainer, "", capsys)

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (np.zeros((3, 3, 3, 16), np.float32), "variable: expected float32 (3, 3, 3, 8), got float32 (3, 3, 3, 16)"),
            (np.zeros((3, 3, 3, 8), np.float64), "variable: expected float32 (3, 3, 3, 8), got float64 (3, 3, 3, 8)"),
            (np.array([{}], object), "allow_pickle=False"),
        ],
    )
    def test_other_arrays(self, array: np.ndarray, reason: str, path: Path, trainer: PixelTrainer, capsys) -> None:
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["variable.0"] = array
        with path.open("wb") as file:
            np.savez(file, **arrays)
        self.check_refused(path, trainer, reason, capsys)

    def test_compressed_arrays(self, path: Path, trainer: PixelTrainer, capsys) -> None:
        with np.load(path) as stored:
            arrays = dict(stored)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
        self.check_refused(path, trainer, "compressed arrays, which may fill the memory", capsys)

    def test_a_lost_block(self, path: Path, trainer: PixelTrainer, capsys) -> None:
        """The directory at the end then points before the begin of the file, which the system refuses."""
        content = path.read_bytes()
        path.write_bytes(content[:100] + content[-(len(content) // 4) :])
        self.check_refused(path, trainer, "", capsys)

    def test_a_pipe_does_not_block(self, path: Path, trainer: PixelTrainer) -> None:
        path.unlink()
        os.mkfifo(path)
        loaded, _ = self.load(path, trainer)
        assert not loaded

    def test_a_disk_error_is_an_error(self, path: Path, trainer: PixelTrainer, monkeypatch) -> None:
        def fail(*arguments, **options):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(np, "load", fail)
        with pytest.raises(OSError, match="Input/output error"):
            self.load(path, trainer)


def test_after_a_damaged_state_training_starts_afresh(path: Path, trained: Path, patches: Path, capsys) -> None:
    folder = path.parent / "again"
    (folder / "resume").mkdir(parents=True)
    (folder / "resume" / FILE).write_bytes(path.read_bytes()[:-100])
    run_pretrain(folder, patches, recipe())
    assert "is not usable; starts afresh" in capsys.readouterr().err
    assert tree_hash(folder / "model") == tree_hash(trained / "model")
