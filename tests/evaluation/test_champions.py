"""The scores that decide about champions."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, Metric, Score
from srlib.evaluation.champions import Candidate, candidates, check
from srlib.evaluation.lpips import KEY
from srlib.files import write_json
from srlib.models import ModelConfig
from srlib.params import Champion


def test_a_rule_on_lpips_finds_its_column(tmp_path: Path) -> None:
    config = ModelConfig("edsr", 4, training="gan")
    write_json(tmp_path / "gan/config.json", dataclasses.asdict(config))
    metrics = {**METRICS, KEY: Metric("LPIPS", "", 4, "lower", lambda hr, sr, scale: 0.0)}
    values = {"psnr_y": 28.0, "ssim_y": 0.8, "psnr_rgb": 27.0, "color_error": 0.5, "lr_psnr": 50.0, KEY: 0.25}
    scores = [Score("Set5", name, "SRGAN", values) for name in "ab"]
    rules = {"gan": Champion(set="Set5", metric="lpips")}
    assert candidates(rules, scores, metrics, Path("sets"), {"gan": tmp_path / "gan"}) == [
        Candidate("gan", tmp_path / "gan", 0.25, "lower", Path("sets/Set5"))
    ]


def test_every_metric_can_decide() -> None:
    assert get_args(Champion.model_fields["metric"].annotation) == (*METRICS, "lpips")


def test_a_set_that_does_not_exist() -> None:
    with pytest.raises(SrlibError, match=r"evaluate.champion.gan.set: expected one of Set5, Own, got Set14"):
        check({"gan": Champion(set="Set14", metric="psnr_y")}, ["Set5", "Own"])
