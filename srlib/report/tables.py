"""The tables of the report as HTML: ours beside the published rows, every picture, differences and what they mean."""

from collections.abc import Sequence
from html import escape

from srlib.evaluation.benchmark import METRICS, Method, Metric, Score
from srlib.evaluation.published import PUBLISHED, Published, counterpart
from srlib.evaluation.statistics import difference, mean
from srlib.evaluation.tables import (
    Table,
    Values,
    by_set,
    detail_table,
    difference_table,
    gigas,
    interval,
    mean_work,
    parameters,
    thousands,
    value_text,
)

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def cards(scores: Sequence[Score], methods: Sequence[Method]) -> str:
    """The headline: each network's score on the first set, and its gain over bicubic."""
    grouped = by_set(scores)
    name, rows = next(iter(grouped.items()))
    cards = []
    for method in methods:
        if method.name in _INTERPOLATIONS:
            continue
        gain = ""
        if "bicubic" in rows:
            more = difference(rows[method.name]["psnr_y"], rows["bicubic"]["psnr_y"])
            gain = f"<span>{interval(more, METRICS['psnr_y'], sign=True)} dB<br>against bicubic</span>"
        score = value_text(mean(rows[method.name]["psnr_y"]), "psnr_y")
        cards.append(f'<div class="card"><em>{escape(method.name)}</em> {escape(name)}<b>{score} dB</b>{gain}</div>')
    return "".join(cards)


def scores(scores: Sequence[Score], methods: Sequence[Method], scale: int) -> str:
    """Our rows, each with its published counterpart in gray and the difference; then the other published rows."""
    grouped = by_set(scores)
    published = [row for row in PUBLISHED.get(scale, ()) if row.scores.keys() & grouped.keys()]
    networks = any(method.cost for method in methods)
    best = {name: max(rows, key=lambda method: mean(rows[method]["psnr_y"])) for name, rows in grouped.items()}
    head = ["Method", *grouped, *(["Parameters", "Multiply-adds"] if networks else [])]
    body = []
    for method in methods:
        cells = [f'<th scope="row">{escape(method.name)}</th>']
        for name, rows in grouped.items():
            row = rows[method.name]
            style = ' class="best"' if best[name] == method.name else ""
            psnr, ssim = value_text(mean(row["psnr_y"]), "psnr_y"), value_text(mean(row["ssim_y"]), "ssim_y")
            cells.append(f"<td{style}>{psnr} <small>{ssim}</small></td>")
        if networks:
            cells += [f"<td>{parameters(method)}</td><td>{gigas(mean_work(scores, method.name))}</td>"]
        body.append(f"<tr>{''.join(cells)}</tr>")
        match = counterpart(method.name, method.cost.parameters if method.cost else None, published)
        if match:
            published.remove(match)
            body.append(_published(match, grouped, networks, ours=method.name))
    for index, other in enumerate(published):
        style = ' class="published"' if index else ' class="published apart"'
        body.append(_published(other, grouped, networks, style=style))
    note = (
        "PSNR-Y in dB, SSIM-Y small beside it; means over pictures, the best of each set in color. Gray: as printed "
        "in the papers, with our figure minus theirs where both are of one kind. † SSIM of another program."
    )
    return _table(head, body) + f'<p class="quiet">{note}</p>'


def _published(
    row: Published,
    grouped: Values,
    networks: bool,
    *,
    ours: str | None = None,
    style: str = ' class="published"',
) -> str:
    cells = [f'<th scope="row">{escape(row.title)} <small>{escape(row.source)}</small></th>']
    for name in grouped:
        if name not in row.scores:
            cells.append("<td></td>")
            continue
        psnr, ssim = row.scores[name]
        second = f"{value_text(ssim, 'ssim_y')}{'' if row.comparable_ssim else '†'}" if ssim is not None else ""
        more = ""
        if ours:
            gap = value_text(mean(grouped[name][ours]["psnr_y"]) - psnr, "psnr_y", sign=True)
            more = f'<i title="ours minus published">{gap}</i>'
        cells.append(f"<td>{value_text(psnr, 'psnr_y')} <small>{second}</small> {more}</td>")
    if networks:
        cells.append(f"<td>{thousands(row.parameters) if row.parameters else ''}</td><td></td>")
    return f"<tr{style}>{''.join(cells)}</tr>"


def every(scores: Sequence[Score], methods: Sequence[Method]) -> str:
    """One folding table per set with a row per picture."""
    parts = []
    for name in by_set(scores):
        rows: dict[str, dict[str, Score]] = {}
        for score in scores:
            if score.set == name:
                rows.setdefault(score.image, {})[score.method] = score
        body = []
        for picture, row in rows.items():
            best = max(row, key=lambda method: row[method].values["psnr_y"])
            cells = [
                f"<td{' class=best' if method.name == best else ''}>{value_text(values['psnr_y'], 'psnr_y')}"
                f" <small>{value_text(values['ssim_y'], 'ssim_y')}</small></td>"
                for method in methods
                for values in [row[method.name].values]
            ]
            body.append(f'<tr><th scope="row">{escape(picture)}</th>{"".join(cells)}</tr>')
        table = _table(["Picture", *(method.name for method in methods)], body)
        parts.append(f"<details><summary>{escape(name)}: {len(rows)} pictures</summary>{table}</details>")
    return "".join(parts)


def differences(scores: Sequence[Score], metrics: dict[str, Metric]) -> str:
    """Paired differences between rows, and every metric with its interval."""
    text = (
        "Each method against the one above it, picture by picture, with 95 % bootstrap intervals over pictures. Where "
        "the interval holds zero, other pictures could turn the order around. Fewer than five pictures get none."
    )
    details = "".join(_plain(detail_table(name, scores, metrics)) for name in by_set(scores))
    return (
        f"<p>{text}</p>{_plain(difference_table(scores), titled=False)}"
        f"<details><summary>Every metric with its interval</summary>{details}</details>"
    )


def _plain(table: Table, titled: bool = True) -> str:
    body = [
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    ]
    return (f"<h3>{escape(table.title)}</h3>" if titled else "") + _table(table.header, body)


def _table(head: Sequence[str], body: Sequence[str]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    # Focusable, so that the keyboard can scroll it where it is wider than the page.
    table = f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'
