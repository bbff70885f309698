"""Pages are filled with autoescape, and their policy allows exactly their own style and script."""

import re

import jinja2
import pytest

from srlib.webpage import environment, render_page


def test_values_are_escaped() -> None:
    chart = environment("srlib.report").get_template("chart.svg.j2")
    numbers = dict.fromkeys(("width", "height", "left", "right", "top", "bottom", "x_label", "y_label"), 0)
    lists = {name: [] for name in ("x_ticks", "y_ticks", "marks", "lines", "points")}
    text = chart.render(**numbers, **lists, title='<script>"', note="")
    assert "&lt;script&gt;&#34;" in text and "<script>" not in text


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_page("srlib.survey", "survey.html.j2", style="survey.css", scripts=["survey.js"], values={})


def test_rules_extend_the_policy() -> None:
    page = render_page(
        "srlib.survey",
        "survey.html.j2",
        style="survey.css",
        scripts=["survey_text.js", "survey.js"],
        values={"data": "<&"},
        rules=["connect-src 'self'"],
    )
    policy = re.search('Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none'; ") and policy[1].endswith("; connect-src 'self'")
    assert "&lt;&amp;" in page
