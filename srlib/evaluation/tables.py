"""Scores as tables for the terminal and for Markdown, as metrics for DVC, and as one CSV line per picture and method.

Nothing measured in seconds is written here: the same pictures and weights give the same bytes.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from srlib.evaluation.benchmark import METRICS, Method, Metric, Score
from srlib.evaluation.published import PUBLISHED, Published
from srlib.evaluation.statistics import Estimate, difference, estimate, mean

Values = dict[str, dict[str, dict[str, list[float]]]]
"""set → method → metric → one value per picture, in the order of the scores."""


@dataclass(frozen=True)
class Table:
    """A heading over rows of cells; `bold` holds (row, column) of the cells to stress."""

    title: str
    header: list[str]
    rows: list[list[str]]
    bold: frozenset[tuple[int, int]] = frozenset()


def by_set(scores: Sequence[Score]) -> Values:
    """Groups scores by set, method and metric."""
    grouped: Values = {}
    for score in scores:
        row = grouped.setdefault(score.set, {}).setdefault(score.method, {})
        for key, value in score.values.items():
            row.setdefault(key, []).append(value)
    return grouped


def scores_json(scores: Sequence[Score], measures: dict[str, Metric] = METRICS) -> dict[str, Any]:
    """Means as `dvc metrics` reads them: set → method → metric; null for the infinite PSNR of equal pictures."""
    return {
        name: {
            method: {key: _rounded(mean(values), measures[key]) for key, values in row.items()}
            for method, row in rows.items()
        }
        for name, rows in by_set(scores).items()
    }


def flat(scores: Sequence[Score], measures: dict[str, Metric] = METRICS) -> dict[str, float]:
    """The finite means by the name `Set/method/metric`, as MLflow takes them."""
    return {
        f"{name}/{method}/{key}": value
        for name, rows in scores_json(scores, measures).items()
        for method, row in rows.items()
        for key, value in row.items()
        if value is not None
    }


def scores_csv(scores: Sequence[Score], measures: dict[str, Metric] = METRICS) -> str:
    """One line per picture and method: set, picture, method, the metrics, multiply-adds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "picture", "method", *measures, "multiply_adds"])
    for score in scores:
        values = [_rounded(score.values[key], measure) for key, measure in measures.items()]
        cells = ["inf" if value is None else value for value in values]
        writer.writerow([score.set, score.picture, score.method, *cells, score.multiply_adds or ""])
    return text.getvalue()


def main_table(scores: Sequence[Score], methods: Sequence[Method], scale: int) -> Table:
    """PSNR-Y and SSIM-Y per set and method; the best figure of each set in bold."""
    grouped = by_set(scores)
    rows = []
    for method in methods:
        cells = [method.name, parameters(method), gigas(mean_work(scores, method.name))]
        for name in grouped:
            row = grouped[name][method.name]
            cells.append(f"{show(mean(row['psnr_y']), 'psnr_y')} / {show(mean(row['ssim_y']), 'ssim_y')}")
        rows.append(cells)
    names = [method.name for method in methods]
    best = {
        (names.index(max(names, key=lambda m: mean(grouped[name][m]["psnr_y"]))), column)
        for column, name in enumerate(grouped, start=3)
    }
    counts = {name: len(next(iter(next(iter(rows.values())).values()))) for name, rows in grouped.items()}
    header = [f"×{scale}", "Parameters", "Multiply-adds", *(f"{name} ({counts[name]})" for name in grouped)]
    # The two columns of costs say nothing where no method is a network.
    return _without_empty(Table("PSNR-Y in dB / SSIM-Y, mean over pictures", header, rows, frozenset(best)))


def picture_table(scores: Sequence[Score], measures: dict[str, Metric] = METRICS) -> Table:
    """Every metric of every picture."""
    header = ["Picture", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in measures.values())]
    rows = [[score.picture, *(show(score.values[key], key, measures) for key in measures)] for score in scores]
    return Table("Per picture", header, rows)


def detail_table(name: str, scores: Sequence[Score], measures: dict[str, Metric] = METRICS) -> Table:
    """Every metric of one set, each mean with its 95 % interval over pictures."""
    grouped = by_set(scores)[name]
    header = ["Method", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in measures.values())]
    rows = [
        [method, *(interval(estimate(row[key]), measures[key]) for key in measures)] for method, row in grouped.items()
    ]
    return Table(f"{name}: mean [95 % interval over pictures]", header, rows)


def difference_table(scores: Sequence[Score]) -> Table:
    """Each method against the one above it, picture by picture: whether a gain is more than chance."""
    grouped = by_set(scores)
    rows = []
    for name, methods in grouped.items():
        for (other, theirs), (method, ours) in pairwise(methods.items()):
            psnr, ssim = (difference(ours[key], theirs[key]) for key in ("psnr_y", "ssim_y"))
            rows.append(
                [
                    name,
                    f"{method} − {other}",
                    interval(psnr, METRICS["psnr_y"], sign=True),
                    interval(ssim, METRICS["ssim_y"], sign=True),
                    "" if psnr.low is None else "yes" if psnr.differs else "no",
                ]
            )
    header = ["Set", "Rows", "PSNR-Y (dB)", "SSIM-Y", "PSNR-Y beyond chance"]
    return Table("Paired differences [95 % interval over pictures]", header, rows)


def document(scores: Sequence[Score], methods: Sequence[Method], scale: int, measures: dict[str, Metric]) -> str:
    """table.md: the main table, the published rows of these sets, every metric, and differences between rows."""
    parts = [markdown(main_table(scores, methods, scale))]
    grouped = by_set(scores)
    published = [row for row in PUBLISHED.get(scale, ()) if row.scores.keys() & grouped.keys()]
    if published:
        header = ["Published", "Source", *grouped]
        rows = [[row.title, row.source, *(_printed(row, name) for name in grouped)] for row in published]
        parts.append(markdown(Table("As printed in the papers († SSIM of another program)", header, rows)))
    parts += [markdown(detail_table(name, scores, measures)) for name in grouped]
    parts.append(markdown(difference_table(scores)))
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """A GitHub table under its title."""
    rows = [
        [f"**{cell}**" if (r, c) in table.bold else cell for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    align = ["---"] + ["---:"] * (len(table.header) - 1)
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in [table.header, align, *rows]]
    return f"{table.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def print_table(table: Table) -> None:
    """Prints to stdout: with colors on a terminal, plain and uncut elsewhere."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    drawn = RichTable(title=table.title, title_justify="left", title_style="bold", header_style="bold")
    for column, head in enumerate(table.header):
        drawn.add_column(Text(head), justify="right" if column else "left", overflow="fold")
    for r, row in enumerate(table.rows):
        drawn.add_row(*(Text(cell, style="bold green" if (r, c) in table.bold else "") for c, cell in enumerate(row)))
    console.print(drawn)


def show(value: float, key: str, measures: dict[str, Metric] = METRICS, sign: bool = False) -> str:
    """A figure with the decimals that mean something: `28.43`, `.8111`, `∞`."""
    return number(value, measures[key].digits, sign)


def number(value: float, digits: int, sign: bool = False) -> str:
    """A figure with so many decimals; ratios below 1 without the leading zero when they have four."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if digits > 3 and abs(value) < 1 and not text.startswith("1") else text


def interval(figure: Estimate, measure: Metric, sign: bool = False) -> str:
    """`28.43 [27.90, 29.01]`; the mean alone where the pictures are too few."""
    text = number(figure.mean, measure.digits, sign)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{number(figure.low, measure.digits, sign)}, {number(figure.high, measure.digits, sign)}]"


def parameters(method: Method) -> str:
    """A network's parameters, or nothing for an interpolation."""
    return thousands(method.cost.parameters) if method.cost else ""


def thousands(count: int) -> str:
    """`1.52 M`, `57 k`, `43 M`: three digits."""
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count / 1e3:.3g} k" if count >= 1e3 else str(count)


def mean_work(scores: Sequence[Score], method: str) -> float:
    """Mean multiply-adds per picture of a method; 0 where they are not known."""
    return mean([score.multiply_adds for score in scores if score.method == method])


def gigas(work: float) -> str:
    """`28.4 G`, or nothing for zero."""
    if not work:
        return ""
    return f"{work / 1e9:.3g} G" if work < 1e12 else f"{work / 1e12:.3g} T"


def _printed(row: Published, name: str) -> str:
    if name not in row.scores:
        return ""
    psnr, ssim = row.scores[name]
    second = "" if ssim is None else f" / {show(ssim, 'ssim_y')}{'' if row.comparable_ssim else '†'}"
    return show(psnr, "psnr_y") + second


def _rounded(value: float, measure: Metric) -> float | None:
    # Two decimals more than are shown: enough for differences, few enough to be the same on every processor.
    return None if math.isinf(value) else round(value, measure.digits + 2) + 0.0


def _without_empty(table: Table) -> Table:
    kept = [c for c in range(len(table.header)) if any(row[c] for row in table.rows)]
    bold = frozenset((r, kept.index(c)) for r, c in table.bold)
    rows = [[row[c] for c in kept] for row in table.rows]
    return Table(table.title, [table.header[c] for c in kept], rows, bold)
