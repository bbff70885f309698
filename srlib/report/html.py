"""results/report.html: everything about one evaluation in one self-contained file that works offline.

The same scores, images, training logs and recipe give the same bytes.
"""

import base64
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from markupsafe import Markup
from PIL import Image as Pillow

from srlib.arrays import Image
from srlib.evaluation.benchmark import METRICS, Method, Metric, Result, Score
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import TITLE as LPIPS_TITLE
from srlib.evaluation.number_text import value_text
from srlib.evaluation.opinions import Opinions
from srlib.evaluation.published import PUBLISHED
from srlib.evaluation.regions import busiest_region
from srlib.evaluation.statistics import mean
from srlib.evaluation.tables import best_methods, by_set, mean_work
from srlib.imaging.resize import resize
from srlib.params import Params
from srlib.report import tables
from srlib.report.plots import Point, scatter
from srlib.report.training import training_charts
from srlib.webpage import render_page

LARGEST = 640
"""Longest side in pixels that is shown whole; of a larger image the part around its most detailed square is shown."""

_SECTIONS = (
    ("scores", "Scores", ""),
    ("opinions", "Opinions", "opinions"),
    ("images", "Images", "exhibits"),
    ("differences", "More than chance?", ""),
    ("tradeoff", "Trade-off", "tradeoffs"),
    ("training", "Training", "training"),
    ("every", "Every image", ""),
    ("recipe", "Recipe", "recipe"),
    ("protocol", "How it is measured", ""),
)
# (id, title, the value without which the template leaves the section out)


@dataclass(frozen=True)
class Exhibit:
    """One image in the report.

    Attributes:
        set: Name of the set.
        name: Name of the image.
        part: Whether only a part of the image is shown.
        versions: Name of a version → the image as a data URL.
        squares: Name of a version → its most detailed square as a data URL.
        labels: Name of a version → the text of its scores.
        best: Versions with the highest PSNR-Y; several where it is equal.
    """

    set: str
    name: str
    part: bool
    versions: dict[str, str]
    squares: dict[str, str]
    labels: dict[str, str]
    best: Collection[str]

    @property
    def left(self) -> str:
        """The version that is first shown on the left."""
        return "bicubic" if "bicubic" in self.versions else next(iter(self.versions))

    @property
    def right(self) -> str:
        """The version that is first shown on the right: the last method, or HR where there is none."""
        names = list(self.versions)
        return names[-2] if len(names) > 3 else names[-1]


def exhibit(result: Result, methods: Sequence[str], *, side: int) -> Exhibit:
    """Encode what the report shows of an image: LR, `methods` and HR, losslessly.

    Args:
        result: The image with its versions and scores.
        methods: Versions to show, in this order.
        side: Side of the zoomed square in HR pixels.
    """
    region = busiest_region(result.hr, result.lr, side)
    versions = {"LR": resize(result.lr, result.hr.shape[:2], kernel="nearest")}
    versions |= {name: result.sr[name] for name in methods} | {"HR": result.hr}
    rows, columns = (
        _window(start + region.side // 2, size)
        for start, size in zip((region.top, region.left), result.hr.shape[:2], strict=True)
    )
    values = {score.method: score.values for score in result.scores if score.method in versions}
    return Exhibit(
        result.image.set,
        result.image.name,
        max(result.hr.shape[:2]) > LARGEST,
        {name: _encode(image[rows, columns]) for name, image in versions.items()},
        {name: _encode(region.cut(image)) for name, image in versions.items()},
        {name: _label(scores) for name, scores in values.items()},
        best_methods({name: scores["psnr_y"] for name, scores in values.items()}),
    )


def render(
    scores: Sequence[Score],
    methods: Sequence[Method],
    scale: int,
    metrics: Mapping[str, Metric] = METRICS,
    opinions: Opinions | None = None,
    *,
    exhibits: Sequence[Exhibit] = (),
    logs: Sequence[Path] = (),
    recipe: Params | None = None,
) -> str:
    """Return the report as HTML.

    Args:
        scores: Scores of every method on every image.
        methods: Methods in the order of the table.
        scale: Upscaling factor.
        metrics: Metrics that were computed.
        opinions: The outcome of a survey of these images, from `srlib.evaluation.opinions.current`.
        exhibits: Images to show.
        logs: Folders `pretrain` and `finetune` with the logs of these stages.
        recipe: The parameters behind the results.
    """
    grouped = by_set(scores)
    counts = {name: len(rows[methods[0].name]["psnr_y"]) for name, rows in grouped.items()}
    published = tables.published_rows(scores, scale)
    tradeoffs, has_gray_points = _tradeoffs(scores, methods, scale)
    values: dict[str, object] = {
        "scale": scale,
        "method_count": len(methods),
        "sets": ", ".join(f"{name} ({count} image{'' if count == 1 else 's'})" for name, count in counts.items()),
        "cards": tables.cards(scores, methods),
        "scores": tables.score_table(scores, methods, scale, opinions),
        **_opinions(opinions),
        "has_published": bool(published),
        "has_other_ssim": any(not row.comparable_ssim for row in published),
        "tradeoffs": tradeoffs,
        "has_gray_points": has_gray_points,
        "exhibits": exhibits,
        "every": tables.image_tables(scores, methods),
        "differences": tables.paired_differences(scores),
        "details": tables.details(scores, metrics),
        "training": training_charts(logs, recipe.pretrain.loss if recipe else ""),
        "recipe": _recipe(recipe) if recipe else "",
        "has_ensemble": any(method.name.endswith("+") for method in methods),
    }
    values["links"] = [(section, title) for section, title, key in _SECTIONS if not key or values[key]]
    return render_page("srlib.report", "report.html.j2", style="report.css", scripts=["report.js"], values=values)


def _opinions(opinions: Opinions | None) -> dict[str, object]:
    """Return what the template says about a survey; `opinions` is empty without votes for these images."""
    values: dict[str, object] = {"opinions": "", "opinion_differences": "", "voters": "", "outdated": []}
    if opinions is None:
        return values
    values["outdated"] = opinions.outdated
    if rows := opinions.overall.values():
        votes, raters = sum(row.votes for row in rows), max(row.raters for row in rows)
        values["voters"] = f"{votes} votes of {raters} rater{'' if raters == 1 else 's'}"
        values["opinions"] = tables.opinion_table(opinions)
        values["opinion_differences"] = tables.opinion_differences(opinions) if opinions.differences else ""
    return values


def _window(center: int, size: int) -> slice:
    """Return the part of an axis around `center`, at most LARGEST long."""
    start = min(max(0, center - LARGEST // 2), max(0, size - LARGEST))
    return slice(start, start + LARGEST)


def _encode(image: Image) -> str:
    content = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(image)).save(content, "WEBP", lossless=True, quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


def _label(values: Mapping[str, float]) -> str:
    return f"{value_text(values['psnr_y'], 'psnr_y')} dB / {value_text(values['ssim_y'], 'ssim_y')}"


def _tradeoffs(scores: Sequence[Score], methods: Sequence[Method], scale: int) -> tuple[list[Markup], bool]:
    """Return the charts of quality against cost, and whether they hold published points."""
    charts, has_gray_points = [], False
    for name, rows in by_set(scores).items():
        psnr = {method.name: mean(rows[method.name]["psnr_y"]) for method in methods}
        # An exact copy has an infinite PSNR, such as every method's of a plain image: no chart has a place for it.
        drawn = [method for method in methods if math.isfinite(psnr[method.name])]
        sizes = [Point(m.name, m.cost.parameters, psnr[m.name]) for m in drawn if m.cost]
        if sizes:
            printed = [row for row in PUBLISHED.get(scale, ()) if row.parameters and name in row.scores]
            sizes += [Point(row.title, float(row.parameters or 0), row.scores[name][0], True) for row in printed]
        if _differ(sizes):
            has_gray_points |= any(point.gray for point in sizes)
            title = f"{name}: quality and size"
            charts.append(scatter(title, sizes, "parameters", "PSNR-Y (dB)", log_x=True))
        own = [score for score in scores if score.set == name]
        works = {method.name: mean_work(own, method.name) for method in drawn}
        work = [Point(m.name, works[m.name], psnr[m.name]) for m in drawn if works[m.name]]
        if _differ(work):
            title = f"{name}: quality and computation"
            charts.append(scatter(title, work, "multiply-adds per image", "PSNR-Y (dB)", log_x=True))
        if all(LPIPS in row for row in rows.values()):
            # Nearest and bilinear are so far away that the other methods would fall on one spot.
            near = [m.name for m in drawn if m.name not in ("nearest", "bilinear")]
            points = [Point(method, mean(rows[method][LPIPS]), psnr[method]) for method in near]
            label = f"{LPIPS_TITLE}, lower is better"
            if points:
                charts.append(scatter(f"{name}: fidelity and appearance", points, label, "PSNR-Y (dB)"))
    return charts, has_gray_points


def _differ(points: Sequence[Point]) -> bool:
    """Return whether the points have different costs: otherwise a chart of quality against cost shows nothing."""
    return len({point.x for point in points}) > 1


def _recipe(recipe: Params) -> str:
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude={"registry"}), sort_keys=False, allow_unicode=True)
