"""Opinion scores beside PSNR and SSIM: only for the images that people saw, and only from a proper file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Method, Score
from srlib.evaluation.opinions import Difference, Opinion, Opinions, RatedImage, current, pixel_hash, read_opinions
from srlib.evaluation.tables import main_table
from srlib.imaging.write import write_png
from srlib.survey.opinions import as_json

METHODS = ("bicubic", "SRGAN", "original")


def image(value: int) -> np.ndarray:
    return np.full((8, 12, 3), value, np.uint8)


@pytest.fixture
def opinions() -> Opinions:
    rows = [Opinion("all", name, 2.0 + i, 1.5 + i, 2.5 + i, [1, 1, 1, 1, 1], 5, 1) for i, name in enumerate(METHODS)]
    rated = [RatedImage("Set5", "a", name, pixel_hash(image(i))) for i, name in enumerate(METHODS)]
    differences = [Difference("SRGAN", "bicubic", 1.0, 0.5, 1.5), Difference("original", "SRGAN", 1.0, 0.5, 1.5)]
    return Opinions("0" * 16, rows, differences, ["one.json"], [("two.json", "unfinished")], rated)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i, name in enumerate(METHODS):
        write_png(tmp_path / f"images/Set5/{name}/a.png", image(i))
    return tmp_path / "images"


def test_what_scoring_writes_is_read_again(opinions: Opinions, tmp_path: Path) -> None:
    assert read_opinions(tmp_path) is None
    (tmp_path / "mos.json").write_text(json.dumps(as_json(opinions)))
    assert read_opinions(tmp_path) == opinions


def test_the_images_that_people_saw(opinions: Opinions, images: Path) -> None:
    assert current(opinions, images) == opinions
    assert current(None, images) is None


def test_a_network_that_was_trained_again_has_no_score(opinions: Opinions, images: Path) -> None:
    write_png(images / "Set5/SRGAN/a.png", image(9))
    fresh = current(opinions, images)
    assert fresh is not None
    assert list(fresh.overall) == ["bicubic", "original"]
    assert fresh.outdated == ["SRGAN"] and fresh.differences == []


def test_images_that_are_missing_or_unknown(opinions: Opinions, images: Path) -> None:
    (images / "Set5/bicubic/a.png").unlink()
    outside = RatedImage("..", "a", "original", pixel_hash(image(2)))
    odd = replace(opinions, rated=[opinions.rated[0], outside])
    fresh = current(odd, images)
    assert fresh is not None and fresh.outdated == ["bicubic", "SRGAN", "original"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Invalid JSON"),
        ("[]", "found"),
        ('{"survey": "0"}', "rows: Field required"),
        (json.dumps({"survey": "0", "rows": [], "differences": [], "counted": [], "refused": [], "rated": []}), "none"),
    ],
)
def test_another_file_is_one_line(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "mos.json").write_text(content)
    with pytest.raises(SrlibError, match=f"evaluate.survey: .*mos.json: expected .*{problem}") as error:
        read_opinions(tmp_path)
    assert "\n" not in str(error.value)


def test_mos_stands_beside_psnr_and_ssim(opinions: Opinions) -> None:
    values = {"psnr_y": 28.0, "ssim_y": 0.8, "psnr_rgb": 27.0, "color_error": 0.5}
    scores = [Score("Set5", "a", name, values) for name in ("nearest", "bicubic", "SRGAN")]
    methods = [Method("nearest"), Method("bicubic"), Method("SRGAN")]
    table = main_table(scores, methods, 4, opinions)
    assert table.header == ["×4", "Set5 (1)", "MOS"]
    assert table.rows == [
        ["nearest", "28.00 / .8000", ""],
        ["bicubic", "28.00 / .8000", "2.00 [1.50, 2.50]"],
        ["SRGAN", "28.00 / .8000", "3.00 [2.50, 3.50]"],
        ["original", "", "4.00 [3.50, 4.50]"],
    ]
    assert main_table(scores, methods, 4).header == ["×4", "Set5 (1)"]
