"""results/report.html: everything about one evaluation in one self-contained file that works offline.

The same scores, pictures, curves and recipe give the same bytes.
"""

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import yaml
from PIL import Image as Pillow

from srlib.evaluation.benchmark import METRICS, Method, Metric, Result, Score
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import TITLE as LPIPS_TITLE
from srlib.evaluation.published import PUBLISHED
from srlib.evaluation.regions import busiest_region
from srlib.evaluation.statistics import mean
from srlib.evaluation.tables import by_set, value_text
from srlib.imaging.arrays import Image
from srlib.imaging.resize import resize
from srlib.params import Params
from srlib.report.page import fill
from srlib.report.plots import Point, curve, scatter
from srlib.report.tables import cards, differences, every
from srlib.report.tables import scores as score_table

_STAGES = {"pretrain": "Pre-training", "finetune": "SRGAN"}
LARGEST = 640
"""Sides in pixels above which only the part around the most detailed square is shown."""


@dataclass(frozen=True)
class Exhibit:
    """One picture in the report: its versions and their zoomed squares as data addresses, and their scores."""

    set: str
    name: str
    part: bool
    versions: dict[str, str]
    crops: dict[str, str]
    scores: dict[str, dict[str, float]]


def exhibit(result: Result, methods: Sequence[str], *, side: int) -> Exhibit:
    """Encodes what the report shows of a picture: LR, `methods` and HR, without loss.

    Args:
        result: The picture with its versions and scores.
        methods: Which versions to show, in this order.
        side: Side of the zoomed square in HR pixels.
    """
    region = busiest_region(result.hr, result.lr, side)
    versions = {"LR": resize(result.lr, result.hr.shape[:2], kernel="nearest")}
    versions |= {name: result.sr[name] for name in methods} | {"HR": result.hr}
    rows, columns = (
        _window(start + region.side // 2, size)
        for start, size in zip((region.top, region.left), result.hr.shape[:2], strict=True)
    )
    return Exhibit(
        result.image.set,
        result.image.name,
        max(result.hr.shape[:2]) > LARGEST,
        {name: _encode(image[rows, columns]) for name, image in versions.items()},
        {name: _encode(region.cut(image)) for name, image in versions.items()},
        {score.method: score.values for score in result.scores},
    )


def render(
    scores: Sequence[Score],
    methods: Sequence[Method],
    scale: int,
    *,
    exhibits: Sequence[Exhibit] = (),
    curves: Iterable[tuple[str, Path]] = (),
    recipe: Params | None = None,
    metrics: dict[str, Metric] = METRICS,
) -> str:
    """The report as HTML.

    Args:
        scores: Of every method on every picture.
        methods: The rows of the table, in order.
        scale: The factor of enlargement.
        exhibits: Pictures to show.
        curves: (stage, CSV file) of the training; each column but `step` and the learning rate becomes a chart.
        recipe: The parameters that all of it came from.
        metrics: What was measured.
    """
    grouped = by_set(scores)
    counts = {name: len(rows[methods[0].name]["psnr_y"]) for name, rows in grouped.items()}
    sets = ", ".join(f"{name} ({count})" for name, count in counts.items())
    sections = [
        ("scores", "Scores", score_table(scores, methods, scale)),
        ("tradeoff", "Trade-off", _tradeoff(scores, methods, scale)),
        ("pictures", "Pictures", "".join(_picture(exhibit, number) for number, exhibit in enumerate(exhibits))),
        ("every", "Every picture", every(scores, methods)),
        ("differences", "Beyond chance?", differences(scores, metrics)),
        ("training", "Training", _training(curves)),
        ("recipe", "Recipe", _recipe(recipe) if recipe else ""),
    ]
    sections = [(key, title, content) for key, title, content in sections if content]
    return fill(
        "report",
        {
            "title": f"Super-resolution ×{scale}: results",
            "summary": f"{len(methods)} methods on {escape(sets)}.",
            "cards": cards(scores, methods),
            "links": "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections),
            "main": "".join(
                f'<section id="{key}"><h2>{escape(title)}</h2>{content}</section>' for key, title, content in sections
            ),
        },
    )


def _window(center: int, size: int) -> slice:
    """The part of an axis around `center`, at most LARGEST long."""
    start = min(max(0, center - LARGEST // 2), max(0, size - LARGEST))
    return slice(start, start + LARGEST)


def _encode(image: Image) -> str:
    content = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(image)).save(content, "WEBP", lossless=True, quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


def _tradeoff(scores: Sequence[Score], methods: Sequence[Method], scale: int) -> str:
    grouped = by_set(scores)
    published = [row for row in PUBLISHED.get(scale, ()) if row.parameters]
    charts = []
    for name, rows in grouped.items():
        psnr = {method.name: mean(rows[method.name]["psnr_y"]) for method in methods}
        networks = [method for method in methods if method.cost]
        sizes = [Point(m.name, m.cost.parameters, psnr[m.name]) for m in networks if m.cost]
        grays = [
            Point(r.title, float(r.parameters or 0), r.scores[name][0], True) for r in published if name in r.scores
        ]
        if sizes:
            charts.append(scatter(f"{name}: quality and size", sizes + grays, "parameters", "PSNR-Y (dB)", log_x=True))
        works = {
            m.name: mean([s.multiply_adds for s in scores if (s.set, s.method) == (name, m.name)]) for m in methods
        }
        work = [Point(m.name, works[m.name], psnr[m.name]) for m in methods if works[m.name]]
        if work:
            label = "multiply-adds per picture"
            charts.append(scatter(f"{name}: quality and work", work, label, "PSNR-Y (dB)", log_x=True))
        if all(LPIPS in row for row in rows.values()):
            # Nearest and bilinear lie so far off that the others would sit on one spot.
            near = [method for method in rows if method not in ("nearest", "bilinear")]
            points = [Point(method, mean(rows[method][LPIPS]), psnr[method]) for method in near]
            charts.append(
                scatter(f"{name}: fidelity and looks", points, f"{LPIPS_TITLE}, lower is better", "PSNR-Y (dB)")
            )
    note = '<p class="quiet">Hollow gray points: as printed in the papers.</p>' if charts and published else ""
    return f'<div class="charts">{"".join(charts)}</div>{note}' if charts else ""


def _picture(item: Exhibit, number: int) -> str:
    names = list(item.versions)
    left = "bicubic" if "bicubic" in names else names[0]
    right = names[-2] if len(names) > 3 else names[-1]
    images = "".join(
        f'<img data-version="{escape(name)}" alt="{escape(f"{item.set} {item.name}, {name}")}" src="{source}"'
        f"{' class=left' if name == left else ''}{'' if name in (left, right) else ' hidden'}>"
        for name, source in item.versions.items()
    )
    lists = "".join(
        f'<select aria-label="{side} version">'
        + "".join(f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>" for name in names)
        + "</select>"
        for side, chosen in (("Left", left), ("Right", right))
    )
    shown = [name for name in names if name in item.scores]
    best = max(shown, key=lambda name: item.scores[name]["psnr_y"], default=None)
    crops = "".join(
        f'<figure><img alt="{escape(f"Square of {item.name}, {name}")}" src="{source}"><figcaption>'
        f"<b>{escape(name)}</b>{_label(item.scores.get(name), name == best)}</figcaption></figure>"
        for name, source in item.crops.items()
    )
    part = " <small class=quiet>(part)</small>" if item.part else ""
    return (
        f'<article class="exhibit"><h3>{escape(item.set)} · {escape(item.name)}{part}</h3><div class="both">'
        f'<figure class="compare"><div class="stage">{images}<input type="range" id="divide{number}" min="0" max="100" '
        f'value="50" aria-label="Divide between two versions of {escape(item.name)}"></div>'
        f'<div class="sides">{lists}</div></figure><div class="crops">{crops}</div></div></article>'
    )


def _label(values: dict[str, float] | None, best: bool) -> str:
    if values is None:
        return ""
    text = f"{value_text(values['psnr_y'], 'psnr_y')} dB / {value_text(values['ssim_y'], 'ssim_y')}"
    return f'<span class="best">{text}</span>' if best else text


def _recipe(recipe: Params) -> str:
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude={"registry"}), sort_keys=False, allow_unicode=True)
    return f'<pre tabindex="0">{escape(text)}</pre>'


def _training(curves: Iterable[tuple[str, Path]]) -> str:
    charts = []
    for stage, path in curves:
        title = _STAGES.get(stage, stage)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for column in rows[0] if rows else ():
            points = [(float(row["step"]), float(row[column])) for row in rows if row[column]]
            points = [point for point in points if np.isfinite(point).all()]
            if column not in ("step", "learning_rate") and len(points) > 1:
                charts.append(curve(f"{title}: {column.replace('_', ' ')}", points))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""
