"""Numbers as tables and the report show them: significant decimals, a real minus sign, intervals, thousands."""

import math
from collections.abc import Mapping

from srlib.evaluation.benchmark import METRICS, Method, Metric
from srlib.evaluation.statistics import Estimate

_ROUNDED_UP = 0.9995
"""Part of a unit from which three digits make a whole one: 999,500 is 1 M, not 1000 k."""


def value_text(value: float, key: str, metrics: Mapping[str, Metric] = METRICS, sign: bool = False) -> str:
    """Return a metric's value with its significant decimals: `28.43`, `.8111`, `∞`."""
    return number(value, metrics[key].digits, sign)


def number(value: float, digits: int, sign: bool = False) -> str:
    """Return a number with `digits` decimals; with four or more, numbers below 1 lose their leading zero.

    Example:
        >>> number(28.4304, 2), number(0.81113, 4), number(-0.5, 2, sign=True), number(float("inf"), 2)
        ('28.43', '.8111', '−0.50', '∞')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if digits > 3 and abs(value) < 1 and not text.startswith("1") else text


def interval(estimated: Estimate, digits: int, sign: bool = False) -> str:
    """Return `28.43 [27.90, 29.01]`, or the mean alone where there is no interval.

    Example:
        >>> interval(Estimate(28.43, 27.9, 29.01), 2)
        '28.43 [27.90, 29.01]'
    """
    text = number(estimated.mean, digits, sign)
    if estimated.low is None or estimated.high is None:
        return text
    return f"{text} [{number(estimated.low, digits, sign)}, {number(estimated.high, digits, sign)}]"


def parameters(method: Method) -> str:
    """Return a network's number of parameters as text; empty for an interpolation."""
    return thousands(method.cost.parameters) if method.cost else ""


def thousands(count: int) -> str:
    """Return a count with three digits.

    Example:
        >>> thousands(1_517_571), thousands(57_000)
        ('1.52 M', '57 k')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= _ROUNDED_UP * unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def gigas(work: float) -> str:
    """Return multiply-adds with three digits; empty for zero.

    Example:
        >>> gigas(28.43e9), gigas(2.1e12), gigas(0)
        ('28.4 G', '2.1 T', '')
    """
    if not work:
        return ""
    return f"{work / 1e9:.3g} G" if work < _ROUNDED_UP * 1e12 else f"{work / 1e12:.3g} T"
