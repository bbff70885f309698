"""Training images of which no patches can be cut are found before the first stage."""

import shutil
from pathlib import Path

import pytest

from ..conftest import Lines, noise_images


def test_images_of_ones_own(check_lines: Lines) -> None:
    noise_images(Path("mine"))
    assert check_lines({"prepare.images": "mine"}) == []


def test_without_a_download(check_lines: Lines) -> None:
    expected = "prepare.images: expected a folder of your own with `download.train: none`, got data/raw/train"
    assert check_lines({"download.train": "none"}) == [expected]


def test_a_folder_without_images(check_lines: Lines) -> None:
    Path("mine").mkdir()
    assert check_lines({"prepare.images": "mine"}) == ["prepare.images: mine: no images found (prepare.images)"]


def test_images_smaller_than_a_patch(check_lines: Lines) -> None:
    noise_images(Path("mine"), side=100)
    first, *others = check_lines({"prepare.images": "mine"})
    assert first == "prepare.images: expected at least two images that patches can be cut from, got 0"
    assert others[0] == "prepare.images: mine/0.png: 100×100 pixels; a patch needs 192×192"


def test_a_single_scene(check_lines: Lines) -> None:
    noise_images(Path("mine"), 1)
    shutil.copy("mine/0.png", "mine/same.png")
    (line,) = check_lines({"prepare.images": "mine"})
    assert line.startswith("prepare.images: expected at least two usable images of different scenes")


def test_lr_images_that_are_missing(check_lines: Lines) -> None:
    noise_images(Path("mine/HR"))
    (line,) = check_lines({"prepare.images": "mine", "prepare.lr": "given"})
    assert line.startswith("prepare.images: mine: expected the folder HR with images")
    noise_images(Path("mine/LR"), 2, side=50)
    (line,) = check_lines({"prepare.images": "mine", "prepare.lr": "given"})
    assert line.startswith("prepare.images: mine/HR/2.png: no LR image")


@pytest.mark.parametrize("source", ["mine", "data/raw/train"])
def test_a_warm_up_beyond_the_epochs(source: str, check_lines: Lines) -> None:
    """Three patches, 20 times, in batches of 16 are four steps; the bundled sample has 321 patches."""
    epochs = {"pretrain.steps": None, "pretrain.epochs": 20, "prepare.images": source}
    noise_images(Path("mine"))
    (Path("mine") / "note.png").write_text("no image")
    limit = 4 if source == "mine" else 402
    allowed = {"prepare.unusable": "skip", "pretrain.learning_rate.warmup": limit - 1}
    assert check_lines(epochs | allowed) == []
    assert check_lines(epochs | allowed | {"pretrain.learning_rate.warmup": limit}) == [
        f"pretrain.learning_rate.warmup: expected fewer than the steps of `epochs` (at most {limit}), got {limit}; "
        "lower it, or raise `epochs`"
    ]


def test_patches_larger_than_the_sample(check_lines: Lines) -> None:
    first, *others = check_lines({"prepare.patch": 1000})
    assert first.startswith("prepare.patch: expected at least two images") and len(others) == 6


def test_the_sample_has_no_lr_images(check_lines: Lines) -> None:
    (line,) = check_lines({"prepare.lr": "given"})
    assert line.startswith("prepare.lr: expected make with `download.train: sample`")
