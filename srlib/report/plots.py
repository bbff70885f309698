"""Charts as SVG text for the report: curves over steps, and points of a trade-off. The page's style colors them.

The same numbers give the same bytes. Colors are CSS classes (`c0` … `c5` for series, `gray` for published points), so
that they follow the reader's light or dark scheme.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 14, 48
_LETTER = 7.6  # pixels of a label's letter, about


@dataclass(frozen=True)
class Point:
    """A labelled point; `gray` for figures that are not ours."""

    label: str
    x: float
    y: float
    gray: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: what it shows, the range it covers, whether it is logarithmic."""

    label: str
    low: float
    high: float
    log: bool = False

    def part(self, value: float) -> float:
        """Where on the axis a value lies, 0 to 1."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values to mark: 1, 2 or 5 times a power of ten, or powers of ten on a logarithmic axis."""
        if self.log:
            powers = [10.0**e for e in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)]
            steps = [power * factor for power in powers for factor in (1, 2, 5)]
            found = [step for step in steps if self.low <= step <= self.high]
            decades = [step for step in found if step in powers]
            return decades if len(decades) > 1 else found
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def curve(title: str, points: Sequence[tuple[float, float]], x_label: str = "step") -> str:
    """A line through (step, value); logarithmic where positive values span more than a factor of 30."""
    xs, ys = zip(*points, strict=True)
    log = min(ys) > 0 and max(ys) / min(ys) > 30
    x, y = _axis(x_label, xs), _axis("", ys, log=log)
    path = " ".join(f"{_x(x, a):.1f},{_y(y, b):.1f}" for a, b in points)
    return _svg(title, x, y, [f'<polyline class="c0 line" points="{path}"/>'])


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str, *, log_x: bool = False) -> str:
    """Labelled points: those of the project in color, published ones in gray."""
    x = _axis(x_label, [point.x for point in points], log=log_x, room=0.12)
    y = _axis(y_label, [point.y for point in points], room=0.12)
    parts: list[str] = []
    # (left, middle, width) of what no label may cover: every point, and the labels set before.
    taken = [(_x(x, point.x) - 5, _y(y, point.y), 10.0) for point in points]
    for point in sorted(points, key=lambda point: point.gray):
        left, top = _x(x, point.x), _y(y, point.y)
        style = "gray" if point.gray else "c0"
        parts.append(f'<circle class="{style} dot" cx="{left:.1f}" cy="{top:.1f}" r="5"/>')
        width = _LETTER * len(point.label)
        start, row = _label_left(left, width), _free(left, top, width, taken)
        taken.append((start, row, width))
        place = f'x="{left + 9:.1f}"' if start > left else f'x="{left - 9:.1f}" text-anchor="end"'
        parts.append(f'<text class="{style} name" {place} y="{row + 4:.1f}">{escape(point.label)}</text>')
    return _svg(title, x, y, parts)


def _label_left(left: float, width: float) -> float:
    """Right of the point, or left of it where the chart ends."""
    return left + 9 if left + 9 + width < WIDTH else left - 9 - width


def _free(left: float, top: float, width: float, taken: list[tuple[float, float, float]]) -> float:
    """The height nearest to `top` at which a label does not cover another."""
    x = _label_left(left, width)
    for shift in (0, -14, 14, -28, 28, -42, 42):
        row = top + shift
        if all(abs(row - y) >= 13 or x > a + w or a > x + width for a, y, w in taken):
            return row
    return top


def _axis(label: str, values: Sequence[float], *, log: bool = False, room: float = 0.04) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)
    if log:
        grow = (high / low) ** room
        return Axis(label, low / grow, high * grow, True)
    grow = (high - low) * room
    return Axis(label, low - grow, high + grow)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.part(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.part(value) * (HEIGHT - _TOP - _BOTTOM)


def _svg(title: str, x: Axis, y: Axis, parts: list[str]) -> str:
    lines = []
    for value in y.ticks():
        top = _y(y, value)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        lines.append(f'<text class="tick" x="{_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    for value in x.ticks():
        left = _x(x, value)
        lines.append(f'<text class="tick" x="{left:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{_tick(value)}</text>')
    lines.append(
        f'<text class="tick" x="{(_LEFT + WIDTH - _RIGHT) / 2:.1f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(x.label)}</text>"
    )
    if y.label:
        lines.append(
            f'<text class="tick" transform="translate(13 {(HEIGHT - _BOTTOM + _TOP) / 2:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(y.label)}</text>'
        )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(lines)}{"".join(parts)}'
        "</svg></figure>"
    )


def _tick(value: float) -> str:
    """`2`, `0.05`, `30 k`, `1.5 M`."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit and (unit > 1e3 or abs(value) >= 1e4):
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}".replace("-", "−")
