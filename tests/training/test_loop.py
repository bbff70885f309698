import csv
import json
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from srlib.data.batches import Batches
from srlib.errors import SrlibError
from srlib.files import file_hash, tree_hash
from srlib.models import WEIGHTS, ModelConfig, build, load_model, save_model
from srlib.params import Params
from srlib.signals import Stopped
from srlib.training import checkpoint
from srlib.training.callbacks import Callback
from srlib.training.loop import fit, training_batches
from srlib.training.metric_log import MetricLog
from srlib.training.pretrain import model_config, pixel_trainer
from srlib.training.session import TrainingSession
from srlib.training.validation import validation_sample, validation_scores

from .conftest import KilledError, killer, recipe, run_finetune, run_pretrain


@pytest.fixture(scope="module")
def uninterrupted(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Return a function that gives the folder of a whole training that logs each step, and what it returned."""

    @cache
    def trained(run: Callable, optimizer: str = "adam") -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp("uninterrupted") / "whole"
        return folder, run(folder, patches, logging_all(optimizer))

    return trained


def validated(folder: Path) -> list[int]:
    """Return the steps of a training's validation.csv."""
    path = folder / "log/validation.csv"
    return [int(row["step"]) for row in csv.DictReader(path.read_text().splitlines())] if path.exists() else []


def logging_all(optimizer: str = "adam") -> Params:
    return recipe(pretrain={"log_every": 1, "optimizer": optimizer}, finetune={"log_every": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "steps", "optimizer"),
    [(run_pretrain, (3, 9), "adam"), (run_pretrain, (3, 9), "muon"), (run_finetune, (4,), "adam")],
)
def test_a_killed_training_resumes_to_the_same_bytes(
    run, steps, optimizer, uninterrupted, patches: Path, tmp_path: Path, monkeypatch
) -> None:
    whole, _ = uninterrupted(run, optimizer)
    monkeypatch.setattr(checkpoint, "TIME_SHARE", 1e9)  # after every step
    params = logging_all(optimizer)
    (tmp_path / "start").symlink_to(whole.parent / "start")
    for at in steps:
        with pytest.raises(KilledError):
            run(tmp_path / "killed", patches, params, killer(at))
    assert not (tmp_path / "killed/model").exists()
    run(tmp_path / "killed", patches, params)
    for name in ("model", "log"):
        assert tree_hash(whole / name) == tree_hash(tmp_path / "killed" / name)


def test_a_finished_training_is_not_repeated(uninterrupted, patches: Path, monkeypatch) -> None:
    whole, _ = uninterrupted(run_pretrain)
    first, steps = tree_hash(whole / "model"), []
    monkeypatch.delattr(TrainingSession, "take_step")
    run_pretrain(whole, patches, logging_all(), report=lambda record, step: steps.append(step))
    assert tree_hash(whole / "model") == first
    assert steps == [*range(1, 13), *validated(whole)], "the logs are reported again, nothing is trained again"


def test_another_seed_gives_other_weights(uninterrupted, patches: Path, tmp_path: Path) -> None:
    run_pretrain(tmp_path / "b", patches, recipe().model_copy(update={"seed": 6}))
    whole, _ = uninterrupted(run_pretrain)
    assert tree_hash(whole / "model") != tree_hash(tmp_path / "b/model")


def test_the_loss_falls_and_the_best_weights_are_kept(patches: Path, tmp_path: Path) -> None:
    records = {}
    params = recipe(pretrain={"steps": 60, "log_every": 20})
    _, result = run_pretrain(tmp_path, patches, params, lambda record, step: records.setdefault(step, record))
    losses = np.genfromtxt(tmp_path / "log/loss.csv", delimiter=",", names=True)
    scores = np.genfromtxt(tmp_path / "log/validation.csv", delimiter=",", names=True)
    assert losses["loss"][-1] < 0.7 * losses["loss"][0]
    assert list(losses["step"][-1:]) == [60]
    assert result.metrics["psnr_y"] == pytest.approx(scores["psnr_y"].max(), rel=1e-5)
    assert set(records) >= {20, 40, 60}


def test_the_saved_weights_are_those_that_were_scored(uninterrupted) -> None:
    whole, (_, result) = uninterrupted(run_pretrain)
    loaded, config = load_model(whole / "model")
    assert config == model_config(recipe())
    for a, b in zip(loaded.variables, result.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), b)


@pytest.mark.slow
def test_interpolation_0_gives_the_pretrained_weights(uninterrupted, patches: Path, tmp_path: Path) -> None:
    network, result = run_finetune(tmp_path / "gan", patches, recipe(finetune={"interpolation": 0.0}))
    scores = validation_scores(network, validation_sample(patches))
    assert result.headline["psnr_y"] == pytest.approx(scores["psnr_y"], abs=1e-4)  # of what is saved, not of the GAN
    whole, _ = uninterrupted(run_finetune)
    assert recipe().finetune.interpolation == 1.0
    for trained, same in ((tmp_path / "gan", True), (whole, False)):
        started, ended = (file_hash(folder / WEIGHTS) for folder in (trained.parent / "start", trained / "model"))
        assert (started == ended) == same
        assert json.loads((trained / "model/config.json").read_text())["training"] == "gan"


def test_training_may_start_from_earlier_weights(uninterrupted, patches: Path, tmp_path: Path) -> None:
    earlier = uninterrupted(run_pretrain)[0] / "model"
    start = {"folder": str(earlier), "sha256": file_hash(earlier / WEIGHTS)}
    again = recipe(pretrain={"start_from": start, "steps": 1, "learning_rate": {"peak": 1e-9}, "ema_decay": 0.0})
    network, _ = run_pretrain(tmp_path / "b", patches, again)
    for a, b in zip(load_model(earlier)[0].variables, network.variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-7)
    wrong = recipe(pretrain={"start_from": start | {"sha256": "0" * 64}})
    with pytest.raises(SrlibError, match=r"pretrain.start_from: .* has the SHA-256 .*; write this SHA-256 if"):
        run_pretrain(tmp_path / "c", patches, wrong)
    other = recipe(pretrain={"start_from": start, "model": {"name": "edsr", "blocks": 2, "filters": 8}})
    with pytest.raises(SrlibError, match=r"pretrain.start_from"):
        run_pretrain(tmp_path / "d", patches, other)


def test_finetuning_refuses_another_scale(patches: Path, tmp_path: Path) -> None:
    config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8})
    save_model(build(config), config, tmp_path / "start")
    with pytest.raises(SrlibError, match="expected a model for ×4, got one for ×2"):
        run_finetune(tmp_path / "gan", patches, recipe())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "at", "signum"),
    [
        (run_pretrain, 7, signal.SIGINT),
        (run_pretrain, 7, signal.SIGTERM),
        (run_pretrain, 7, signal.SIGHUP),
        (run_finetune, 3, signal.SIGINT),
    ],
)
def test_a_stopped_training_saves_this_very_step(
    run, at: int, signum: signal.Signals, uninterrupted, patches: Path, tmp_path: Path, monkeypatch
) -> None:
    """Saving is due after the first step only, so nothing but the signal saves step `at`."""
    monkeypatch.setattr(checkpoint, "TIME_SHARE", 0.0)
    params = logging_all()
    whole, _ = uninterrupted(run)
    (tmp_path / "start").symlink_to(whole.parent / "start")

    def stop(record: dict, step: int) -> None:
        if step == at:
            signal.raise_signal(signum)

    with pytest.raises(Stopped) as stopped:
        run(tmp_path / "stopped", patches, params, stop)
    assert stopped.value.signum == signum
    assert stopped.value.note == f"the next run continues from step {at}"
    earlier, steps = [*range(1, at + 1), *validated(tmp_path / "stopped")], list[int]()
    resumed = run(tmp_path / "stopped", patches, params, lambda record, step: steps.append(step))
    assert steps[: len(earlier) + 1] == [*earlier, at + 1], "records of earlier steps, then the next one"
    assert resumed
    for name in ("model", "log"):
        assert tree_hash(whole / name) == tree_hash(tmp_path / "stopped" / name)


def test_a_second_signal_stops_at_once(patches: Path, tmp_path: Path) -> None:
    def stop(record: dict, step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_pretrain(tmp_path, patches, recipe(), stop)


class Recorder(Callback):
    """Notes when it is called."""

    def __init__(self, name: str, calls: list) -> None:
        self.name, self.calls = name, calls

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        self.calls.append((self.name, "start", session.step))

    def on_step_end(self, session: TrainingSession, lr: np.ndarray, hr: np.ndarray) -> None:
        self.calls.append((self.name, lr.shape[0], session.step))


def test_callbacks_are_called_in_order_after_every_step(patches: Path, tmp_path: Path) -> None:
    params, calls = recipe(), []
    session = TrainingSession("pretrain", pixel_trainer(params), 2, MetricLog(tmp_path))
    batches = training_batches("pretrain", patches, params.pretrain, params.seed)
    fit(session, batches, [Recorder("a", calls), Recorder("b", calls)])
    starts = [("a", "start", 0), ("b", "start", 0)]
    assert calls == [*starts, ("a", 4, 1), ("b", 4, 1), ("a", 4, 2), ("b", 4, 2)]


@pytest.mark.slow
def test_the_discriminator_may_have_its_own_learning_rate(uninterrupted, patches: Path, tmp_path: Path) -> None:
    own = {"discriminator_learning_rate": {"schedule": "steps", "peak": 4e-3, "milestones": [3], "factor": 0.5}}
    same = {"discriminator_learning_rate": {"peak": 1e-3}}
    default, _ = uninterrupted(run_finetune)
    (tmp_path / "start").symlink_to(default.parent / "start")
    for name, section in {"same": same, "own": own}.items():
        run_finetune(tmp_path / name, patches, recipe(finetune=section))
    columns = np.genfromtxt(tmp_path / "own/log/loss.csv", delimiter=",", names=True)
    np.testing.assert_allclose(columns["learning_rate"], 1e-3)
    np.testing.assert_allclose(columns["discriminator_learning_rate"], [4e-3, 2e-3, 2e-3])
    hashes = {folder.name: tree_hash(folder / "model") for folder in (default, tmp_path / "same", tmp_path / "own")}
    assert hashes["whole"] == hashes["same"] != hashes["own"]
