"""The tables of the report: our scores beside the published ones, every image, paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srlib.evaluation.benchmark import METRICS, ORIGINAL, Method, Metric, Score
from srlib.evaluation.number_text import gigas, interval, number, parameters, thousands, value_text
from srlib.evaluation.opinions import ALL, Opinion, Opinions
from srlib.evaluation.published import PUBLISHED, Published, counterpart
from srlib.evaluation.statistics import difference, mean
from srlib.evaluation.tables import (
    Table,
    Values,
    best_methods,
    by_set,
    detail_table,
    difference_table,
    mean_work,
    without_empty,
)

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Card:
    """The headline of one network: its PSNR-Y on the first set, and its gain over bicubic."""

    method: str
    set: str
    score: str
    gain: str


@dataclass(frozen=True)
class Cell:
    """A cell: a value, a second value beside it, our value minus the published one, and whether it is the best.

    `title` explains the value where the pointer rests on it.
    """

    text: str
    second: str = ""
    gap: str = ""
    best: bool = False
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table: its heading, the source of a published row, its cells, and its CSS classes."""

    head: str
    cells: Sequence[Cell]
    source: str = ""
    style: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table as the template draws it; the first column holds the rows' headings.

    Attributes:
        header: Titles of the columns.
        rows: The rows.
        units: Title of a column → what its cells hold, in small letters.
    """

    header: Sequence[str]
    rows: Sequence[Line]
    units: Mapping[str, str] = field(default_factory=dict)


def cards(scores: Sequence[Score], methods: Sequence[Method]) -> list[Card]:
    """Return one card per network for the first set."""
    name, rows = next(iter(by_set(scores).items()))
    result = []
    for method in methods:
        if method.name in _INTERPOLATIONS:
            continue
        psnr = rows[method.name]["psnr_y"]
        gain = ""
        if "bicubic" in rows:
            gain = interval(difference(psnr, rows["bicubic"]["psnr_y"]), METRICS["psnr_y"].digits, sign=True)
        result.append(Card(method.name, name, value_text(mean(psnr), "psnr_y"), gain))
    return result


def published_rows(scores: Sequence[Score], scale: int) -> list[Published]:
    """Return the published rows that have a score on one of the sets."""
    sets = by_set(scores).keys()
    return [row for row in PUBLISHED.get(scale, ()) if row.scores.keys() & sets]


def score_table(
    scores: Sequence[Score], methods: Sequence[Method], scale: int, opinions: Opinions | None = None
) -> DataTable:
    """Return our methods, each followed by its published counterpart, and then the other published rows.

    With a survey, the mean opinion scores stand beside PSNR-Y and SSIM-Y, and the original has a row.
    """
    grouped = by_set(scores)
    published = published_rows(scores, scale)
    has_networks = any(method.cost for method in methods)
    mos = opinions.overall if opinions else {}
    after = bool(mos) + 2 * has_networks
    best = {
        name: best_methods({method: mean(row["psnr_y"]) for method, row in rows.items()})
        for name, rows in grouped.items()
    }
    best_mos = best_methods({name: opinion.mos for name, opinion in mos.items() if name != ORIGINAL})
    lines = []
    for method in methods:
        cells = [_cell(rows[method.name], method.name in best[name]) for name, rows in grouped.items()]
        cells += [_mos_cell(mos.get(method.name), method.name in best_mos)] if mos else []
        if has_networks:
            cells += [Cell(parameters(method)), Cell(gigas(mean_work(scores, method.name)))]
        lines.append(Line(method.name, cells))
        match = counterpart(method.name, method.cost.parameters if method.cost else None, published)
        if match:
            published.remove(match)
            lines.append(_published_line(match, grouped, after, ours=method.name))
    if ORIGINAL in mos:
        lines.append(Line(ORIGINAL, [*[Cell("")] * len(grouped), _mos_cell(mos[ORIGINAL]), *[Cell("")] * (after - 1)]))
    for index, other in enumerate(published):
        lines.append(_published_line(other, grouped, after, style="published" if index else "published apart"))
    header = ["Method", *grouped, *(["MOS"] if mos else [])]
    header += ["Parameters", "Multiply-adds"] if has_networks else []
    return DataTable(header, lines, dict.fromkeys(grouped, "PSNR-Y, SSIM-Y") | {"MOS": "1–5"})


def opinion_table(opinions: Opinions) -> DataTable:
    """Return each method's mean opinion score with interval, votes, raters and images: over all sets, then per set."""
    lines = []
    one_set = len({row.set for row in opinions.rows}) == 2
    for row in opinions.rows:
        if one_set and row.set != ALL:
            continue
        counts = [Cell(str(count)) for count in row.counts]
        cells = [Cell(row.method), Cell(interval(row.estimate, 2)), *counts]
        cells += [Cell(str(count)) for count in (row.votes, row.raters, row.images)]
        lines.append(Line("all images" if row.set == ALL else row.set, cells))
    header = ["Set", "Method", "MOS", "1", "2", "3", "4", "5", "Votes", "Raters", "Images"]
    return DataTable(header, lines, {"MOS": "95 % interval", "1": "bad", "5": "excellent"})


def opinion_differences(opinions: Opinions) -> DataTable:
    """Return the differences between the methods' mean opinion scores."""
    lines = []
    for one in opinions.differences:
        estimate = one.estimate
        verdict = "" if estimate.low is None else "yes" if estimate.differs else "no"
        lines.append(Line(f"{one.method} − {one.other}", [Cell(interval(estimate, 2, sign=True)), Cell(verdict)]))
    return DataTable(["Methods", "MOS", "Beyond chance"], lines, {"MOS": "95 % interval"})


def image_tables(scores: Sequence[Score], methods: Sequence[Method]) -> list[tuple[str, DataTable]]:
    """Return (set, table) with one row per image."""
    tables = []
    for name in by_set(scores):
        rows: dict[str, dict[str, Score]] = {}
        for score in scores:
            if score.set == name:
                rows.setdefault(score.image, {})[score.method] = score
        lines = []
        for image, row in rows.items():
            best = best_methods({method: score.values["psnr_y"] for method, score in row.items()})
            cells = [Cell(*_psnr_ssim(row[method.name].values), best=method.name in best) for method in methods]
            lines.append(Line(image, cells))
        tables.append((name, DataTable(["Image", *(method.name for method in methods)], lines)))
    return tables


def paired_differences(scores: Sequence[Score]) -> DataTable:
    """Return each method compared with the one above it."""
    return _plain(difference_table(scores))


def details(scores: Sequence[Score], metrics: Mapping[str, Metric]) -> list[tuple[str, DataTable]]:
    """Return (title, table) of every metric with its interval, for each set."""
    tables = [detail_table(name, scores, metrics) for name in by_set(scores)]
    return [(table.title, _plain(table)) for table in tables]


def _published_line(
    row: Published, grouped: Values, after: int, *, ours: str | None = None, style: str = "published"
) -> Line:
    """Return a published row; `after` counts the columns after those of the sets, the last two for the costs."""
    cells = []
    for name in grouped:
        if name not in row.scores:
            cells.append(Cell(""))
            continue
        psnr, ssim = row.scores[name]
        second = f"{value_text(ssim, 'ssim_y')}{'' if row.comparable_ssim else '†'}" if ssim is not None else ""
        gap = value_text(mean(grouped[name][ours]["psnr_y"]) - psnr, "psnr_y", sign=True) if ours else ""
        cells.append(Cell(value_text(psnr, "psnr_y"), second, gap))
    cells += [Cell("")] * after
    if after > 1:
        cells[-2] = Cell(thousands(row.parameters) if row.parameters else "")
    return Line(row.title, cells, row.source, style)


def _cell(row: Mapping[str, Sequence[float]], best: bool) -> Cell:
    return Cell(*_psnr_ssim({key: mean(row[key]) for key in ("psnr_y", "ssim_y")}), best=best)


def _mos_cell(opinion: Opinion | None, best: bool = False) -> Cell:
    if opinion is None:
        return Cell("")
    low, high = opinion.low, opinion.high
    second = "" if low is None or high is None else f"[{number(low, 2)}, {number(high, 2)}]"
    return Cell(number(opinion.mos, 2), second, best=best, title=f"{opinion.votes} votes of {opinion.raters} raters")


def _psnr_ssim(values: Mapping[str, float]) -> tuple[str, str]:
    return value_text(values["psnr_y"], "psnr_y"), value_text(values["ssim_y"], "ssim_y")


def _plain(table: Table) -> DataTable:
    table = without_empty(table)
    return DataTable(table.header, [Line(row[0], [Cell(text) for text in row[1:]]) for row in table.rows])
