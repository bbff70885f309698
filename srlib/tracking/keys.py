"""Names of metrics in MLflow: a curve and a result never share one, and what precedes the last slash groups the charts.

| group | what |
|---|---|
| `train` | loss and learning rate while training |
| `validation` | scores on held-out patches while training |
| `gan`, `gan/gradient_share` | the SRGAN's loss terms, discriminator, and shares of the terms in the gradient |
| `result` | scores on held-out patches of the weights that were kept, and their step |
| `test/<set>` | a model's scores on a test set, at the model and at the run that trained it |
| `test/<set>/<method>` | the same for each method, at the run that evaluated, and for trained models at its parent |
| `data`, `speed`, `time`, `system` | counts, speed of the methods, duration, load of the machine |
"""

import re
from collections.abc import Iterable, Mapping

_TRAIN = ("loss", "mae")
"""Losses of either training. All other columns are the SRGAN's, but for learning rates."""

HEADLINE = ("result/validation_psnr_y", "result/validation_ssim_y")
"""Results of a training that its parent run shows too."""

_NO_LOSS = ("score_hr", "score_sr", "color_shift")
"""Columns of the SRGAN that are no losses. Validation measures something else under the name of one of those."""


def accepted(name: str) -> str:
    """Return a name with `_` in the place of each character that MLflow does not accept in a metric.

    Example:
        >>> accepted("Set5/EDSR+/psnr_y")
        'Set5/EDSR_/psnr_y'
    """
    return re.sub(r"[^\w/. :-]", "_", name)


def curve_key(name: str) -> str:
    """Return MLflow's name for a column of the training log; those of validation.csv begin with `validation_`.

    Example:
        >>> curve_key("loss"), curve_key("validation_psnr_y"), curve_key("checkerboard")
        ('train/loss', 'validation/psnr_y', 'gan/checkerboard_loss')
        >>> curve_key("validation_checkerboard"), curve_key("validation_share_pixel")
        ('validation/checkerboard', 'gan/gradient_share/pixel')
    """
    if name.startswith("validation_share_"):
        return f"gan/gradient_share/{name.removeprefix('validation_share_')}"
    if name.startswith("validation_"):
        return f"validation/{name.removeprefix('validation_')}"
    if name in _TRAIN or name.endswith("learning_rate"):
        return f"train/{name}"
    return f"gan/{name}" if name in _NO_LOSS else f"gan/{name}_loss"


def result_keys(validation: Mapping[str, float]) -> dict[str, float]:
    """Return the results of a training: the held-out scores of the weights that were kept, and their step.

    Args:
        validation: The record of validation.csv that belongs to these weights.

    Example:
        >>> result_keys({"step": 300, "psnr_y": 29.123456789, "share_pixel": 0.5})
        {'result/step': 300.0, 'result/validation_psnr_y': 29.1235}
    """
    names = [name for name in validation if not name.startswith(("share_", "bicubic_"))]
    return {
        f"result/{name if name == 'step' else f'validation_{name}'}": float(f"{validation[name]:.6g}") for name in names
    }


def parent_key(stage: str, key: str) -> str:
    """Return the name that a stage's result has at its parent run.

    Example:
        >>> parent_key("pretrain", "result/validation_psnr_y"), parent_key("evaluate", "test/Set5/EDSR/psnr_y")
        ('pretrain/validation_psnr_y', 'test/Set5/EDSR/psnr_y')
    """
    group, _, name = key.partition("/")
    return f"{stage}/{name}" if group == "result" else key


def test_scores(metrics: Mapping[str, float], methods: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Return method → test set → `PSNR-Y / SSIM-Y` from metrics named `test/<set>/<method>/<metric>`.

    Args:
        metrics: Metrics of a run.
        methods: Methods to return (default: all), by the names that MLflow accepts.

    Example:
        >>> test_scores({"test/Set5/EDSR/psnr_y": 30.25, "test/Set5/EDSR/ssim_y": 0.8612, "seconds": 1.0})
        {'EDSR': {'Set5': '30.25 / .8612'}}
    """
    scores: dict[str, dict[str, str]] = {}
    for key, psnr in metrics.items():
        parts = key.split("/")
        if len(parts) == 4 and parts[0] == "test" and parts[3] == "psnr_y" and (methods is None or parts[2] in methods):
            ssim = metrics.get(f"{key.removesuffix('psnr_y')}ssim_y")
            scores.setdefault(parts[2], {})[parts[1]] = score_text(psnr, ssim)
    return scores


def score_text(psnr_y: float, ssim_y: float | None) -> str:
    """Return two scores as tables show them.

    Example:
        >>> score_text(30.2512, 0.86118), score_text(30.2512, None)
        ('30.25 / .8612', '30.25')
    """
    return f"{psnr_y:.2f}" if ssim_y is None else f"{psnr_y:.2f} / {f'{ssim_y:.4f}'.removeprefix('0')}"
