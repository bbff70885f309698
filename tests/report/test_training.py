"""The training section: unique titles, the most telling charts first, no chart of a constant."""

import re
from pathlib import Path

from srlib.report.training import training_charts


def test_charts_of_a_fine_tuning(tmp_path: Path) -> None:
    loss, validation = tmp_path / "loss.csv", tmp_path / "validation.csv"
    loss.write_text("step,checkerboard,discriminator,loss,learning_rate\n1,0.5,0.7,2,1e-4\n2,0.4,0.6,1,1e-4\n")
    validation.write_text("step,psnr_y,checkerboard,share_pixel,unknown_column\n1,28,0,0.5,3\n2,29,0,0.6,4\n")
    [charts] = training_charts([("finetune", loss), ("finetune", validation)])
    main, more = (re.findall("<figcaption>(.*?)</", "".join(group)) for group in (charts.main, charts.more))
    assert charts.title == "SRGAN fine-tuning"
    assert main == ["Loss of the discriminator", "Loss", "Held-out PSNR-Y (dB)"]
    assert more == ["Checkerboard loss", "Gradient share of the pixel loss", "validation: unknown column"]
    assert charts.constant == ["Held-out checkerboard error = 0"]


def test_a_log_of_one_record_gives_no_charts(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / "validation.csv").write_text("step,psnr_y\n")
    assert training_charts([("pretrain", tmp_path / "loss.csv"), ("pretrain", tmp_path / "validation.csv")]) == []
