"""From answers to mean opinion scores: what counts, what is refused and why, and the figures against closed forms."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.evaluation.opinions import Opinion, Opinions
from srlib.survey import opinions as survey_opinions
from srlib.survey import score as survey_score
from srlib.survey.answers import read_key, read_page
from srlib.survey.opinions import PUBLISHED
from srlib.survey.page import SurveyOptions, make_page
from srlib.survey.plot import distribution_svg
from srlib.survey.score import score_answers
from srlib.survey.tracking import log_opinions, origin


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    return folder


def scored(made: Any, answers: Path, **options: Any) -> Opinions:
    return score_answers([answers], made.key, answers.parent / "out", **options)


def reasons(opinions: Opinions) -> dict[str, str]:
    return {Path(file).name: reason for file, reason in opinions.refused}


def test_honest_answers_give_back_the_opinion(made: Any, answers: Path) -> None:
    for rater in ("anna", "badr", "carla"):
        (answers / f"{rater}.json").write_bytes(made.answers(rater))
    opinions = scored(made, answers)
    assert not opinions.refused and len(opinions.counted) == 3
    whole = {row.method: row for row in opinions.rows if row.set == "all"}
    assert {m: row.mos for m, row in whole.items()} == {"bicubic": 2, "EDSR": 3, "SRGAN": 4, "original": 5}
    assert all((row.votes, row.raters, row.images) == (9, 3, 3) for row in whole.values())
    assert whole["SRGAN"].counts == [0, 0, 0, 9, 0]
    by_set = {
        name: sum(r.votes for r in opinions.rows if r.set == name and r.method == "EDSR") for name in ("Set5", "Set14")
    }
    assert sum(by_set.values()) == 9 and all(by_set.values())
    assert list(dict.fromkeys(row.set for row in opinions.rows)) == ["all", "Set5", "Set14"]
    differences = {(d.method, d.other): (d.mean, d.low, d.high) for d in opinions.differences}
    assert differences["SRGAN", "EDSR"] == (1, 1, 1) and len(differences) == 6


def test_the_articles_size(made: Any, answers: Path) -> None:
    """67 raters: as many votes per method as raters times images."""
    for number in range(67):
        (answers / f"{number}.json").write_bytes(made.answers(f"rater-{number}", bicubic=1 + number % 2))
    rows = [row for row in scored(made, answers).rows if row.set == "all"]
    assert [row.votes for row in rows] == [67 * 3] * 4
    assert rows[0].mos == pytest.approx((34 * 1 + 33 * 2) / 67, abs=1e-6)


def test_mean_is_over_votes_and_counts_agree(made: Any, answers: Path) -> None:
    for number, value in enumerate([1, 1, 2, 5]):
        (answers / f"{number}.json").write_bytes(made.answers(f"r{number}", SRGAN=value))
    row = next(row for row in scored(made, answers).rows if (row.set, row.method) == ("all", "SRGAN"))
    assert row.mos == 2.25 and row.counts == [6, 3, 0, 0, 3] and row.low <= row.mos <= row.high


@pytest.mark.parametrize("axis", [0, 1])
def test_interval_where_only_raters_or_only_images_differ(axis: int) -> None:
    """There the two-way bootstrap is the plain one over that axis, which SciPy has too."""
    values = np.random.default_rng(5).integers(1, 6, 60).astype(float)
    shape = (60, 7, 1) if axis == 0 else (7, 60, 1)
    votes = np.broadcast_to(values.reshape([-1 if i == axis else 1 for i in range(3)]), shape)
    low, high = survey_score._interval(survey_score._resampled_means(votes)[:, 0], votes)
    other = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, random_state=1)
    assert low == pytest.approx(other.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(other.confidence_interval.high, abs=0.02)


def test_interval_covers_the_truth_with_both_kinds_of_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict raters and hard images: about 95 of 100 intervals hold the true mean; of plain intervals far fewer."""
    monkeypatch.setattr(survey_score, "RESAMPLES", 2000)
    rng = np.random.default_rng(11)
    held = plain = 0
    for _ in range(100):
        effects = rng.normal(0, 0.5, (30, 1)) + rng.normal(0, 0.5, (1, 20)) + rng.normal(0, 0.5, (30, 20))
        votes = (3 + effects)[:, :, None]
        low, high = survey_score._interval(survey_score._resampled_means(votes)[:, 0], votes)
        held += low <= 3 <= high
        plain += abs(votes.mean() - 3) <= 1.96 * votes.std() / np.sqrt(votes.size)
    assert 90 <= held <= 100 and plain < 60


def test_few_raters_get_no_interval(made: Any, answers: Path) -> None:
    for rater in ("anna", "badr"):
        (answers / f"{rater}.json").write_bytes(made.answers(rater))
    opinions = scored(made, answers)
    assert all(row.low is None and row.high is None for row in opinions.rows)
    assert "No interval is given for fewer than 3 raters" in survey_opinions.document(opinions)


def test_few_raters_of_both_methods_get_no_interval(made: Any, answers: Path) -> None:
    """Three raters, two of whom scored one version only: no pair of methods was scored by three."""
    for rater, votes in (("anna", None), ("badr", 1), ("carla", 1)):
        (answers / f"{rater}.json").write_bytes(made.answers(rater, votes=votes))
    differences = scored(made, answers, unfinished=True).differences
    assert len(differences) == 6 and all((one.low, one.high) == (None, None) for one in differences)


def test_same_rater_and_same_file_count_once(made: Any, answers: Path) -> None:
    (answers / "a.json").write_bytes(made.answers("anna"))
    (answers / "b.json").write_bytes(made.answers("anna"))
    (answers / "c.json").write_bytes(made.answers("badr", revision=1))
    (answers / "d.json").write_bytes(made.answers("badr", revision=2, SRGAN=5))
    (answers / "e.json").write_bytes(made.answers("carla", votes=5, revision=1))
    (answers / "f.json").write_bytes(made.answers("carla", revision=2))
    opinions = score_answers([answers, answers / "a.json", answers / "a.json"], made.key, answers.parent / "out")
    assert [Path(file).name for file in opinions.counted] == ["a.json", "d.json", "f.json"]
    assert {name: reason.split(" ")[0] for name, reason in reasons(opinions).items()} == {
        "b.json": "the",
        "c.json": "replaced",
        "e.json": "replaced",
    }
    assert max(row.raters for row in opinions.rows) == 3


def test_two_answers_under_one_number_count_for_nobody(made: Any, answers: Path) -> None:
    (answers / "a.json").write_bytes(made.answers("anna"))
    (answers / "b.json").write_bytes(made.answers("anna", SRGAN=1))
    (answers / "c.json").write_bytes(made.answers("badr"))
    opinions = scored(made, answers)
    assert [Path(file).name for file in opinions.counted] == ["c.json"]
    line = f"rater anna answered differently on several devices: keep one of {answers}/a.json, {answers}/b.json"
    assert reasons(opinions) == {"a.json": line, "b.json": line}


def test_revisions_of_two_devices_are_not_compared(made: Any, answers: Path) -> None:
    one, other = "1" * 16, "2" * 16
    (answers / "a1.json").write_bytes(made.answers("anna", device=one))
    (answers / "a2.json").write_bytes(made.answers("anna", revision=2, device=one, SRGAN=3))
    (answers / "a3.json").write_bytes(made.answers("anna", device=other, SRGAN=1))
    (answers / "b1.json").write_bytes(made.answers("badr", votes=5, revision=2, device=one))
    (answers / "b2.json").write_bytes(made.answers("badr", device=other))
    (answers / "c1.json").write_bytes(made.answers("carla", device=one))
    (answers / "c2.json").write_bytes(made.answers("carla", revision=7, device=other))
    for unfinished in (False, True):
        opinions = scored(made, answers, unfinished=unfinished)
        assert [Path(file).name for file in opinions.counted] == ["b2.json", "c1.json"]
        line = f"rater anna answered differently on several devices: keep one of {answers}/a2.json, {answers}/a3.json"
        assert reasons(opinions) == {
            "a1.json": f"replaced by the later revision in {answers}/a2.json (rater anna)",
            "a2.json": line,
            "a3.json": line,
            "b1.json": "unfinished: 5 of 12 versions rated",
            "c2.json": f"the same answers as {answers}/c1.json (rater carla)",
        }
    (answers / "a3.json").unlink()
    assert str(answers / "a2.json") in scored(made, answers).counted


def test_half_finished_answers_are_named_and_count_on_request(made: Any, answers: Path) -> None:
    (answers / "whole.json").write_bytes(made.answers("anna"))
    (answers / "half.json").write_bytes(made.answers("badr", votes=5))
    opinions = scored(made, answers)
    assert reasons(opinions) == {"half.json": "unfinished: 5 of 12 versions rated"}
    assert "half.json" in (answers.parent / "out" / "mos.md").read_text()
    assert sum(row.votes for row in opinions.rows if row.set == "all") == 12
    counted = scored(made, answers, unfinished=True)
    assert not counted.refused and sum(row.votes for row in counted.rows if row.set == "all") == 17


def test_each_kind_of_forgery_is_named(made: Any, answers: Path, images: Path, tmp_path: Path) -> None:
    (answers / "honest.json").write_bytes(made.answers("anna"))
    honest = json.loads(made.answers("badr"))
    votes = honest["votes"]
    make_page(images, tmp_path / "o.html", tmp_path / "o.json", SurveyOptions(seed=3))
    foreign = type(made)(tmp_path / "o.html", tmp_path / "o.json")
    changed = {
        "vote": {"votes": [[votes[0][0], 1 + votes[0][1] % 5], *votes[1:]]},
        "rater": {"rater": "carla"},
        "cut": {"votes": votes[:6]},
        "item": {"votes": [["f" * 24, 5], *votes[1:]]},
        "twice": {"votes": [votes[0], votes[0], *votes[2:]]},
        "six": {"votes": [[votes[0][0], 6], *votes[1:]]},
        "true": {"votes": [[votes[0][0], True], *votes[1:]]},
        "more": {"extra": 1},
        "seal": {"seal": "0" * 64},
        "device": {"device": "1" * 16},
    }
    for name, change in changed.items():
        (answers / f"{name}.json").write_text(json.dumps(honest | change))
    (answers / "foreign.json").write_bytes(foreign.answers("dina"))
    (answers / "relabelled.json").write_text(
        json.dumps(json.loads(foreign.answers("dina")) | {"survey": honest["survey"]})
    )
    (answers / "text.json").write_text("not JSON")
    (answers / "large.json").write_bytes(b" " * (1 << 20) + b"{}")
    opinions = scored(made, answers)
    assert [Path(file).name for file in opinions.counted] == ["honest.json"]
    expected = {
        "vote": "tampered",
        "rater": "tampered",
        "cut": "tampered",
        "item": "forged",
        "twice": "tampered",
        "six": "votes.0.1",
        "true": "votes.0.1",
        "more": "extra",
        "seal": "tampered",
        "device": "tampered",
        "foreign": "another survey",
        "relabelled": "forged",
        "text": "not the answers of a survey",
        "large": "too many",
    }
    refused = reasons(opinions)
    assert set(refused) == {f"{name}.json" for name in expected}
    for name, word in expected.items():
        assert word in refused[f"{name}.json"], (name, refused[f"{name}.json"])
        assert f"{name}.json" in (answers.parent / "out" / "mos.md").read_text()


def test_sealed_answers_in_another_order_are_refused(made: Any) -> None:
    """Whoever has the sealing key can seal anything, but not make the order right for another rater by renaming."""
    content = json.loads(made.answers("anna"))
    content["votes"] = content["votes"][::-1]
    from srlib.survey.answers import Answers

    content["seal"] = made.survey.seal_of(Answers.model_validate_json(json.dumps(content)))
    with pytest.raises(SrlibError, match="order in which this rater saw them"):
        made.survey.check(json.dumps(content).encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_changed_byte_is_refused(made: Any, data: st.DataObject) -> None:
    content = bytearray(made.answers("anna"))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(33, 126).filter(lambda byte: byte != content[at]))
    with pytest.raises(SrlibError):
        made.survey.check(bytes(content))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_not_empty(made: Any, answers: Path) -> None:
    answers.chmod(0)
    with pytest.raises(PermissionError):
        scored(made, answers)
    answers.chmod(0o700)


def test_nothing_left_names_every_reason(made: Any, answers: Path) -> None:
    with pytest.raises(SrlibError, match="holds no answers"):
        scored(made, answers)
    (answers / "half.json").write_bytes(made.answers("badr", votes=5))
    (answers / "text.json").write_text("{")
    with pytest.raises(SrlibError, match=r"none of 2 files counts\n.*unfinished.*\n.*not the answers"):
        scored(made, answers)
    with pytest.raises(SrlibError, match=r"none\.json: no such file or folder"):
        score_answers([answers / "none.json"], made.key, answers)
    with pytest.raises(SrlibError, match="expected a file of the format"):
        score_answers([answers], made.page, answers)


def test_outputs_are_the_same_bytes_and_other_files_stay(made: Any, answers: Path) -> None:
    for number in range(5):
        (answers / f"{number}.json").write_bytes(made.answers(f"r{number}", EDSR=1 + number % 5))
    out = answers.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    scored(made, answers)
    first = {name: (out / name).read_bytes() for name in survey_score.FILES}
    scored(made, answers)
    assert first == {name: (out / name).read_bytes() for name in survey_score.FILES}
    assert (out / "mine.txt").read_text() == "kept"
    read = json.loads(first["mos.json"])
    assert read["survey"] == made.survey.survey and len(read["rows"]) == 3 * 4


def test_plot_draws_the_shares_and_the_means(made: Any, answers: Path) -> None:
    for number, value in enumerate([1, 1, 1, 5]):
        (answers / f"{number}.json").write_bytes(made.answers(f"r{number}", SRGAN=value))
    opinions = scored(made, answers)
    svg = ElementTree.parse(answers.parent / "out" / "mos.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(r.get("width", "")) for r in svg.iter(f"{space}rect") if r.get("height") == "26"]
    whole = [row for row in opinions.rows if row.set == "all"]
    shares = [count / row.votes for row in opinions.rows for count in row.counts if count]
    np.testing.assert_allclose(np.array(bars) / max(bars), np.array(shares) / max(shares), atol=1e-3)
    dots = [float(c.get("cx", "")) for c in svg.iter(f"{space}circle")]
    slope, start = np.polyfit([row.mos for row in opinions.rows], dots, 1)
    np.testing.assert_allclose(dots, start + slope * np.array([row.mos for row in opinions.rows]), atol=0.06)
    right = float(svg.get("width", ""))
    labels = [t for t in svg.iter(f"{space}text") if re.fullmatch(r"\d\.\d\d", t.text or "")]
    assert len(labels) == 12 and all(float(t.get("x", "")) + 30 < right for t in labels)
    assert slope > 0 and len(dots) == 12 and len(whole) == 4


def test_names_in_the_plot_cannot_become_markup() -> None:
    name = "<b>&\"'"
    svg = distribution_svg([Opinion("<i>", name, 3.0, None, None, [0, 0, 2, 0, 0], 2, 1)])
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert name in texts and "<i>" in texts


def test_published_scores_stand_beside(made: Any, answers: Path) -> None:
    (answers / "a.json").write_bytes(made.answers("anna"))
    text = survey_opinions.document(scored(made, answers))
    assert "26 raters" in text and "| SRGAN | 3.58 | 3.72 |" in text
    assert PUBLISHED["original"]["BSD100"] == 4.46


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(uri)
    client.create_experiment("srlib", (tmp_path / "artifacts").as_posix())
    return client


def test_scores_go_into_the_run_that_made_the_images(
    store: mlflow.MlflowClient, images: Path, tmp_path: Path, made: Any, answers: Path
) -> None:
    experiment = store.get_experiment_by_name("srlib").experiment_id
    runs = {}
    for digest in ("aaa.dir", "bbb.dir"):
        run = store.create_run(experiment, tags={"dvc.out.results/images": digest}).info.run_id
        store.set_terminated(run)
        runs[digest] = run
    outputs = {"evaluate": {"results/images": "aaa.dir", "results/strips": "ccc.dir"}}
    tags = origin(tmp_path / "results" / "images", outputs, tmp_path)
    assert tags == {"dvc.out.results/images": "aaa.dir"} == origin(tmp_path / "results/images/Set5", outputs, tmp_path)
    assert origin(images, outputs, tmp_path) == {} == origin(tmp_path / "results", outputs, tmp_path)
    make_page(images, tmp_path / "p.html", tmp_path / "k.json", origin=tags)
    mine = type(made)(tmp_path / "p.html", tmp_path / "k.json")
    for rater in ("anna", "badr", "carla"):
        (answers / f"{rater}.json").write_bytes(mine.answers(rater))
    out = tmp_path / "out"
    assert log_opinions(store, experiment, score_answers([answers], mine.key, out), out, mine.key) == runs["aaa.dir"]
    run = store.get_run(runs["aaa.dir"])
    assert run.info.status == "FINISHED" and run.data.tags["survey"] == mine.survey.survey
    assert run.data.metrics["mos.all.SRGAN"] == 4 and run.data.metrics["mos.raters"] == 3
    assert run.data.metrics["mos.Set5.original.low"] == 5
    files = store.list_artifacts(runs["aaa.dir"], f"survey/{mine.survey.survey}")
    assert sorted(Path(file.path).name for file in files) == sorted(survey_score.FILES)
    assert not store.get_run(runs["bbb.dir"]).data.metrics


def test_scores_get_their_own_run_where_the_maker_is_unknown(
    store: mlflow.MlflowClient, made: Any, answers: Path
) -> None:
    (answers / "a.json").write_bytes(made.answers("anna"))
    opinions = scored(made, answers)
    experiment = store.get_experiment_by_name("srlib").experiment_id
    run = store.get_run(log_opinions(store, experiment, opinions, answers.parent / "out", made.key))
    assert run.info.run_name == "survey" and run.info.status == "FINISHED"
    assert run.data.metrics["mos.all.bicubic"] == 2 and "mos.all.bicubic.low" not in run.data.metrics


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        for read in (read_key, read_page):
            with pytest.raises(SrlibError, match="expected a regular file"):
                read(path)
