"""Scores as tables for the terminal and Markdown, as the headline metrics of DVC, and as CSV files.

No duration is written here: the same images and weights give the same bytes.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from srlib.evaluation.benchmark import METRICS, ORIGINAL, Method, Metric, Score
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.number_text import gigas, interval, parameters, value_text
from srlib.evaluation.opinions import Opinions
from srlib.evaluation.published import PUBLISHED, Published
from srlib.evaluation.statistics import difference, estimate, mean
from srlib.files import write_json, write_text

Values = dict[str, dict[str, dict[str, list[float]]]]
"""Set → method → metric → one value per image, in the order of the scores."""

Means = dict[str, dict[str, dict[str, float | None]]]
"""Set → method → metric → mean over the images of the set."""

Metrics = Mapping[str, Metric]

HEADLINE = ("psnr_y", "ssim_y", LPIPS)
"""Metrics in metrics.json, where they were computed."""

FILES = ("table.md", "scores.csv", "means.csv", "metrics.json")
"""Files that `write` writes."""


@dataclass(frozen=True)
class Table:
    """A titled table of text; `bold` holds the (row, column) of emphasized cells."""

    title: str
    header: list[str]
    rows: list[list[str]]
    bold: frozenset[tuple[int, int]] = frozenset()


def write(
    folder: Path,
    scores: Sequence[Score],
    methods: Sequence[Method],
    scale: int,
    metrics: Metrics = METRICS,
    opinions: Opinions | None = None,
) -> None:
    """Write `FILES` into a folder: tables for people, scores of each image, all means, and the headline metrics.

    Args:
        folder: Folder for the files.
        scores: Scores of every method on every image.
        methods: Methods in the order of the table.
        scale: Upscaling factor.
        metrics: Metrics that were computed.
        opinions: The outcome of a survey of these images.
    """
    write_text(folder / FILES[0], document(scores, methods, scale, metrics, opinions))
    write_text(folder / FILES[1], scores_csv(scores, metrics))
    write_text(folder / FILES[2], means_csv(scores, metrics))
    write_json(folder / FILES[3], headline(scores, methods, metrics))


def by_set(scores: Sequence[Score]) -> Values:
    """Group scores by set, method and metric."""
    grouped: Values = {}
    for score in scores:
        row = grouped.setdefault(score.set, {}).setdefault(score.method, {})
        for key, value in score.values.items():
            row.setdefault(key, []).append(value)
    return grouped


def means(scores: Sequence[Score], metrics: Metrics = METRICS) -> Means:
    """Return the mean of each metric, with two decimals more than tables show; None for an infinite PSNR."""
    return {
        name: {
            method: {key: _rounded(mean(values), metrics[key]) for key, values in row.items()}
            for method, row in rows.items()
        }
        for name, rows in by_set(scores).items()
    }


def headline(scores: Sequence[Score], methods: Sequence[Method], metrics: Metrics = METRICS) -> Means:
    """Return the few means that `dvc exp show` and `dvc metrics diff` compare: bicubic and the trained models per set.

    The models have the names of their roles, so that experiments with different networks have the same columns.

    Args:
        scores: Scores of every method on every image.
        methods: Methods in the order of the table.
        metrics: Metrics that were computed.
    """
    rows = {method.role or method.name: method.name for method in methods if method.role or method.name == "bicubic"}
    return {
        name: {row: {key: by_method[method][key] for key in HEADLINE if key in metrics} for row, method in rows.items()}
        for name, by_method in means(scores, metrics).items()
    }


def flat(scores: Sequence[Score], metrics: Metrics = METRICS) -> dict[str, float]:
    """Return the finite means by the name `Set/method/metric`, as MLflow expects them."""
    return {
        f"{name}/{method}/{key}": value
        for name, rows in means(scores, metrics).items()
        for method, row in rows.items()
        for key, value in row.items()
        if value is not None
    }


def scores_csv(scores: Sequence[Score], metrics: Metrics = METRICS) -> str:
    """Return one CSV line per image and method: set, image, method, the metrics, multiply-adds."""
    rows = []
    for score in scores:
        cells = [_csv_cell(_rounded(score.values[key], metric)) for key, metric in metrics.items()]
        rows.append([score.set, score.image, score.method, *cells, score.multiply_adds or ""])
    return _csv(["set", "picture", "method", *metrics, "multiply_adds"], rows)


def means_csv(scores: Sequence[Score], metrics: Metrics = METRICS) -> str:
    """Return one CSV line per set and method: set, method, the means of all metrics."""
    rows = [
        [name, method, *(_csv_cell(row[key]) for key in metrics)]
        for name, by_method in means(scores, metrics).items()
        for method, row in by_method.items()
    ]
    return _csv(["set", "method", *metrics], rows)


def main_table(
    scores: Sequence[Score], methods: Sequence[Method], scale: int, opinions: Opinions | None = None
) -> Table:
    """Return PSNR-Y and SSIM-Y per set and method, and the mean opinion scores of a survey.

    The best PSNR-Y of each set is bold, several where they are equal. With a survey the original has a row of its own,
    if it was rated.
    """
    grouped = by_set(scores)
    mos = opinions.overall if opinions else {}
    rows = []
    for method in methods:
        cells = [method.name, parameters(method), gigas(mean_work(scores, method.name))]
        for name in grouped:
            row = grouped[name][method.name]
            cells.append(f"{value_text(mean(row['psnr_y']), 'psnr_y')} / {value_text(mean(row['ssim_y']), 'ssim_y')}")
        cells.append(interval(mos[method.name].estimate, 2) if method.name in mos else "")
        rows.append(cells)
    names = [method.name for method in methods]
    best = {
        (row, column)
        for column, rows_of_set in enumerate(grouped.values(), start=3)
        for row, name in enumerate(names)
        if name in best_methods({method: mean(values["psnr_y"]) for method, values in rows_of_set.items()})
    }
    counts = {name: len(next(iter(next(iter(rows.values())).values()))) for name, rows in grouped.items()}
    header = [f"×{scale}", "Parameters", "Multiply-adds", *(f"{name} ({counts[name]})" for name in grouped)]
    header.append("MOS")
    if ORIGINAL in mos:
        rows.append([ORIGINAL, *[""] * (len(header) - 2), interval(mos[ORIGINAL].estimate, 2)])
    # The columns of costs are empty without a network, the last one without a survey.
    return without_empty(Table("PSNR-Y in dB / SSIM-Y, mean over images", header, rows, frozenset(best)))


def best_methods(values: Mapping[str, float]) -> set[str]:
    """Return the methods with the highest value: several where they are equal, as for images restored exactly.

    Example:
        >>> sorted(best_methods({"nearest": 30.0, "bicubic": float("inf"), "EDSR": float("inf")}))
        ['EDSR', 'bicubic']
    """
    return {name for name, value in values.items() if value == max(values.values())}


def image_table(scores: Sequence[Score], metrics: Metrics = METRICS) -> Table:
    """Return every metric of every image."""
    header = ["Image", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in metrics.values())]
    rows = [[score.image, *(value_text(score.values[key], key, metrics) for key in metrics)] for score in scores]
    return Table("Per image", header, rows)


def detail_table(name: str, scores: Sequence[Score], metrics: Metrics = METRICS) -> Table:
    """Return every metric of one set, each mean with its 95 % interval over images."""
    grouped = by_set(scores)[name]
    header = ["Method", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in metrics.values())]
    rows = [
        [method, *(interval(estimate(row[key]), metrics[key].digits) for key in metrics)]
        for method, row in grouped.items()
    ]
    return Table(f"{name}: mean [95 % interval over images]", header, rows)


def difference_table(scores: Sequence[Score]) -> Table:
    """Compare each method with the one above it, image by image, to tell a gain from chance."""
    grouped = by_set(scores)
    rows = []
    for name, methods in grouped.items():
        for (other, theirs), (method, ours) in pairwise(methods.items()):
            psnr, ssim = (difference(ours[key], theirs[key]) for key in ("psnr_y", "ssim_y"))
            rows.append(
                [
                    name,
                    f"{method} − {other}",
                    interval(psnr, METRICS["psnr_y"].digits, sign=True),
                    interval(ssim, METRICS["ssim_y"].digits, sign=True),
                    "" if psnr.low is None else "yes" if psnr.differs else "no",
                ]
            )
    header = ["Set", "Methods", "PSNR-Y (dB)", "SSIM-Y", "PSNR-Y beyond chance"]
    return Table("Paired differences [95 % interval over images]", header, rows)


def document(
    scores: Sequence[Score],
    methods: Sequence[Method],
    scale: int,
    metrics: Metrics,
    opinions: Opinions | None = None,
) -> str:
    """Return table.md: the main table, the published rows of these sets, every metric, and paired differences."""
    parts = [markdown(main_table(scores, methods, scale, opinions))]
    grouped = by_set(scores)
    published = [row for row in PUBLISHED.get(scale, ()) if row.scores.keys() & grouped.keys()]
    if published:
        header = ["Published", "Source", *grouped]
        rows = [[row.title, row.source, *(_published_text(row, name) for name in grouped)] for row in published]
        parts.append(markdown(Table("As printed in the papers († SSIM of another program)", header, rows)))
    parts += [markdown(detail_table(name, scores, metrics)) for name in grouped]
    parts.append(markdown(difference_table(scores)))
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """Return a table as GitHub Markdown, under its title."""
    rows = [
        [f"**{cell}**" if (r, c) in table.bold else cell for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    align = ["---"] + ["---:"] * (len(table.header) - 1)
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in [table.header, align, *rows]]
    return f"{table.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def print_table(table: Table) -> None:
    """Print a table to stdout: with colors on a terminal, plain and not shortened elsewhere."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    grid = RichTable(title=table.title, title_justify="left", title_style="bold", header_style="bold")
    for column, head in enumerate(table.header):
        grid.add_column(Text(head), justify="right" if column else "left", overflow="fold")
    for r, row in enumerate(table.rows):
        grid.add_row(*(Text(cell, style="bold green" if (r, c) in table.bold else "") for c, cell in enumerate(row)))
    console.print(grid)


def mean_work(scores: Sequence[Score], method: str) -> float:
    """Return a method's mean multiply-adds per image; 0 where they are not known."""
    return mean([score.multiply_adds for score in scores if score.method == method])


def _published_text(row: Published, name: str) -> str:
    if name not in row.scores:
        return ""
    psnr, ssim = row.scores[name]
    second = "" if ssim is None else f" / {value_text(ssim, 'ssim_y')}{'' if row.comparable_ssim else '†'}"
    return value_text(psnr, "psnr_y") + second


def _rounded(value: float, metric: Metric) -> float | None:
    # Two decimals more than tables show: enough for differences, few enough to be the same on every processor.
    return None if math.isinf(value) else round(value, metric.digits + 2) + 0.0


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _csv_cell(value: float | None) -> float | str:
    return "inf" if value is None else value


def without_empty(table: Table) -> Table:
    """Return a table without its empty columns."""
    columns = [c for c in range(len(table.header)) if any(row[c] for row in table.rows)]
    bold = frozenset((r, columns.index(c)) for r, c in table.bold)
    rows = [[row[c] for c in columns] for row in table.rows]
    return Table(table.title, [table.header[c] for c in columns], rows, bold)
