"""From the answers of raters to mean opinion scores: `srlib survey score`.

Scores are integers from 1 (bad) to 5 (excellent). A mean opinion score (MOS) is the mean of all votes for a method. Its
interval of 95 % is a percentile bootstrap that resamples raters and images at once, with replacement (the pigeonhole
bootstrap, Owen 2007): raters differ in strictness and images in difficulty, so single votes are not independent, and an
interval over votes would be far too narrow.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError
from srlib.evaluation.opinions import ALL, FILE, Difference, Opinion, Opinions, RatedImage
from srlib.evaluation.statistics import LEVEL, RESAMPLES
from srlib.files import check_output, check_output_folder, write_json, write_text
from srlib.survey.answers import MAX_ANSWERS_BYTES, SCORES, Answers, KeyItem, Survey, SurveyKey, read_key
from srlib.survey.opinions import FEWEST, as_json, document
from srlib.survey.plot import distribution_svg

FILES = (FILE, "mos.md", "mos.svg")
"""Files that `score_answers` writes."""
_SEED = 20170

_Entry = tuple[str, Answers]
"""A file and its answers."""

Votes = npt.NDArray[np.float64]
"""[raters, images, methods] of scores 1 to 5, NaN where there is none."""


def score_answers(answers: Sequence[Path], key: Path, out: Path, *, unfinished: bool = False) -> Opinions:
    """Check answers, count them, and write `FILES` into the folder `out`.

    If a rater sent several answers from one device, the latest revision counts. If they are from several devices and
    differ, none counts, except that unfinished ones give way to finished ones.

    Args:
        answers: Files, or folders of `*.json` files.
        key: Key file that `srlib survey make` wrote.
        out: Folder for the three files.
        unfinished: Whether unfinished answers count as far as they go.

    Raises:
        SrlibError: A file is missing or cannot be written, or no answers count; the reasons are named.
    """
    check_output_folder(out)
    for name in FILES:
        check_output(out / name)
    content = read_key(key)
    survey = content.public
    files = _files(answers)
    accepted, refused = _sift(files, survey, unfinished)
    if not accepted:
        reasons = "".join(f"\n{file}: {reason}" for file, reason in refused)
        raise SrlibError(f"none of {len(files)} files counts{reasons}")
    images = _images(content.items)
    votes = _votes([latest for _, latest in accepted], content.items, content.methods)
    rows: list[Opinion] = []
    names = {name for name, _ in images}
    for name in [ALL, *(name for name in content.sets if name in names)]:
        columns = [i for i, (set_name, _) in enumerate(images) if name in (ALL, set_name)]
        rows += _opinions(name, votes[:, columns], content.methods)
    differences = list(_differences([row for row in rows if row.set == ALL], votes, content.methods))
    opinions = Opinions(survey.survey, rows, differences, [file for file, _ in accepted], refused, _rated(content))
    write_json(out / FILES[0], as_json(opinions))
    write_text(out / FILES[1], document(opinions))
    write_text(out / FILES[2], distribution_svg(rows))
    return opinions


def _files(answers: Sequence[Path]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in answers:
        if path.is_dir():
            # Not `glob`, which takes a folder that cannot be read for an empty one.
            inside = sorted(path / name for name in os.listdir(path) if name.endswith(".json") and name[0] != ".")
            if not inside:
                raise SrlibError(f"{path}: holds no answers; expected *.json files from the survey")
            files |= dict.fromkeys(inside)
        elif path.is_file():
            files[path] = None
        else:
            raise SrlibError(f"{path}: no such file or folder; expected answers to the survey")
    if not files:
        raise SrlibError("expected at least one file or folder of answers")
    return list(files)


def _sift(files: Sequence[Path], survey: Survey, unfinished: bool) -> tuple[list[_Entry], list[tuple[str, str]]]:
    """Return one answer per rater, sorted by rater, and (file, reason) of the others, sorted by file."""
    refused: list[tuple[str, str]] = []
    by_rater: dict[str, list[_Entry]] = {}
    for path in files:
        try:
            if not path.is_file():
                raise SrlibError("expected a regular file, got a folder, pipe or device")
            with path.open("rb") as file:
                content = survey.check(file.read(MAX_ANSWERS_BYTES + 1))
        except (SrlibError, OSError) as error:
            refused.append((str(path), str(error)))
        else:
            by_rater.setdefault(content.rater, []).append((str(path), content))
    accepted = []
    for rater in sorted(by_rater):
        files_of_devices = _latest(by_rater[rater], refused)
        whole = [entry for entry in files_of_devices if len(entry[1].votes) == len(survey.groups)]
        for name, answers in files_of_devices:
            if len(answers.votes) < len(survey.groups) and (whole or not unfinished):
                refused.append((name, f"unfinished: {len(answers.votes)} of {len(survey.groups)} versions rated"))
        candidates = whole or (files_of_devices if unfinished else [])
        if len({tuple(answers.votes) for _, answers in candidates}) > 1:
            refused += [(name, _several(rater, [name for name, _ in candidates])) for name, _ in candidates]
            continue
        accepted += candidates[:1]
        refused += [(name, f"the same answers as {candidates[0][0]} (rater {rater})") for name, _ in candidates[1:]]
    return accepted, sorted(refused)


def _latest(entries: Sequence[_Entry], refused: list[tuple[str, str]]) -> list[_Entry]:
    """Return the latest answers of one rater from each device, and add the earlier ones to `refused`.

    Two different ones under one revision number are from two devices, or one was made up: both are returned.
    """
    latest: list[_Entry] = []
    for device in sorted({answers.device or "" for _, answers in entries}):
        revisions = [entry for entry in entries if (entry[1].device or "") == device]
        revisions.sort(key=lambda entry: (-entry[1].revision, entry[0]))
        name, best = revisions[0]
        latest.append(revisions[0])
        for other, answers in revisions[1:]:
            if answers.votes == best.votes:
                refused.append((other, f"the same answers as {name} (rater {answers.rater})"))
            elif answers.revision == best.revision:
                latest.append((other, answers))
            else:
                refused.append((other, f"replaced by the later revision in {name} (rater {answers.rater})"))
    return latest


def _several(rater: str, names: Sequence[str]) -> str:
    """Return the reason why answers do not count that differ between the devices of a rater."""
    return f"rater {rater} answered differently on several devices: keep one of {', '.join(names)}"


def _images(items: Mapping[str, KeyItem]) -> list[tuple[str, str]]:
    return sorted({(item.set, item.image) for item in items.values()})


def _rated(key: SurveyKey) -> list[RatedImage]:
    rated = (RatedImage(one.set, one.image, one.method, one.sha256) for one in key.items.values() if one.sha256)
    return sorted(rated, key=lambda one: (one.set, one.image, one.method))


def _votes(accepted: Sequence[Answers], items: Mapping[str, KeyItem], methods: Sequence[str]) -> Votes:
    images = {name: i for i, name in enumerate(_images(items))}
    votes = np.full((len(accepted), len(images), len(methods)), np.nan)
    for rater, answers in enumerate(accepted):
        for name, value in answers.votes:
            item = items[name]
            votes[rater, images[item.set, item.image], methods.index(item.method)] = value
    return votes


def _opinions(name: str, votes: Votes, methods: Sequence[str]) -> Iterator[Opinion]:
    """Yield the opinion of each method on one set, without methods that nobody rated (in unfinished answers)."""
    means = _resampled_means(votes)
    for m, method in enumerate(methods):
        own = votes[:, :, m]
        scores = own[~np.isnan(own)]
        if not scores.size:
            continue
        raters = own[~np.isnan(own).all(axis=1)]
        low, high = _interval(means[:, m], raters)
        counts = [int((scores == value).sum()) for value in SCORES]
        images = int((~np.isnan(own)).any(axis=0).sum())
        yield Opinion(name, method, round(float(scores.mean()), 6), low, high, counts, len(raters), images)


def _differences(rows: Sequence[Opinion], votes: Votes, methods: Sequence[str]) -> Iterator[Difference]:
    """Yield the difference of each pair of methods, within the same resamples."""
    means = _resampled_means(votes)
    has_voted = np.any(~np.isnan(votes), axis=1)
    for other, row in combinations(rows, 2):
        a, b = methods.index(row.method), methods.index(other.method)
        low, high = _interval(means[:, a] - means[:, b], votes[has_voted[:, [a, b]].all(axis=1)])
        yield Difference(row.method, other.method, round(row.mos - other.mos, 6), low, high)


def _resampled_means(votes: Votes) -> Votes:
    """Return [RESAMPLES, methods]: means over resampled raters and images, NaN where a resample holds no vote."""
    raters, images, methods = votes.shape
    generator = np.random.default_rng(_SEED)
    rater_weights = generator.multinomial(raters, np.full(raters, 1 / raters), RESAMPLES).astype(np.float64)
    image_weights = generator.multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(np.float64)
    means = np.empty((RESAMPLES, methods))
    for m in range(methods):
        is_rated = ~np.isnan(votes[:, :, m])
        total = ((rater_weights @ np.where(is_rated, votes[:, :, m], 0.0)) * image_weights).sum(axis=1)
        count = ((rater_weights @ is_rated.astype(np.float64)) * image_weights).sum(axis=1)
        means[:, m] = np.divide(total, count, out=np.full(RESAMPLES, np.nan), where=count > 0)
    return means


def _interval(means: Votes, votes: Votes) -> tuple[float | None, float | None]:
    if len(votes) < FEWEST:
        return None, None
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return round(float(low), 4), round(float(high), 4)
