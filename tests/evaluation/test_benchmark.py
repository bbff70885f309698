"""Test sets in folders, the scoring loop, methods from folders, and errors where something does not fit."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio

from srlib.errors import SrlibError
from srlib.evaluation import benchmark
from srlib.evaluation.benchmark import (
    METRICS,
    Method,
    Timing,
    check_method_names,
    evaluate,
    interpolation,
    score_folder,
)
from srlib.evaluation.sets import BenchmarkImage, featured, find_sets, image_key
from srlib.imaging.consistency import make_consistent
from srlib.imaging.metrics import psnr_y
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import write_png


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two sets: one with HR alone, of sizes that 4 does not divide; one with its own LR."""
    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee")}
    write_png(tmp_path / "sets/Own/a.png", whole["astronaut"][:98, :75])
    write_png(tmp_path / "sets/Own/b.png", whole["chelsea"][:64, :80])
    hr = whole["coffee"][:80, :64]
    write_png(tmp_path / "sets/Set5/HR/0801.png", hr)
    write_png(tmp_path / "sets/Set5/LR/0801x4.png", downscale(hr, 4, edges="mirror"))
    return tmp_path / "sets"


def test_sets_in_the_published_order(sets: Path) -> None:
    index = find_sets(sets, 4)
    assert {name: [p.name for p in images] for name, images in index.items()} == {
        "Set5": ["0801"],
        "Own": ["a", "b"],
    }
    assert list(index) == ["Set5", "Own"]
    assert index["Set5"][0].lr == sets / "Set5/LR/0801x4.png"


def test_scores_of_every_method_on_every_image(sets: Path) -> None:
    methods = [interpolation("nearest"), interpolation("bicubic")]
    results = list(evaluate(find_sets(sets, 4), methods, 4))
    assert [(s.set, s.image, s.method) for r in results for s in r.scores] == [
        (test_set, name, method)
        for test_set, name in (("Set5", "0801"), ("Own", "a"), ("Own", "b"))
        for method in ("nearest", "bicubic")
    ]
    own = results[1]
    assert own.hr.shape == (96, 72, 3)
    np.testing.assert_array_equal(own.hr, read_image(sets / "Own/a.png")[:96, :72])
    np.testing.assert_array_equal(own.lr, downscale(own.hr, 4))
    assert own.scores[1].values["psnr_y"] == psnr_y(own.hr, resize(own.lr, 4), scale=4)
    rgb = peak_signal_noise_ratio(own.hr[10:-10, 10:-10], own.sr["bicubic"][10:-10, 10:-10])
    assert own.scores[1].values["psnr_rgb"] == pytest.approx(rgb)
    assert set(own.seconds) == {"nearest", "bicubic"}


def test_a_given_lr_is_used(sets: Path) -> None:
    result = next(evaluate(find_sets(sets, 4), [interpolation("bicubic")], 4))
    np.testing.assert_array_equal(result.lr, read_image(sets / "Set5/LR/0801x4.png"))


def test_one_image_in_memory_at_a_time(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(benchmark, "read_image", lambda path: read.append(path.name) or read_image(path))
    results = evaluate({"Own": find_sets(sets, 4)["Own"]}, [interpolation("bicubic")], 4)
    assert read == []
    next(results)
    assert read == ["a.png"]
    next(results)
    assert read == ["a.png", "b.png"]


def test_the_seconds_are_those_of_the_method_after_a_warm_up(sets: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def upscale(lr: np.ndarray, scale: int) -> np.ndarray:
        seen.append(lr.shape)
        return resize(lr, scale)

    timing = Timing()
    for result in evaluate({"Own": find_sets(sets, 4)["Own"]}, [Method("mine", upscale)], 4):
        timing.add(result)
    assert seen == [(24, 18, 3), (24, 18, 3), (16, 20, 3)]  # the first image twice
    figures = timing.metrics()
    assert set(figures) == {"seconds/mine", "megapixels_per_second/mine"}
    assert figures["megapixels_per_second/mine"] == pytest.approx((96 * 72 + 64 * 80) / 1e6 / figures["seconds/mine"])


def test_a_method_of_a_wrong_scale_is_named(sets: Path) -> None:
    with pytest.raises(
        SrlibError, match=r"Set5/0801: wrong returned 32×40 pixels, expected 64×80 \(4 times the LR image's 16×20\)"
    ):
        next(evaluate(find_sets(sets, 4), [Method("wrong", lambda lr, scale: resize(lr, 2))], 4))


@pytest.mark.parametrize("names", [("bicubic", "bicubic"), ("original",)])
def test_a_taken_name_is_named(sets: Path, names: tuple[str, ...]) -> None:
    methods = [Method(name, lambda lr, scale: resize(lr, scale)) for name in names]
    with pytest.raises(SrlibError, match="already in use"):
        next(evaluate(find_sets(sets, 4), methods, 4))


def test_finished_images_as_a_method(sets: Path, tmp_path: Path) -> None:
    for test_set, name in (("Set5", "0801x4"), ("Own", "a"), ("Own", "b")):
        hr = read_image(sets / "Set5/HR/0801.png" if test_set == "Set5" else sets / f"Own/{name}.png")
        write_png(tmp_path / f"theirs/{test_set}/{name}.png", crop_to_multiple(hr, 4))
    results = list(evaluate(find_sets(sets, 4), [Method("theirs", folder=tmp_path / "theirs")], 4))
    assert [r.scores[0].values["psnr_y"] for r in results] == [float("inf")] * 3
    assert results[0].seconds == {}


def test_finished_images_that_do_not_fit_are_all_named_first(sets: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "theirs/Set5/0801.png", np.zeros((20, 20, 3), np.uint8))
    write_png(tmp_path / "theirs/Own/b.png", np.zeros((64, 80, 3), np.uint8))
    called = []
    first = Method("first", lambda lr, scale: called.append(1) or resize(lr, scale))
    with pytest.raises(SrlibError) as error:
        next(evaluate(find_sets(sets, 4), [first, Method("theirs", folder=tmp_path / "theirs")], 4))
    assert "0801.png: 20×20 pixels, expected 64×80 as its HR image" in str(error.value)
    assert "no image for Own/a; expected a.png" in str(error.value)
    assert not called


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: write_png(s / "Own/tiny.png", np.zeros((20, 90, 3), np.uint8)), r"tiny.png: expected at least"),
        (lambda s: (s / "Set5/LR/0801x4.png").rename(s / "Set5/LR/0802x4.png"), "no LR image for 0801.png"),
        (lambda s: write_png(s / "Set5/LR/0801x4.png", np.zeros((20, 17, 3), np.uint8)), "expected 16×20 .*got 17×20"),
        (
            lambda s: write_png(s / "Own/ax4.png", np.zeros((80, 80, 3), np.uint8)),
            "a.png and ax4.png are versions of a",
        ),
        (lambda s: (s / "Empty").mkdir(), "Empty: expected images, found none"),
    ],
)
def test_a_set_that_does_not_fit_is_named(sets: Path, spoil: object, message: str) -> None:
    spoil(sets)  # type: ignore[operator]
    with pytest.raises(SrlibError, match=message):
        find_sets(sets, 4)


def test_no_sets_at_all(tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="one folder per test set"):
        find_sets(tmp_path, 4)
    with pytest.raises(SrlibError, match="no such folder"):
        find_sets(tmp_path / "none", 4)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (b"caf\xe9.png", "expected a name in UTF-8"),
        ("two\nlines.png", "without line breaks"),
        ("tab\t.png", "without line breaks"),
        ("n" * 250 + ".png", "at most 251 bytes, got 254"),
        ("é" * 125 + ".png", "at most 251 bytes, got 254"),
    ],
)
def test_image_names_that_outputs_cannot_have(tmp_path: Path, name: str | bytes, problem: str) -> None:
    write_png(tmp_path / "sets/Own/a.png", skimage.data.chelsea()[:64, :64])
    (tmp_path / "sets/Own/a.png").rename(tmp_path / "sets/Own" / os.fsdecode(name))
    with pytest.raises(SrlibError, match=problem) as error:
        find_sets(tmp_path / "sets", 4)
    assert "\n" not in str(error.value) and str(error.value).encode()


@pytest.mark.parametrize("name", ["größe ×2.png", "at 10.15.30\u202fAM.png", "n" * 247 + ".png"])
def test_unusual_names_that_are_fine(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / "sets/Own/a.png", skimage.data.chelsea()[:64, :64])
    (tmp_path / "sets/Own/a.png").rename(tmp_path / "sets/Own" / name)
    assert find_sets(tmp_path / "sets", 4)["Own"][0].name == Path(name).stem


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "a/b", "a\\b", ".a", "caf\udce9", "n" * 256])
def test_method_names_that_cannot_name_a_folder(name: str) -> None:
    with pytest.raises(SrlibError, match="cannot name the folder of its images: expected") as error:
        check_method_names([name])
    assert "\n" not in str(error.value) and "\0" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("baby.png", "baby"),
        ("0801x4.png", "0801"),
        ("baby_x4.png", "baby"),
        ("img_001_SRF_4_HR.png", "img_001"),
        ("img_001_SRF_4_LR.png", "img_001"),
        ("img_001_SRF_2_HR.png", "img_001_SRF_2"),
        ("0801x2.png", "0801x2"),
        ("x4.png", "x4"),
    ],
)
def test_names_that_belong_together(name: str, key: str) -> None:
    assert image_key(Path(name), 4) == key


def test_images_to_show() -> None:
    sets = {
        name: [BenchmarkImage(name, image, Path(image)) for image in images]
        for name, images in {"Set5": "abc", "Set14": ["d", "e", "zebra"], "Own": "f"}.items()
    }
    assert featured(sets, 4) == {("Set14", "zebra"), ("Set5", "a"), ("Set14", "d"), ("Own", "f")}
    assert featured(sets, 0) == set()
    assert len(featured(sets, 99)) == 7


class TestScoringFolders:
    def test_scores_images_of_any_origin(self, sets: Path, tmp_path: Path) -> None:
        for name in "ab":
            hr = crop_to_multiple(read_image(sets / f"Own/{name}.png"), 4)
            write_png(tmp_path / f"sr/{name}x4.png", resize(downscale(hr, 4), 4))
        scores = [score for result in score_folder(tmp_path / "sr", sets / "Own", 4) for score in result.scores]
        direct = [
            result.scores[0].values
            for result in evaluate({"Own": find_sets(sets, 4)["Own"]}, [interpolation("bicubic")], 4)
        ]
        assert [score.values for score in scores] == direct
        assert set(direct[0]) == set(METRICS)

    def test_everything_that_does_not_match_is_named(self, sets: Path, tmp_path: Path) -> None:
        write_png(tmp_path / "sr/a.png", np.zeros((90, 72, 3), np.uint8))
        write_png(tmp_path / "sr/c.png", np.zeros((90, 72, 3), np.uint8))
        with pytest.raises(SrlibError) as error:
            next(score_folder(tmp_path / "sr", sets / "Own", 4))
        lines = str(error.value).splitlines()
        assert len(lines) == 3
        assert any("a.png: 72×90 pixels, expected 72×96" in line for line in lines)
        assert any("no image for" in line and "b.png" in line for line in lines)
        assert any("no original for" in line and "c.png" in line for line in lines)

    def test_images_in_subfolders(self, tmp_path: Path) -> None:
        """One of them is named as the set, and two have one name in different folders."""
        for number, name in enumerate(("a.png", "hr/a.png", f"{'x' * 200}/{'y' * 200}/b.png")):
            image = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
            write_png(tmp_path / "hr" / name, image)
            write_png(tmp_path / "sr" / name, image // 2 if "/" in name else image)
        scores = [score for result in score_folder(tmp_path / "sr", tmp_path / "hr", 4) for score in result.scores]
        assert [(one.image[:4], np.isinf(one.values["psnr_y"])) for one in scores] == [
            ("a", True),
            ("hr/a", False),
            ("xxxx", False),
        ]
        (tmp_path / "sr/hr/a.png").unlink()
        with pytest.raises(SrlibError) as error:
            next(score_folder(tmp_path / "sr", tmp_path / "hr", 4))
        assert str(error.value) == f"{tmp_path}/sr: no image for {tmp_path}/hr/hr/a.png"

    def test_too_small_images_are_named(self, tmp_path: Path) -> None:
        write_png(tmp_path / "hr/a.png", np.zeros((16, 16, 3), np.uint8))
        with pytest.raises(SrlibError, match="at least 21×21"):
            next(score_folder(tmp_path / "hr", tmp_path / "hr", 4))

    @pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png"])
    def test_names_that_tables_cannot_have(self, tmp_path: Path, name: bytes) -> None:
        write_png(tmp_path / "hr/a.png", np.zeros((64, 64, 3), np.uint8))
        (tmp_path / "hr/a.png").rename(tmp_path / "hr" / os.fsdecode(name))
        with pytest.raises(SrlibError, match="expected a name") as error:
            next(score_folder(tmp_path / "hr", tmp_path / "hr", 4))
        assert "\n" not in str(error.value) and str(error.value).encode()

    def test_a_folder_with_an_impossible_name(self, tmp_path: Path) -> None:
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        write_png(folder / "a.png", np.zeros((64, 64, 3), np.uint8))
        score = next(score_folder(folder, folder, 4)).scores[0]
        assert (score.set, score.method) == ("HR", "SR")


def test_lr_psnr_compares_with_the_downscaled_original() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    compute = METRICS["lr_psnr"].compute
    assert compute(hr, hr, 4) == float("inf")
    smooth = resize(downscale(hr, 4), 4)
    assert 20 < compute(hr, smooth, 4) < compute(hr, make_consistent(downscale(hr, 4), smooth), 4)
