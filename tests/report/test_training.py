"""The training section: four charts in a fixed order, each with its axes, and none without data."""

import re
from pathlib import Path

import pytest

from srlib.report.training import training_charts

LOGS = {
    "pretrain/loss.csv": "step,loss,learning_rate\n1,0.5,1e-4\n300,0.1,1e-4\n",
    "pretrain/validation.csv": "step,psnr_y,bicubic_psnr_y\n100,28,27.5\n300,30,27.5\n",
    "finetune/loss.csv": "step,perceptual,checkerboard,adversarial,discriminator,score_hr,loss\n"
    "10,4e-3,0.5,0.7,1.4,0.5,2\n80,2e-3,0.4,0.7,1.3,0.5,1\n",
    "finetune/validation.csv": "step,psnr_y,bicubic_psnr_y,share_perceptual,share_checkerboard,share_adversarial\n"
    "0,30,27.5,0.7,0,0.3\n80,29,27.5,0.6,0,0.4\n",
}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name, text in LOGS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return [tmp_path / "pretrain", tmp_path / "finetune"]


def parts(chart: str, pattern: str) -> list[str]:
    return re.findall(pattern, chart)


def test_four_charts(folders: list[Path]) -> None:
    charts = training_charts(folders, "mae")
    assert [parts(chart, "<figcaption>(.*?)</")[0] for chart in charts] == [
        "Pre-training: loss",
        "PSNR-Y of held-out patches",
        "SRGAN: loss terms",
        "SRGAN: gradient shares",
    ]
    assert [parts(chart, 'rotate.-90." [^>]*>(.*?)</')[0] for chart in charts] == [
        "pixel loss (mae)",
        "PSNR-Y (dB)",
        "loss, unweighted",
        "share of the gradient (%)",
    ]
    assert all(len(parts(chart, "<p>.+?[.]</p>")) == 1 for chart in charts), "each has its explanation"


def test_terms_that_are_switched_off_have_no_line(folders: list[Path]) -> None:
    _, _, terms, shares = training_charts(folders)
    assert parts(terms, "</svg>([a-z ]+)</li>") == ["perceptual", "adversarial", "discriminator"]
    assert parts(shares, "</svg>([a-z ]+)</li>") == ["perceptual", "adversarial"]


def test_the_second_stage_begins_where_the_first_ends(folders: list[Path]) -> None:
    psnr = training_charts(folders)[1]
    assert parts(psnr, "</svg>([a-zA-Z -]+)</li>") == ["pre-training", "SRGAN", "bicubic"]
    first, second, bicubic = (line.split() for line in parts(psnr, 'points="(.*?)"'))
    assert first[-1] == second[0], "the SRGAN starts with the pre-trained weights"
    assert bicubic[0].split(",")[1] == bicubic[1].split(",")[1]
    assert (bicubic[0].split(",")[0], bicubic[1].split(",")[0]) == (first[0].split(",")[0], second[-1].split(",")[0])


def test_a_collapse_is_named(folders: list[Path]) -> None:
    assert "collapsed" not in training_charts(folders)[1]
    with (folders[1] / "validation.csv").open("a") as file:
        file.write("120,22.5,27.5,0.6,0,0.4\n")
    note = "Here its last weights, which the model is made of, are 7.5 dB below those of its step 0: it has collapsed."
    assert note in training_charts(folders)[1]


def test_logs_without_a_curve_give_no_chart(folders: list[Path]) -> None:
    (folders[0] / "loss.csv").write_text("step,loss\n1,0.5\n")
    (folders[1] / "validation.csv").write_text("step,psnr_y\n")
    titles = [parts(chart, "<figcaption>(.*?)</")[0] for chart in training_charts(folders)]
    assert titles == ["PSNR-Y of held-out patches", "SRGAN: loss terms"]
    assert training_charts([]) == []
