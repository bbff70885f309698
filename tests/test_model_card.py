"""The model card's figures: benchmarks/model_card.py measures them, and the card shows them as it prints them."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import srlib
from srlib.errors import SrlibError
from srlib.imaging.metrics import psnr_y
from srlib.imaging.resize import downscale, resize
from srlib.imaging.write import write_png

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "model_card.py"
CARD = (ROOT / "srlib/weights/MODEL_CARD.md").read_text(encoding="utf-8")

spec = importlib.util.spec_from_file_location("model_card", SCRIPT)
assert spec and spec.loader
card = importlib.util.module_from_spec(spec)
sys.modules["model_card"] = card  # dataclasses look their module up
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(SCRIPT.parent)  # it uses a neighbor
    spec.loader.exec_module(card)
    periodic_blocks = importlib.import_module("periodic_lines").periodic_blocks


def wave(period: float, amplitude: float) -> np.ndarray:
    """Return vertical lines on gray, RGB [64, 96, 3], rounded."""
    row = 128 + amplitude * np.sin(2 * np.pi * (np.arange(96) + 0.5) / period)
    return np.rint(np.broadcast_to(row[:, np.newaxis], (64, 96, 3))).astype(np.uint8)


@pytest.mark.parametrize("period, share", [(4, 1.0), (8, 0.0), (16, 0.0), (2, 0.0)])
def test_only_lines_of_one_lr_pixel_count(period: float, share: float) -> None:
    lines = wave(period, 10)
    assert periodic_blocks(lines) == periodic_blocks(lines.swapaxes(0, 1)) == share


def test_the_share_is_that_of_the_blocks() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (64, 96, 3))
    image = 128 + noise
    image[:32, 32:64] += 20 * np.sin(np.pi / 2 * np.arange(32) + 0.3)[:, np.newaxis]
    levels = np.rint(image).astype(np.uint8)
    assert periodic_blocks(levels) == pytest.approx(1 / 6)
    assert periodic_blocks(np.pad(levels, ((0, 31), (0, 31), (0, 0)))) == pytest.approx(1 / 6)


def test_an_image_that_is_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(SrlibError, match="expected at least 32×32 pixels, got 40×31"):
        periodic_blocks(np.zeros((31, 40, 3), np.uint8))


@pytest.fixture
def test_sets(tmp_path: Path) -> Path:
    """Return a folder with one set of one image."""
    (tmp_path / "Tiny" / "HR").mkdir(parents=True)
    smooth = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    write_png(tmp_path / "Tiny" / "HR" / "a.png", resize(smooth, (48, 40)))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["model_card.py", *map(str, words)])
    card.main()


@pytest.mark.slow
def test_scores(test_sets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "scores", test_sets, "--models", "fast-x4")
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| Tiny")]
    assert [row[:2] for row in rows] == [
        ["Tiny (1)", "bicubic"],
        ["Tiny (1)", "fast-x4"],
        ["Tiny (1)", "original"],
        ["Tiny", "fast-x4"],
    ]
    hr = srlib.read_image(test_sets / "Tiny" / "HR" / "a.png")
    sr = srlib.upscale(downscale(hr, 4), model=srlib.open_model("fast-x4", precision="float32"))
    assert lines[6] in CARD.splitlines()
    assert rows[1][2] == f"{psnr_y(hr, sr, scale=4):.2f}"
    assert all(len(row) == header.count("|") - 1 for row, header in zip(rows, [*[lines[0]] * 3, lines[6]], strict=True))
    assert all(re.fullmatch("–|[+−][.0-9]+, [+−][.0-9]+", cell) for cell in rows[3][2:4])
    assert re.fullmatch(r"\d+", rows[3][5])


@pytest.mark.slow
def test_strip(test_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "strip.png"
    run(monkeypatch, "strip", test_sets, "Tiny", "a", out, "--models", "fast-x4", "--side", 16)
    assert srlib.read_image(out).shape[1] > 4 * 16
    with pytest.raises(SystemExit, match="error: no set Set5; there are Tiny"):
        run(monkeypatch, "strip", test_sets, "Set5", "a", out)
    with pytest.raises(SystemExit, match="error: Tiny: no image b; there are a"):
        run(monkeypatch, "strip", test_sets, "Tiny", "b", out)


@pytest.mark.parametrize("model", srlib.shipped_models())
def test_the_card_has_the_scores_of_every_model_that_ships(model: str) -> None:
    scale = srlib.open_model(model).scale
    factor = "" if scale == 4 else rf" ×{scale} \|"
    assert all(
        len(re.findall(rf"^\|{factor} {name}[ (0-9)]* \| {model} \|", CARD, re.M)) == 2 for name in ("Set5", "Set14")
    )
