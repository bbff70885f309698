"""The training section of the report: four charts, each with one sentence on how to read it."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from srlib.imaging.metrics import RUINED
from srlib.report.plots import Phase, Series, curves

_FILES = ("loss", "validation")
_SHARE = "share_"
_BICUBIC = "bicubic_psnr_y"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class StageLog:
    """The columns of a stage's loss.csv and validation.csv as (step, value) points."""

    loss: Mapping[str, Points]
    validation: Mapping[str, Points]


def training_charts(folders: Iterable[Path], loss: str = "") -> list[Markup]:
    """Return the charts for which there are at least two records, in this order: loss, PSNR-Y, SRGAN terms, shares.

    Args:
        folders: Folders `pretrain` and `finetune` with the stage's loss.csv and validation.csv.
        loss: Name of the pixel loss.
    """
    logs = {folder.name: StageLog(*(_columns(folder / f"{name}.csv") for name in _FILES)) for folder in folders}
    pretraining, gan = (logs.get(stage, StageLog({}, {})) for stage in ("pretrain", "finetune"))
    charts = (_loss(pretraining, loss), _psnr(pretraining, gan), _gan_terms(gan), _gradient_shares(gan))
    return [chart for chart in charts if chart]


def _loss(log: StageLog, loss: str) -> Markup | None:
    if not (points := _drawable(log.loss.get("loss", []))):
        return None
    note = "Mean over the training batches since the last record; it falls fast at first and then levels off."
    label = f"pixel loss ({loss})" if loss else "pixel loss"
    return curves("Pre-training: loss", [Series("loss", points)], label, note=note)


def _psnr(pretraining: StageLog, gan: StageLog) -> Markup | None:
    """Draw one line per stage, the second where the first ends, and bicubic's line."""
    first, second = pretraining.validation.get("psnr_y", []), gan.validation.get("psnr_y", [])
    end = max((step for step, _ in [*first, *pretraining.loss.get("loss", [])]), default=0.0)
    second = [(end + step, value) for step, value in second]
    if not _drawable([*first, *second]):
        return None
    lines = [Series("pre-training", first)] if first else []
    lines += [Series("SRGAN", second)] if second else []
    note = "On patches that no training saw."
    bicubic = [value for log in (pretraining, gan) for _, value in log.validation.get(_BICUBIC, [])]
    if bicubic:
        steps = [step for line in lines for step, _ in line.points]
        lines.append(Series("bicubic", [(min(steps), bicubic[0]), (max(steps), bicubic[0])], is_baseline=True))
        note = "On patches that no training saw; what a network is worth is its distance from bicubic’s line."
    if second:
        note += " An SRGAN gives up some PSNR for sharper texture."
        best, (_, last) = max(second, key=lambda point: point[1]), second[-1]
        if best[1] - last > RUINED:
            note += (
                f" Here its last weights, which the model is made of, are {best[1] - last:.1f} dB below those of its "
                f"step {best[0] - end:.0f}: it has collapsed."
            )
    both = bool(first and second)
    return curves(
        "PSNR-Y of held-out patches",
        lines,
        "PSNR-Y (dB)",
        note=note,
        x_label="step, counted over both stages" if both else "step",
        phases=[Phase("pre-training", first[0][0], end), Phase("SRGAN", end, second[-1][0])] if both else (),
    )


def _gan_terms(log: StageLog) -> Markup | None:
    lines = [Series(name.replace("_", " "), _drawable(log.loss.get(name, []))) for name, _ in _active(log)]
    lines.append(Series("discriminator", _drawable(log.loss.get("discriminator", []))))
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    note = (
        "Each term before its weight, as a mean since the last record. A discriminator loss near 0 means that it tells "
        "SR from HR with ease, and the generator then learns little from it."
    )
    return curves("SRGAN: loss terms", lines, "loss, unweighted", note=note)


def _gradient_shares(log: StageLog) -> Markup | None:
    lines = [Series(name.replace("_", " "), [(x, 100 * y) for x, y in points]) for name, points in _active(log)]
    if len(lines) < 2 or not _drawable(lines[0].points):
        return None
    note = (
        "The share of each weighted term in the gradient at the generator’s output; a term of a few percent changes "
        "little, whatever its weight."
    )
    return curves("SRGAN: gradient shares", lines, "share of the gradient (%)", note=note, y_range=(0, 100))


def _active(log: StageLog) -> Iterator[tuple[str, Points]]:
    """Yield the loss terms whose gradient is not always zero, with their shares."""
    for column, points in log.validation.items():
        if column.startswith(_SHARE) and any(value > 0 for _, value in points):
            yield column.removeprefix(_SHARE), points


def _drawable(points: Points) -> Points:
    """Return the points if they make a line, else none."""
    return points if len({step for step, _ in points}) > 1 else []


def _columns(path: Path) -> dict[str, Points]:
    """Return column → its finite (step, value) points."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    columns: dict[str, Points] = {}
    for column in records[0] if records else ():
        points = [(float(record["step"]), float(record[column])) for record in records if record[column]]
        columns[column] = [point for point in points if all(map(math.isfinite, point))]
    return columns
