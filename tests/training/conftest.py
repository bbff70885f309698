from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data

from srlib.imaging.resize import downscale
from srlib.models import build, save_model
from srlib.params import LearningRate, Params
from srlib.training.gan.trainer import FinetuneInputs, finetune
from srlib.training.metric_log import MetricLog
from srlib.training.optimizers import NetworkUpdate, make_optimizer
from srlib.training.pretrain import model_config, pretrain

LITTLE = {
    "scale": 4,
    "seed": 5,
    "download": {"train": "sample", "test": ["sample"], "features": "none"},
    "prepare": {"images": "data/raw/train", "patch": 24},
    "pretrain": {
        "model": {"name": "edsr", "blocks": 1, "filters": 8},
        "lr_patch": 12,
        "batch": 4,
        "steps": 12,
        "learning_rate": {"schedule": "cosine", "peak": 1e-3, "warmup": 2},
        "ema_decay": 0.9,
        "clip_norm": 1.0,
        "log_every": 3,
        "validate_every": 6,
    },
    "finetune": {
        "lr_patch": 12,
        "batch": 4,
        "steps": 6,
        "learning_rate": {"peak": 1e-3},
        "features": {"weights": "random", "layer": "block1_conv2"},
        "perceptual_scale": 1e-5,
        "discriminator_filters": 4,
        "ema_decay": 0.9,
        "log_every": 2,
        "validate_every": 4,
    },
    "evaluate": {"images": "data/raw/test"},
}


def recipe(**sections: dict) -> Params:
    return Params.model_validate({k: v | sections.get(k, {}) if isinstance(v, dict) else v for k, v in LITTLE.items()})


class KilledError(Exception):
    pass


def killer(at: int):
    """A report that ends the run at the record of a step, before the state of that step is saved."""

    def report(record: dict, step: int) -> None:
        if step == at:
            raise KilledError

    return report


def run_pretrain(folder: Path, patches: Path, params: Params, report=lambda record, step: None):
    log = MetricLog(folder / "log", report)
    return pretrain(params, patches, folder / "model", resume=folder / "resume", log=log)


def run_finetune(folder: Path, patches: Path, params: Params, report=lambda record, step: None):
    start = folder.parent / "start"
    if not start.exists():
        config = model_config(params)
        save_model(build(config), config, start)
    log = MetricLog(folder / "log", report)
    inputs = FinetuneInputs(patches, folder, start)
    return finetune(params, inputs, folder / "model", resume=folder / "resume", log=log)


def plain_update(network: keras.Model, optimizer: str = "adam", **parts) -> NetworkUpdate:
    """An update of the network at a constant learning rate."""
    made = make_optimizer(optimizer, network.trainable_variables)
    return NetworkUpdate(network, made, LearningRate(peak=1e-3), **parts)


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `prepare` makes it: 12 training and 4 validation patches of 24 LR pixels, ×4, of a photograph."""
    folder = tmp_path_factory.mktemp("patches")
    hr = skimage.data.coffee()[:384, :384]
    lr = downscale(hr, 4)
    corners = [(y, x) for y in range(0, 96, 24) for x in range(0, 96, 24)]
    for split, chosen in (("train", corners[:12]), ("validation", corners[12:])):
        np.save(folder / f"{split}_lr.npy", np.stack([lr[y : y + 24, x : x + 24] for y, x in chosen]))
        np.save(folder / f"{split}_hr.npy", np.stack([hr[4 * y : 4 * y + 96, 4 * x : 4 * x + 96] for y, x in chosen]))
    return folder
