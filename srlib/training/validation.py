"""Scores on held-out patches during training, and the choice of what to save when it diverges."""

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np

from srlib.data.batches import validation_pairs
from srlib.errors import SrlibError
from srlib.imaging.metrics import FLAWLESS, RUINED, psnr_y, ssim_y, to_uint8
from srlib.imaging.resize import resize
from srlib.models import ModelConfig, build, save_model, super_resolve
from srlib.training.diagnostics import checkerboard, color_shift
from srlib.training.session import Snapshot, TrainingSession, assign_weights
from srlib.training.types import ByteArray, LogRecord, Weights

ValidationPairs: TypeAlias = tuple[ByteArray, ByteArray]
"""LR [N, h, w, 3] and HR [N, scale·h, scale·w, 3]."""

VALIDATION_PATCHES = 64
"""At most this many held-out patches are scored, spread evenly."""

LARGEST_BATCH = 8
"""At most this many held-out patches are upscaled at once; fewer if they are larger than 64×64 pixels."""


def validation_sample(patches: Path) -> ValidationPairs:
    """Return the held-out patches to score, at most `VALIDATION_PATCHES`."""
    lr, hr = validation_pairs(patches)
    chosen = np.unique(np.linspace(0, len(lr) - 1, min(len(lr), VALIDATION_PATCHES)).round().astype(int))
    return np.asarray(lr[chosen]), np.asarray(hr[chosen])


def upscale_patches(network: keras.Model, lr: ByteArray) -> list[ByteArray]:
    """Upscale patches, few at a time: many large ones at once would need gigabytes and take longer.

    Args:
        network: The network.
        lr: LR patches, uint8 [N, h, w, 3].

    Returns:
        N SR patches, uint8 [scale·h, scale·w, 3].
    """
    size = min(LARGEST_BATCH, max(1, LARGEST_BATCH * 64**2 // math.prod(lr.shape[1:3])))
    batches = (lr[start : start + size] for start in range(0, len(lr), size))
    return [to_uint8(image) for batch in batches for image in super_resolve(network, batch)]


def validation_scores(network: keras.Model, pairs: ValidationPairs) -> LogRecord:
    """Score a network on held-out patches by the evaluation protocol.

    Returns:
        The mean scores with the measures of `srlib.training.diagnostics`.
    """
    lr, hr = pairs
    scale = hr.shape[1] // lr.shape[1]
    sr = upscale_patches(network, lr)
    red, green, blue = color_shift(list(hr), sr)
    return {
        "psnr_y": _mean_psnr_y(hr, sr, scale),
        "ssim_y": float(np.mean([ssim_y(h, s, scale=scale) for h, s in zip(hr, sr, strict=True)])),
        "shift_red": red,
        "shift_green": green,
        "shift_blue": blue,
        "checkerboard_error": checkerboard(list(hr), sr, scale),
    }


def bicubic_psnr_y(pairs: ValidationPairs) -> float:
    """Return the mean PSNR-Y of bicubic upscaling on held-out patches: the line that a network must pass."""
    lr, hr = pairs
    scale = hr.shape[1] // lr.shape[1]
    return _mean_psnr_y(hr, [resize(low, scale) for low in lr], scale)


def _mean_psnr_y(hr: Iterable[ByteArray], sr: Iterable[ByteArray], scale: int) -> float:
    """Return the mean PSNR-Y of patches. A white one, for example, may be restored without any error."""
    return float(np.mean([min(psnr_y(h, s, scale=scale), FLAWLESS) for h, s in zip(hr, sr, strict=True)]))


def is_good(psnr_y: float, best: float) -> bool:
    """Return True if weights with this PSNR-Y are good: at most `RUINED` below the best."""
    return psnr_y >= best - RUINED


def save_weights(weights: Weights, config: ModelConfig, folder: Path) -> keras.Model:
    """Save the weights of a network as a model in `folder`; return the network in float32."""
    model = build(config)
    assign_weights(model, weights)
    save_model(model, config, folder)
    return model


def save_last_good(session: TrainingSession, *, pairs: ValidationPairs, config: ModelConfig, folder: Path) -> str:
    """Save the latest weights that are still good, and return a sentence about it.

    Weights go bad a step before the loss shows it, and slowly diverging ones earlier. So only snapshots that a later
    loss or a validation confirmed are candidates, and all of them are scored again.

    Args:
        session: The training; the weights of its network are replaced.
        pairs: The patches to score on.
        config: The config of the network.
        folder: Folder for the model.
    """
    confirmed = [session.snapshots[name] for name in ("best", "good") if name in session.snapshots]
    scores: list[tuple[float, Snapshot]] = []
    with session.variables():
        for snapshot in confirmed:
            if are_finite(snapshot.weights):
                assign_weights(session.trainer.network, snapshot.weights)
                with contextlib.suppress(SrlibError):  # The weights are finite, but the image overflows.
                    scores.append((validation_scores(session.trainer.network, pairs)["psnr_y"], snapshot))
    best = max((psnr for psnr, _ in scores), default=-math.inf)
    good = [(snapshot.step, psnr, snapshot) for psnr, snapshot in scores if is_good(psnr, best)]
    if not good:
        return "no good weights to save"
    step, psnr, snapshot = max(good, key=lambda entry: entry[0])
    save_weights(snapshot.weights, config, folder)
    return f"last good weights (step {step}, {psnr:.2f} dB on held-out patches): {folder}"


def are_finite(weights: Weights) -> bool:
    """Return True if no weight is infinite or not a number."""
    return all(np.isfinite(value).all() for value in weights)
