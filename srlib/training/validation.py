"""Scores on held-out patches while training runs, and the choice of what to save when it diverges."""

import math
from pathlib import Path

import keras
import numpy as np
from keras import ops

from srlib.data.batches import validation_pairs
from srlib.errors import SrlibError
from srlib.imaging.metrics import psnr_y, ssim_y, to_uint8
from srlib.models import ModelConfig, build, save_model, super_resolve
from srlib.training.diagnostics import checkerboard, color_shift
from srlib.training.divergence import Row
from srlib.training.state import Weights

VALIDATION_PATCHES = 64
"""At most this many held-out patches are scored, spread evenly."""

LAST_GOOD = "last_good"
"""The folder, beside the resume state, of the model that is saved when training diverges."""

GOOD = 6.0
"""Weights are good if their PSNR-Y on held-out patches is at most this many dB below the best that were kept."""


def validation_sample(patches: Path) -> tuple[np.ndarray, np.ndarray]:
    """LR [N, h, w, 3] and HR [N, scale·h, scale·w, 3] of the held-out patches that are scored, uint8."""
    lr, hr = validation_pairs(patches)
    chosen = np.unique(np.linspace(0, len(lr) - 1, min(len(lr), VALIDATION_PATCHES)).round().astype(int))
    return np.asarray(lr[chosen]), np.asarray(hr[chosen])


def score(network: keras.Model, lr: np.ndarray, hr: np.ndarray) -> tuple[Row, np.ndarray]:
    """Means over held-out patches by the evaluation protocol, with `artifacts`, and SR above HR of the first four."""
    scale = hr.shape[1] // lr.shape[1]
    sr = [
        to_uint8(picture) for start in range(0, len(lr), 8) for picture in super_resolve(network, lr[start : start + 8])
    ]
    red, green, blue = color_shift(list(hr), sr)
    row = {
        "psnr_y": float(np.mean([psnr_y(h, s, scale=scale) for h, s in zip(hr, sr, strict=True)])),
        "ssim_y": float(np.mean([ssim_y(h, s, scale=scale) for h, s in zip(hr, sr, strict=True)])),
        "shift_red": red,
        "shift_green": green,
        "shift_blue": blue,
        "checkerboard": checkerboard(list(hr), sr, scale),
    }
    return row, np.concatenate([np.concatenate(sr[:4], axis=1), np.concatenate(hr[:4], axis=1)])


def write_model(weights: Weights, config: ModelConfig, folder: Path) -> keras.Model:
    """Saves the weights of a network of this config, as float32, to `folder`; returns the network."""
    model = build(config)
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(value)
    save_model(model, config, folder)
    return model


def copy_weights(network: keras.Model) -> Weights:
    """The values of all variables, batch statistics included, as arrays of their own."""
    return [np.array(ops.convert_to_numpy(v)) for v in network.variables]


def are_finite(weights: Weights) -> bool:
    """Whether no weight is infinite or not a number."""
    return all(np.isfinite(value).all() for value in weights)


def is_good(row: Row, best_psnr_y: float) -> bool:
    """Whether a row of validation.csv speaks for its weights, beside the best that were kept."""
    return row["psnr_y"] >= best_psnr_y - GOOD


def rescue(
    network: keras.Model,
    kept: dict[str, Weights],
    steps: dict[str, int],
    pairs: tuple[np.ndarray, np.ndarray],
    config: ModelConfig,
    folder: Path,
) -> str:
    """Saves the latest of the kept weights that are good, and says where.

    Weights go bad a step before the loss shows it, and slowly exploding ones earlier: those that no loss has confirmed
    are left out, and the others are scored now.
    """
    scores: dict[str, Row] = {}
    for name in ("best", "good"):
        if name not in kept or not are_finite(kept[name]):
            continue
        for variable, value in zip(network.variables, kept[name], strict=True):
            variable.assign(value)
        try:
            scores[name], _ = score(network, *pairs)
        except SrlibError:  # finite weights, but the picture overflows
            continue
    best = max((row["psnr_y"] for row in scores.values()), default=-math.inf)
    good = [name for name, row in scores.items() if is_good(row, best)]
    if not good:
        return "no good weights to save"
    name = max(good, key=lambda name: steps[name])
    write_model(kept[name], config, folder)
    return f"last good weights (step {steps[name]}, {scores[name]['psnr_y']:.2f} dB on held-out patches): {folder}"
