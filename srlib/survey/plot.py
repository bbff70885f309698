"""The distribution of opinion scores as SVG: the share of each score, and the mean with its interval.

The same scores give the same bytes. The colors follow the reader's light or dark scheme. This module computes the
positions; `templates/mos.svg.j2` draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from srlib.evaluation.opinions import ALL, Opinion
from srlib.webpage import environment

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


@dataclass(frozen=True)
class _Part:
    """The part of a bar that stands for one score; without a label where it is narrow."""

    x: str
    width: str
    fill: str
    center: str
    ink: str
    label: str


@dataclass(frozen=True)
class _Row:
    """A method: its bar, and its mean with the ends of the interval."""

    method: str
    middle: int
    parts: list[_Part]
    mean_x: str
    mean: str
    interval: tuple[str, str] | None


@dataclass(frozen=True)
class _Block:
    """A set with one row per method."""

    title: str
    top: int
    bottom: int
    rows: list[_Row]


def distribution_svg(rows: Sequence[Opinion]) -> str:
    """Draw one block per set, in the order of the rows."""
    blocks: list[_Block] = []
    y = 64
    for name, group in groupby(rows, key=lambda row: row.set):
        opinions = list(group)
        bottom = y + _HEAD - 14 + _ROW * len(opinions)
        drawn = [_row(opinion, y + _HEAD - 3 + _ROW * index) for index, opinion in enumerate(opinions)]
        blocks.append(_Block("All images" if name == ALL else name, y, bottom, drawn))
        y = bottom + 26
    legend = []
    for index, ((fill, _), word) in enumerate(zip(_COLORS, _WORDS, strict=True)):
        x = _BAR_LEFT + index * _BAR / 5
        legend.append({"x": f"{x:.1f}", "text_x": f"{x + 19:.1f}", "fill": fill, "text": f"{index + 1} {word}"})
    template = environment("srlib.survey").get_template("mos.svg.j2")
    return template.render(
        width=WIDTH,
        height=y,
        legend=legend,
        ticks=[{"x": _at(value), "value": value} for value in range(1, 6)],
        axis_left=_AXIS_LEFT,
        mean_text_x=_AXIS_LEFT + _AXIS + 14,
        blocks=blocks,
    )


def _row(opinion: Opinion, middle: int) -> _Row:
    """Place a method's bar and mean at the height `middle`."""
    votes = sum(opinion.counts)
    parts = []
    x = float(_BAR_LEFT)
    for count, (fill, ink) in zip(opinion.counts, _COLORS, strict=True):
        width = _BAR * count / votes
        label = f"{100 * count / votes:.0f} %" if width > 30 else ""
        if count:
            parts.append(_Part(f"{x:.1f}", f"{width:.1f}", fill, f"{x + width / 2:.1f}", ink, label))
        x += width
    low, high = opinion.low, opinion.high
    interval = None if low is None or high is None else (_at(low), _at(high))
    return _Row(_short(opinion.method), middle, parts, _at(opinion.mos), f"{opinion.mos:.2f}", interval)


def _at(value: float) -> str:
    """Return the position of a score on the axis from 1 to 5."""
    return f"{_AXIS_LEFT + (value - 1) / 4 * _AXIS:.1f}"


def _short(name: str) -> str:
    """Return a name that fits beside its bar."""
    return name if len(name) <= 18 else f"{name[:17]}…"
