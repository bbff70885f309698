"""The outcome of a survey: mean opinion scores, their differences, and the tables that show them."""

from dataclasses import asdict

from srlib.evaluation.number_text import interval, number
from srlib.evaluation.opinions import Difference, Opinions
from srlib.evaluation.statistics import LEVEL, RESAMPLES
from srlib.evaluation.tables import Table, markdown
from srlib.survey.answers import SCORES

FEWEST = 3
"""Fewest raters for an interval."""

PUBLISHED: dict[str, dict[str, float]] = {
    "bicubic": {"Set5": 1.97, "Set14": 1.80, "BSD100": 1.47},
    "SRResNet": {"Set5": 3.37, "Set14": 2.98, "BSD100": 2.29},
    "SRGAN": {"Set5": 3.58, "Set14": 3.72, "BSD100": 3.56},
    "original": {"Set5": 4.32, "Set14": 4.32, "BSD100": 4.46},
}
"""Ledig et al. 2017, table 2: 26 raters."""


def as_json(opinions: Opinions) -> dict[str, object]:
    """Return the content of mos.json."""
    content = asdict(opinions)
    del content["outdated"]  # it depends on the evaluation
    rows = [{**asdict(row), "votes": row.votes} for row in opinions.rows]
    return {**content, "rows": rows, "interval": LEVEL, "resamples": RESAMPLES, "published": PUBLISHED}


def tables(opinions: Opinions) -> list[Table]:
    """Return MOS per set and method, the differences between methods, and published scores of the same sets."""
    header = ["Set", "Method", "MOS [95 %]", *map(str, SCORES), "Votes", "Raters", "Images"]
    rows = [
        [row.set, row.method, interval(row.estimate, 2)]
        + [str(count) for count in (*row.counts, row.votes, row.raters, row.images)]
        for row in opinions.rows
    ]
    result = [Table("Mean opinion score, 1 (bad) to 5 (excellent), and how often each score was given", header, rows)]
    if opinions.differences:
        compared = [
            [f"{d.method} − {d.other}", interval(d.estimate, 2, sign=True), _verdict(d)] for d in opinions.differences
        ]
        result.append(Table("Differences on all images", ["Methods", "MOS [95 %]", "Beyond chance"], compared))
    sets = [name for name in PUBLISHED["original"] if any(row.set == name for row in opinions.rows)]
    if sets:
        published = [[method, *(number(values[name], 2) for name in sets)] for method, values in PUBLISHED.items()]
        result.append(Table("Published (Ledig et al. 2017, 26 raters)", ["Method", *sets], published))
    return result


def document(opinions: Opinions) -> str:
    """Return mos.md: the tables, what was counted, what was not, and why."""
    parts = [f"# Opinion survey {opinions.survey}\n", *map(markdown, tables(opinions))]
    if any(table.title.startswith("Published") for table in tables(opinions)):
        parts.append(
            "The published scores come from other raters, images and screens: compare the order of the methods, not "
            "the numbers.\n"
        )
    if any(row.low is None for row in opinions.rows):
        parts.append(f"No interval is given for fewer than {FEWEST} raters.\n")
    parts.append(f"Answers counted: {len(opinions.counted)}\n")
    if opinions.refused:
        parts.append("Answers not counted:\n\n" + "".join(f"- `{f}`: {reason}\n" for f, reason in opinions.refused))
    return "\n".join(parts)


def _verdict(difference: Difference) -> str:
    estimate = difference.estimate
    return "" if estimate.low is None else "yes" if estimate.differs else "no"
