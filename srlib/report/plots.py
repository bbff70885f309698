"""Charts as SVG for the report: curves over steps, and scatter plots of trade-offs. The page's style colors them.

The same numbers give the same bytes. Colors are CSS classes (`c0` to `c4` for our values, `gray` for published ones and
for baselines), so that they follow the reader's light or dark scheme.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from srlib.webpage import environment

WIDTH, HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 14, 48
_LETTER = 7.6  # approximate width of a letter in pixels


@dataclass(frozen=True)
class Point:
    """A labeled point; `gray` for published values."""

    label: str
    x: float
    y: float
    gray: bool = False


@dataclass(frozen=True)
class Series:
    """A line through (step, value) points; a baseline is what the other lines are compared with."""

    label: str
    points: Sequence[tuple[float, float]]
    is_baseline: bool = False


@dataclass(frozen=True)
class Phase:
    """A named part of the x axis."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Axis:
    """An axis: its label, its range, and whether it is logarithmic."""

    label: str
    low: float
    high: float
    log: bool = False

    def part(self, value: float) -> float:
        """Return the position of a value on the axis, 0 to 1."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return round values to mark: 1, 2 or 5 times a power of ten, or powers of ten on a logarithmic axis."""
        if self.log:
            powers = [10.0**e for e in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)]
            steps = [power * factor for power in powers for factor in (1, 2, 5)]
            inside = [step for step in steps if self.low <= step <= self.high]
            decades = [step for step in inside if step in powers]
            return decades if len(decades) > 1 else inside
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Tick:
    """A tick mark: its pixel on the axis, the baseline of its text (y axis only), and its text."""

    at: str
    text: str
    text_at: str = ""


@dataclass(frozen=True)
class _Line:
    """A drawn line: its label, its CSS class, and its points in pixels."""

    label: str
    style: str
    points: str


@dataclass(frozen=True)
class _Mark:
    """The start of a phase on the x axis, its label, and the label's center, in pixels."""

    at: str
    label: str
    label_at: str


@dataclass(frozen=True)
class _Dot:
    """A drawn point with its label, in pixels."""

    x: str
    y: str
    style: str
    label: str
    label_x: str
    label_y: str
    label_left: bool


def curves(
    title: str,
    series: Sequence[Series],
    y_label: str,
    *,
    note: str,
    x_label: str = "step",
    y_range: tuple[float, float] | None = None,
    phases: Sequence[Phase] = (),
) -> Markup:
    """Return lines through (step, value), with a legend if there are several.

    Args:
        title: Title of the chart.
        series: The lines; baselines are drawn dashed and gray.
        y_label: Label of the y axis, with its unit.
        note: One sentence below the chart.
        x_label: Label of the x axis.
        y_range: Ends of the y axis; by default those of the values, and a logarithmic axis where positive values span
            more than a factor of 30.
        phases: Parts of the x axis to name.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [*(y_range or ()), *(y for one in series for _, y in one.points)]
    log = not y_range and min(ys) > 0 and max(ys) / min(ys) > 30
    x, y = _axis(x_label, xs), _axis(y_label, ys, log=log, margin=0 if y_range else 0.04)
    colors = itertools.count()
    lines = [
        _Line(
            one.label,
            "gray" if one.is_baseline else f"c{next(colors)}",
            " ".join(f"{_x(x, a):.1f},{_y(y, b):.1f}" for a, b in one.points),
        )
        for one in series
    ]
    marks = [
        _Mark(f"{_x(x, phase.start):.1f}", phase.label, f"{_x(x, (phase.start + phase.end) / 2):.1f}")
        for phase in phases
    ]
    return _draw(title, x, y, lines=lines, marks=marks, note=note)


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str, *, log_x: bool = False) -> Markup:
    """Return labeled points: our methods in color, published ones in gray."""
    x = _axis(x_label, [point.x for point in points], log=log_x, margin=0.12)
    y = _axis(y_label, [point.y for point in points], margin=0.12)
    dots = []
    # (left, middle, width) of what no label may cover: every point, and the labels placed before.
    occupied = [(_x(x, point.x) - 5, _y(y, point.y), 10.0) for point in points]
    for point in sorted(points, key=lambda point: point.gray):
        left, top = _x(x, point.x), _y(y, point.y)
        width = _LETTER * len(point.label)
        start, middle = _label_left(left, width), _free(left, top, width, occupied)
        occupied.append((start, middle, width))
        on_left = start <= left
        dots.append(
            _Dot(
                f"{left:.1f}",
                f"{top:.1f}",
                "gray" if point.gray else "c0",
                point.label,
                f"{left - 9 if on_left else left + 9:.1f}",
                f"{middle + 4:.1f}",
                on_left,
            )
        )
    return _draw(title, x, y, dots=dots)


def _label_left(left: float, width: float) -> float:
    """Return the left edge of a label: right of its point, or left of it near the end of the chart."""
    return left + 9 if left + 9 + width < WIDTH else left - 9 - width


def _free(left: float, top: float, width: float, occupied: list[tuple[float, float, float]]) -> float:
    """Return the height nearest to `top` at which a label covers nothing."""
    x = _label_left(left, width)
    for shift in (0, -14, 14, -28, 28, -42, 42):
        middle = top + shift
        if all(abs(middle - y) >= 13 or x > a + w or a > x + width for a, y, w in occupied):
            return middle
    return top


def _axis(label: str, values: Sequence[float], *, log: bool = False, margin: float = 0.04) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)
    if log:
        grow = (high / low) ** margin
        return Axis(label, low / grow, high * grow, True)
    grow = (high - low) * margin
    return Axis(label, low - grow, high + grow)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.part(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.part(value) * (HEIGHT - _TOP - _BOTTOM)


def _draw(
    title: str,
    x: Axis,
    y: Axis,
    *,
    lines: Sequence[_Line] = (),
    dots: Sequence[_Dot] = (),
    marks: Sequence[_Mark] = (),
    note: str = "",
) -> Markup:
    """Return a chart as SVG, with ticks on both axes; the coordinates of lines, dots and marks are pixels."""
    tops = [(value, _y(y, value)) for value in y.ticks()]
    y_ticks = [_Tick(f"{top:.1f}", _tick(value), f"{top + 4:.1f}") for value, top in tops]
    x_ticks = [_Tick(f"{_x(x, value):.1f}", _tick(value)) for value in x.ticks()]
    text = (
        environment("srlib.report")
        .get_template("chart.svg.j2")
        .render(
            title=title,
            width=WIDTH,
            height=HEIGHT,
            left=_LEFT,
            right=WIDTH - _RIGHT,
            top=_TOP,
            bottom=HEIGHT - _BOTTOM,
            x_ticks=x_ticks,
            y_ticks=y_ticks,
            x_label=x.label,
            y_label=y.label,
            lines=lines,
            points=dots,
            marks=marks,
            note=note,
        )
    )
    return Markup(text)  # noqa: S704 (the template escapes)


def _tick(value: float) -> str:
    """Return `2`, `0.05`, `30 k`, `1.5 M`."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit and (unit > 1e3 or abs(value) >= 1e4):
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}".replace("-", "−")
