"""Real divergence, by an absurd learning rate: one line, and a model that can still be used."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from srlib.errors import SrlibError
from srlib.files import file_hash, tree_hash
from srlib.models import WEIGHTS, load_model
from srlib.training import checkpoint, session
from srlib.training.callbacks import LAST_GOOD
from srlib.training.trainer import Trainer

from .conftest import KilledError, killer, recipe, run_finetune, run_pretrain

ABSURD = {"peak": 0.99}
OFTEN = {"steps": 400, "log_every": 2, "validate_every": 4, "clip_norm": 0.0}


@pytest.fixture(scope="module")
def trained(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `start` holds a network trained long enough to be clearly better than a ruined one."""
    folder = tmp_path_factory.mktemp("trained")
    run_pretrain(folder, patches, recipe(pretrain={"steps": 150, "learning_rate": {"peak": 3e-3}}))
    (folder / "model").rename(folder / "start")
    return folder


def turning_bad(at: int):
    """A learning rate that is fine for the first steps."""
    return lambda schedule, step, steps: 1e-4 if step < at else 0.9


def psnr(message: str) -> float:
    return float(message.split(" dB")[0].split(", ")[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "stage", "loss"),
    [
        (run_pretrain, "pretrain", "mae"),
        (run_pretrain, "pretrain", "psnr"),
        (run_pretrain, "pretrain", "psnr_y"),
        (run_finetune, "finetune", "mae"),
    ],
)
def test_the_last_good_weights_are_saved(
    run, stage, loss, trained: Path, patches: Path, tmp_path: Path, monkeypatch
) -> None:
    start = {"folder": str(trained / "start"), "sha256": file_hash(trained / "start" / WEIGHTS)}
    (tmp_path / "start").symlink_to(trained / "start")
    params = recipe(pretrain=OFTEN | {"start_from": start, "loss": loss}, finetune=OFTEN)
    monkeypatch.setattr(session, "learning_rate", turning_bad(9))
    with pytest.raises(SrlibError) as stopped:
        run(tmp_path / "run", patches, params)
    message = str(stopped.value)
    assert len(message.splitlines()) == 1
    assert f"lower {stage}.learning_rate.peak or set {stage}.clip_norm to 1" in message
    assert "last good weights (step 8," in message, "a few steps before it went wrong"
    folder = tmp_path / "run/resume" / LAST_GOOD
    assert message.endswith(str(folder))
    model, config = load_model(folder, scale=4)
    assert config.training == ("gan" if stage == "finetune" else "pixel")
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.variables)
    assert psnr(message) > 20, "as good as what it started from"
    assert not (tmp_path / "run/model").exists()


@pytest.mark.slow
def test_a_killed_training_diverges_in_the_same_way(patches: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "TIME_SHARE", 1e9)  # after every step
    monkeypatch.setattr(session, "learning_rate", turning_bad(7))
    params = recipe(pretrain=OFTEN)
    messages = []
    for name in ("whole", "killed"):
        if name == "killed":
            with pytest.raises(KilledError):
                run_pretrain(tmp_path / name, patches, params, killer(8))
        with pytest.raises(SrlibError) as stopped:
            run_pretrain(tmp_path / name, patches, params)
        messages.append(str(stopped.value).replace(str(tmp_path / name), ""))
    assert messages[0] == messages[1]
    good = [tree_hash(tmp_path / name / "resume" / LAST_GOOD) for name in ("whole", "killed")]
    assert good[0] == good[1]


@pytest.mark.parametrize(
    ("run", "stage"),
    [(run_pretrain, "pretrain"), pytest.param(run_finetune, "finetune", marks=pytest.mark.slow)],
)
def test_an_absurd_learning_rate_from_the_first_step(run, stage, patches: Path, tmp_path: Path) -> None:
    section = OFTEN | {"learning_rate": ABSURD, "clip_norm": 1.0}
    with pytest.raises(SrlibError, match=rf"^{stage}: \w+ (became (nan|inf)|exploded).* at step \d+; lower {stage}"):
        run(tmp_path / "run", patches, recipe(pretrain=section, finetune=section))
    load_model(tmp_path / "run/resume" / LAST_GOOD)


def test_weights_that_go_bad_in_the_last_step(patches: Path, tmp_path: Path, monkeypatch) -> None:
    """The loss of that step is still that of the weights before it."""
    train_on_batch = Trainer.train_on_batch

    def poisoned(self: keras.Model, *args, **options):
        logs = train_on_batch(self, *args, **options)
        if int(self.optimizer.iterations) == 12:
            self.network.variables[0].assign(self.network.variables[0] * np.nan)
        return logs

    monkeypatch.setattr(Trainer, "train_on_batch", poisoned)
    with pytest.raises(SrlibError, match=r"a weight became infinite or not a number at step 12; .*\(step 9, "):
        run_pretrain(tmp_path, patches, recipe(pretrain={"ema_decay": 0.0, "validate_every": 100}))
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_fluctuating_gan_is_not_stopped(patches: Path, tmp_path: Path) -> None:
    """A strong, fast discriminator from an untrained generator: the losses swing, and nothing stops."""
    section = {"steps": 60, "adversarial_weight": 1.0, "learning_rate": {"peak": 5e-3}, "log_every": 20}
    run_finetune(tmp_path / "gan", patches, recipe(finetune=section))
