"""The distribution of opinion scores as SVG: the share of each score, and the mean with its interval.

It is plain text, so that the same scores give the same bytes, and follows the reader's light or dark scheme.
"""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from srlib.survey.opinions import ALL, Opinion

WIDTH = 880
_LABEL, _BAR, _AXIS = 150, 390, 210  # widths of the three columns
_BAR_LEFT = 24 + _LABEL
_AXIS_LEFT = _BAR_LEFT + _BAR + 40
_ROW, _HEAD = 34, 46
_WORDS = ("bad", "poor", "fair", "good", "excellent")
# Brown to blue, distinct for all common kinds of color blindness; (fill, text on it).
_COLORS = (
    ("#a5522d", "#fff"),
    ("#dfa477", "#24201c"),
    ("#d8d5cd", "#24201c"),
    ("#8db7d6", "#1b232a"),
    ("#2c6699", "#fff"),
)
_STYLE = (
    "text{font:14px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1d2026}"
    ".q{fill:#5f656f;font-size:12px}.h{font-weight:600;font-size:15px}.n{font-size:12px;text-anchor:middle}"
    ".p{fill:#fbfaf7}.g{stroke:#d5d2cb}.m{stroke:#1d2026;stroke-width:2}.d{fill:#1d2026}"
    "@media(prefers-color-scheme:dark){text{fill:#e9e8e5}.q{fill:#a0a5ad}.p{fill:#17181b}.g{stroke:#3a3d43}"
    ".m{stroke:#e9e8e5}.d{fill:#e9e8e5}}"
)


def distribution_svg(rows: Sequence[Opinion]) -> str:
    """Draw one block per set, in the order of the rows."""
    parts: list[str] = []
    y = 64
    for name, group in groupby(rows, key=lambda row: row.set):
        block = list(group)
        parts.append(f'<text class="h" x="24" y="{y + 16}">{escape("All images" if name == ALL else name)}</text>')
        bottom = y + _HEAD - 14 + _ROW * len(block)
        for value in range(1, 6):
            x = _at(value)
            parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 24}" y2="{bottom}"/>')
            parts.append(f'<text class="n q" x="{x:.1f}" y="{y + 16}">{value}</text>')
        for index, row in enumerate(block):
            parts += _bar(row, y + _HEAD - 16 + _ROW * index)
        y = bottom + 26
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">',
        "<title>How often each score was given, and the mean opinion score</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="p" width="{WIDTH}" height="{y}"/>',
    ]
    for index, ((fill, _), word) in enumerate(zip(_COLORS, _WORDS, strict=True)):
        x = _BAR_LEFT + index * _BAR / 5
        head.append(f'<rect x="{x:.1f}" y="24" width="13" height="13" rx="2" fill="{fill}"/>')
        head.append(f'<text class="q" x="{x + 19:.1f}" y="35">{index + 1} {word}</text>')
    head.append(f'<text class="q" x="{_AXIS_LEFT}" y="35">Mean and its 95 % interval</text>')
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _bar(row: Opinion, top: int) -> list[str]:
    middle = top + 13
    votes = sum(row.counts)
    parts = [f'<text x="24" y="{middle + 5}">{escape(_short(row.method))}</text>']
    x = float(_BAR_LEFT)
    for count, (fill, ink) in zip(row.counts, _COLORS, strict=True):
        width = _BAR * count / votes
        if count:
            parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="26" fill="{fill}"/>')
        if width > 30:
            label = f"{100 * count / votes:.0f} %"
            parts.append(f'<text class="n" x="{x + width / 2:.1f}" y="{middle + 4}" style="fill:{ink}">{label}</text>')
        x += width
    if row.low is not None and row.high is not None:
        low, high = _at(row.low), _at(row.high)
        parts.append(f'<line class="m" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="d" cx="{_at(row.mos):.1f}" cy="{middle}" r="5"/>')
    parts.append(f'<text class="q" x="{_AXIS_LEFT + _AXIS + 14}" y="{middle + 4}">{row.mos:.2f}</text>')
    return parts


def _at(value: float) -> float:
    """Return the position of a score on the axis from 1 to 5."""
    return _AXIS_LEFT + (value - 1) / 4 * _AXIS


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"
