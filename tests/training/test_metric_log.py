from pathlib import Path

import pytest

from srlib.training.metric_log import MetricLog
from srlib.training.session import Result


def test_values_of_one_step_share_a_record(tmp_path: Path) -> None:
    reports: list[tuple[dict, int]] = []
    log = MetricLog(tmp_path, lambda record, step: reports.append((record, step)))
    log.add_validation(0, {"psnr_y": 20.0})
    log.add_validation(0, {"share_pixel": 0.25})
    log.add_validation(5, {"psnr_y": 21.0})
    log.add_validation(5, {"share_pixel": 0.5})
    assert (tmp_path / "validation.csv").read_text() == "step,psnr_y,share_pixel\n0,20,0.25\n5,21,0.5\n"
    assert log.validation_record(5) == {"step": 5, "psnr_y": 21.0, "share_pixel": 0.5}
    assert reports[:2] == [({"validation_psnr_y": 20.0}, 0), ({"validation_share_pixel": 0.25}, 0)]


def test_numbers_have_seven_significant_digits(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    log.add_loss(100, {"loss": 1 / 3, "learning_rate": 1e-4})
    assert (tmp_path / "loss.csv").read_text() == "step,loss,learning_rate\n100,0.3333333,0.0001\n"


def test_earlier_records_are_reported_again(tmp_path: Path) -> None:
    """A resumed stage has a run of its own, which lacks what the interrupted one reported."""
    first: list[tuple[dict, int]] = []
    log = MetricLog(tmp_path, lambda record, step: first.append((record, step)))
    for step in (1, 2):
        log.add_loss(step, {"loss": 0.5 / step, "learning_rate": 1e-4})
    for step in (0, 2):
        log.add_validation(step, {"psnr_y": 20.0 + step, "ssim_y": 0.5})
    again: list[tuple[dict, int]] = []
    log.report = lambda record, step: again.append((record, step))
    log.report_again()
    assert again == first and len(again) == 4


def test_metrics_are_rounded_and_without_steps_and_rates() -> None:
    loss = {"step": 9, "loss": 0.123456789, "learning_rate": 1e-4, "discriminator_learning_rate": 1e-3}
    result = Result([], loss, {"step": 6, "psnr_y": 27.1234567, "ssim_y": 0.81, "share_pixel": 0.5})
    expected = {"loss": 0.123457, "psnr_y": 27.1235, "ssim_y": 0.81, "share_pixel": 0.5}
    assert result.metrics == pytest.approx(expected, rel=1e-12)
    assert result.headline == pytest.approx({"psnr_y": 27.1235}, rel=1e-12)
