"""The training section of the report: what changed during each stage, the most telling charts first."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from srlib.report.plots import curve

_STAGES = {"pretrain": "Pre-training", "finetune": "SRGAN fine-tuning"}

_TITLES = {
    "loss": {
        "loss": "Loss",
        "pixel": "Pixel loss",
        "perceptual": "Perceptual loss",
        "checkerboard": "Checkerboard loss",
        "adversarial": "Adversarial loss of the generator",
        "discriminator": "Loss of the discriminator",
        "score_hr": "Discriminator’s score of HR",
        "score_sr": "Discriminator’s score of SR",
        "color_shift": "Color shift (levels of 255)",
    },
    "validation": {
        "psnr_y": "Held-out PSNR-Y (dB)",
        "ssim_y": "Held-out SSIM-Y",
        "checkerboard": "Held-out checkerboard error",
        "shift_red": "Held-out shift of red (levels of 255)",
        "shift_green": "Held-out shift of green (levels of 255)",
        "shift_blue": "Held-out shift of blue (levels of 255)",
        "share_pixel": "Gradient share of the pixel loss",
        "share_perceptual": "Gradient share of the perceptual loss",
        "share_checkerboard": "Gradient share of the checkerboard loss",
        "share_adversarial": "Gradient share of the adversarial loss",
    },
}
_MAIN = {("loss", "loss"), ("loss", "discriminator"), ("validation", "psnr_y")}
_NO_CURVE = {"step", "learning_rate"}


@dataclass(frozen=True)
class StageCharts:
    """The charts of one stage: `main` is always visible, `more` on request, `constant` is named without a chart."""

    title: str
    main: list[Markup] = field(default_factory=list)
    more: list[Markup] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)


def training_charts(logs: Iterable[tuple[str, Path]]) -> list[StageCharts]:
    """Return the charts of each stage that has a log with at least two records.

    Args:
        logs: Logs as (stage, CSV file). The file's stem, `loss` or `validation`, determines the titles of its columns.
    """
    stages: dict[str, StageCharts] = {}
    for stage, path in logs:
        charts = stages.setdefault(stage, StageCharts(_STAGES.get(stage, stage)))
        for column, points in _columns(path).items():
            title = _TITLES.get(path.stem, {}).get(column, f"{path.stem}: {column.replace('_', ' ')}")
            values = {value for _, value in points}
            if len(values) == 1:
                charts.constant.append(f"{title} = {values.pop():.4g}")
            else:
                chart = curve(title, points)
                (charts.main if (path.stem, column) in _MAIN else charts.more).append(chart)
    return [charts for charts in stages.values() if charts.main or charts.more]


def _columns(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return column → its finite (step, value) points, without columns of fewer than two points."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    columns = {}
    for column in records[0] if records else ():
        points = [(float(record["step"]), float(record[column])) for record in records if record[column]]
        points = [point for point in points if all(map(math.isfinite, point))]
        if column not in _NO_CURVE and len(points) > 1:
            columns[column] = points
    return columns
