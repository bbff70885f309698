"""From the answers of raters to mean opinion scores: `srlib survey score`.

Scores are integers 1 (bad) to 5 (excellent). A mean opinion score (MOS) is the mean of all votes for a method. Its
interval of 95 % is a percentile bootstrap that draws raters and pictures at once, with replacement (the pigeonhole
bootstrap, Owen 2007): raters differ in how strict they are and pictures in how hard they are, so that single votes are
not independent and an interval over votes would be far too narrow.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from srlib.errors import SrlibError
from srlib.evaluation.statistics import LEVEL, RESAMPLES, Estimate
from srlib.evaluation.tables import Table, markdown, number
from srlib.files import write_json, write_text
from srlib.survey.answers import MAX_ANSWERS_BYTES, SCORES, Answers, Survey, read_key
from srlib.survey.plot import distribution_svg

ALL = "all"
FILES = ("mos.json", "mos.md", "mos.svg")
FEWEST = 3
"""Raters below which no interval is given."""
_SEED = 20170

PUBLISHED: dict[str, dict[str, float]] = {
    "bicubic": {"Set5": 1.97, "Set14": 1.80, "BSD100": 1.47},
    "SRResNet": {"Set5": 3.37, "Set14": 2.98, "BSD100": 2.29},
    "SRGAN": {"Set5": 3.58, "Set14": 3.72, "BSD100": 3.56},
    "original": {"Set5": 4.32, "Set14": 4.32, "BSD100": 4.46},
}
"""Ledig et al. 2017, table 2: 26 raters."""


@dataclass(frozen=True)
class Opinion:
    """What raters think of one method on one set (`all`: on every picture). `counts` holds the votes for 1 to 5."""

    set: str
    method: str
    mos: float
    low: float | None
    high: float | None
    counts: list[int]
    raters: int
    pictures: int

    @property
    def votes(self) -> int:
        """Votes in all."""
        return sum(self.counts)


@dataclass(frozen=True)
class Difference:
    """Mean score of `method` minus that of `other`, on all pictures."""

    method: str
    other: str
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Opinions:
    """The outcome of a survey. `refused` holds (file, reason) of each file that does not count."""

    survey: str
    rows: list[Opinion]
    differences: list[Difference]
    counted: list[str]
    refused: list[tuple[str, str]]


def score(answers: Sequence[Path], key: Path, out: Path, *, unfinished: bool = False) -> Opinions:
    """Checks answers, counts them, and writes `mos.json`, `mos.md` and `mos.svg` into the folder `out`.

    Of several answers by one rater the latest revision counts.

    Args:
        answers: Files, or folders of `*.json` files.
        key: The key file that `srlib survey make` wrote.
        out: The folder for the three files.
        unfinished: Whether half-finished answers count as far as they go.

    Raises:
        SrlibError: A file is missing, or no answers are left; the reasons are named.
    """
    survey, content = read_key(key)
    files = _files(answers)
    accepted, refused = _sift(files, survey, unfinished)
    if not accepted:
        reasons = "".join(f"\n{file}: {reason}" for file, reason in refused)
        raise SrlibError(f"no answers count, of {len(files)} files{reasons}")
    items = content["items"]
    votes = _tensor([given for _, given in accepted], items, content["methods"])
    pictures = _pictures(items)
    rows, differences = [], []
    present = {name for name, _ in pictures}
    for name in [ALL, *(name for name in content["sets"] if name in present)]:
        chosen = [i for i, (of, _) in enumerate(pictures) if name in (ALL, of)]
        part = votes[:, chosen]
        draws = _resampled_means(part)
        for m, method in enumerate(content["methods"]):
            if row := _opinion(name, method, part[:, :, m], draws[:, m]):
                rows.append(row)
        if name == ALL:
            means = {row.method: row.mos for row in rows}
            order = {method: m for m, method in enumerate(content["methods"])}
            for other, method in combinations(means, 2):
                low, high = _interval(draws[:, order[method]] - draws[:, order[other]], part)
                differences.append(Difference(method, other, round(means[method] - means[other], 6), low, high))
    opinions = Opinions(survey.survey, rows, differences, [file for file, _ in accepted], refused)
    data, table, plot = (out / name for name in FILES)
    write_json(data, _as_json(opinions))
    write_text(table, report(opinions))
    write_text(plot, distribution_svg(rows))
    return opinions


def tables(opinions: Opinions) -> list[Table]:
    """MOS per set and method; the differences between methods; the published scores of the sets that were rated."""
    header = ["Set", "Method", "MOS [95 %]", *map(str, SCORES), "Votes", "Raters", "Pictures"]
    rows = [
        [row.set, row.method, _shown(row.mos, row.low, row.high)]
        + [str(count) for count in (*row.counts, row.votes, row.raters, row.pictures)]
        for row in opinions.rows
    ]
    found = [Table("Mean opinion score, 1 (bad) to 5 (excellent), and how often each score was given", header, rows)]
    if opinions.differences:
        compared = [
            [f"{d.method} − {d.other}", _shown(d.mean, d.low, d.high, sign=True), _verdict(d)]
            for d in opinions.differences
        ]
        found.append(Table("Differences on all pictures", ["Methods", "MOS [95 %]", "Beyond chance"], compared))
    sets = [name for name in PUBLISHED["original"] if any(row.set == name for row in opinions.rows)]
    if sets:
        printed = [[method, *(number(values[name], 2) for name in sets)] for method, values in PUBLISHED.items()]
        found.append(Table("Published (Ledig et al. 2017, 26 raters)", ["Method", *sets], printed))
    return found


def report(opinions: Opinions) -> str:
    """The tables as Markdown, with what was counted, what was not, and why."""
    parts = [f"# Opinion survey {opinions.survey}\n", *map(markdown, tables(opinions))]
    if any(table.title.startswith("Published") for table in tables(opinions)):
        parts.append("Other raters, other pictures of the sets, other screens: published scores give the scale only.\n")
    if any(row.low is None for row in opinions.rows):
        parts.append(f"No interval is given for fewer than {FEWEST} raters.\n")
    parts.append(f"Answers counted: {len(opinions.counted)}\n")
    if opinions.refused:
        parts.append("Answers not counted:\n\n" + "".join(f"- `{f}`: {reason}\n" for f, reason in opinions.refused))
    return "\n".join(parts)


def _files(answers: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in answers:
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise SrlibError(f"{path}: holds no answers; expected *.json files from the survey")
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise SrlibError(f"{path}: no such file or folder; expected answers to the survey")
    if not found:
        raise SrlibError("no answers given; expected files, or a folder of them")
    return list(found)


def _sift(
    files: Sequence[Path], survey: Survey, unfinished: bool
) -> tuple[list[tuple[str, Answers]], list[tuple[str, str]]]:
    """One answer per rater, sorted by rater, and (file, reason) of the others, sorted by file."""
    refused: list[tuple[str, str]] = []
    by_rater: dict[str, list[tuple[str, Answers]]] = {}
    for path in files:
        try:
            with path.open("rb") as opened:
                given = survey.check(opened.read(MAX_ANSWERS_BYTES + 1))
        except (SrlibError, OSError) as error:
            refused.append((str(path), str(error)))
        else:
            by_rater.setdefault(given.rater, []).append((str(path), given))
    accepted = []
    for rater in sorted(by_rater):
        several = sorted(by_rater[rater], key=lambda entry: (-entry[1].revision, entry[0]))
        file, latest = several[0]
        if any(given.revision == latest.revision and given.votes != latest.votes for _, given in several):
            reason = f"rater {rater} gave two different answers as revision {latest.revision}"
            refused += [(name, reason) for name, _ in several]
            continue
        for name, given in several[1:]:
            same = "the same answers as" if given.votes == latest.votes else "replaced by the later revision in"
            refused.append((name, f"{same} {file} (rater {rater})"))
        if len(latest.votes) < len(survey.groups) and not unfinished:
            refused.append((file, f"half-finished: {len(latest.votes)} of {len(survey.groups)} versions rated"))
        else:
            accepted.append((file, latest))
    return accepted, sorted(refused)


def _pictures(items: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    return sorted({(entry["set"], entry["picture"]) for entry in items.values()})


def _tensor(given: Sequence[Answers], items: dict[str, dict[str, str]], methods: Sequence[str]) -> np.ndarray:
    """float64 [raters, pictures, methods] of scores 1 to 5, NaN where there is none."""
    pictures = {name: i for i, name in enumerate(_pictures(items))}
    votes = np.full((len(given), len(pictures), len(methods)), np.nan)
    for r, answers in enumerate(given):
        for item, value in answers.votes:
            entry = items[item]
            votes[r, pictures[entry["set"], entry["picture"]], methods.index(entry["method"])] = value
    return votes


def _resampled_means(votes: np.ndarray) -> np.ndarray:
    """float64 [RESAMPLES, methods]: the mean over drawn raters and drawn pictures, NaN where the draw holds no vote."""
    raters, pictures, methods = votes.shape
    generator = np.random.default_rng(_SEED)
    rater_weights = generator.multinomial(raters, np.full(raters, 1 / raters), RESAMPLES).astype(np.float64)
    picture_weights = generator.multinomial(pictures, np.full(pictures, 1 / pictures), RESAMPLES).astype(np.float64)
    means = np.empty((RESAMPLES, methods))
    for m in range(methods):
        given = ~np.isnan(votes[:, :, m])
        total = ((rater_weights @ np.where(given, votes[:, :, m], 0.0)) * picture_weights).sum(axis=1)
        count = ((rater_weights @ given.astype(np.float64)) * picture_weights).sum(axis=1)
        means[:, m] = np.divide(total, count, out=np.full(RESAMPLES, np.nan), where=count > 0)
    return means


def _interval(draws: np.ndarray, votes: np.ndarray) -> tuple[float | None, float | None]:
    if len(votes) < FEWEST:
        return None, None
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return round(float(low), 4), round(float(high), 4)


def _opinion(name: str, method: str, votes: np.ndarray, draws: np.ndarray) -> Opinion | None:
    """One row from votes [raters, pictures]; none where nobody voted (half-finished answers alone)."""
    given = votes[~np.isnan(votes)]
    if not given.size:
        return None
    raters = votes[~np.isnan(votes).all(axis=1)]
    low, high = _interval(draws, raters)
    counts = [int((given == value).sum()) for value in SCORES]
    seen = int((~np.isnan(votes)).any(axis=0).sum())
    return Opinion(name, method, round(float(given.mean()), 6), low, high, counts, len(raters), seen)


def _as_json(opinions: Opinions) -> dict[str, object]:
    rows = [{**asdict(row), "votes": row.votes} for row in opinions.rows]
    return {**asdict(opinions), "rows": rows, "interval": LEVEL, "resamples": RESAMPLES, "published": PUBLISHED}


def _shown(mean: float, low: float | None, high: float | None, sign: bool = False) -> str:
    text = number(mean, 2, sign)
    return text if low is None or high is None else f"{text} [{number(low, 2, sign)}, {number(high, 2, sign)}]"


def _verdict(difference: Difference) -> str:
    estimate = Estimate(difference.mean, difference.low, difference.high)
    return "" if estimate.low is None else "yes" if estimate.differs else "no"
