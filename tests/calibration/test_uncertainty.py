"""`srlib uncertainty`: bands kept beside a model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from srlib.calibration.uncertainty import calibrate_model, check_coverage, draw_map
from srlib.cli import app
from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png
from srlib.inference.bands import BANDS, bands_file, load_bands
from srlib.inference.shipped import SHIPPED, shipped_models


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for name in ("astronaut", "chelsea", "coffee"):
        write_png(tmp_path / f"HR/{name}.png", getattr(skimage.data, name)()[:120, :160])
    return tmp_path / "HR"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of one's own: the shipped one without its bands."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "psnr-x4", folder, ignore=shutil.ignore_patterns(BANDS, "keras"))
    return folder


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_have_bands(name: str) -> None:
    bands = load_bands(name)
    assert bands.pixels > 10**6 and set(bands.half_widths) == {0.8, 0.9, 0.95}
    assert 5 < bands.half_widths[0.95][20] < 60


def test_a_model_of_ones_own(model: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="not there; measure the bands"):
        check_coverage(str(model), photographs)
    calibrate_model(str(model), photographs)
    for line in check_coverage(str(model), photographs):
        assert line.images == 3 and line.stated <= line.mean + 0.02 and line.lowest <= line.mean
    for hr in photographs.iterdir():
        write_png(tmp_path / "LR" / hr.name, downscale(read_image(hr), 4))
    with_files = check_coverage(str(model), photographs, tmp_path / "LR")
    assert with_files == check_coverage(str(model), photographs)


def test_each_image_has_the_same_weight(tmp_path: Path) -> None:
    """Of a small image with noise few pixels lie inside, of a large plain one all."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    write_png(tmp_path / "noise.png", noise)
    write_png(tmp_path / "plain.png", np.full((256, 256, 3), 90, np.uint8))
    line = check_coverage("psnr-x4", tmp_path)[-1]
    assert line.lowest < 0.8 and line.mean == pytest.approx((line.lowest + 1) / 2)
    done = CliRunner().invoke(app, ["uncertainty", "check", "psnr-x4", str(tmp_path)])
    assert f"stated 95%: {line.mean:.1%} of an image's pixels as a mean over 2 images, at least" in done.output


def test_a_map_is_bright_where_the_image_is_busy(tmp_path: Path) -> None:
    busy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    write_png(tmp_path / "big.png", np.hstack([np.full_like(busy, 90), busy]))
    done = CliRunner().invoke(app, ["uncertainty", "map", str(tmp_path / "big.png"), "-o", str(tmp_path / "map.png")])
    assert done.exit_code == 0 and "95 % of the original's pixels lie within" in done.output
    shades = read_image(tmp_path / "map.png")
    assert shades.shape == (64, 128, 3)
    assert shades[:, :50].mean() < 20 < 150 < shades[:, 70:].mean()


def test_mistakes_are_one_line(model: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="psnr-x4: comes with its bands"):
        calibrate_model("psnr-x4", photographs)
    with pytest.raises(SrlibError, match=r"coverage: expected 0\.8 or 0\.9 or 0\.95, got 0\.5"):
        draw_map(photographs / "coffee.png", tmp_path / "map.png", "psnr-x4", 0.5)
    (tmp_path / "none").mkdir()
    with pytest.raises(SrlibError, match=r"astronaut\.png: expected one LR image .*, got 0"):
        calibrate_model(str(model), photographs, tmp_path / "none")
    for kind, name in (("HR", "a.png"), ("HR", "a.jpg"), ("LR", "a.png")):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / name).write_bytes((photographs / "coffee.png").read_bytes())
    with pytest.raises(SrlibError, match=r"a\.jpg: another original has the same name but for its ending"):
        calibrate_model(str(model), tmp_path / "HR", tmp_path / "LR")
    with pytest.raises(SrlibError, match="auto: stands for several models"):
        load_bands("auto")
    with pytest.raises(SrlibError, match="models:/a/1: bands are kept beside a model's files"):
        load_bands("models:/a/1")
    negative = json.dumps({"half_widths": {"0.9": [-1] * 37}, "images": 1, "pixels": 1})
    none = json.dumps({"half_widths": {}, "images": 1, "pixels": 1})
    for content in ("{", "[]", '{"half_widths": {"0.9": [1]}, "images": 1, "pixels": 1}', negative, none):
        bands_file(str(model)).write_text(content)
        with pytest.raises(SrlibError, match="damaged"):
            load_bands(str(model))


def test_one_file_does_not_end_the_folder(
    model: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets and dots in names, a damaged file, an image without a whole pixel of LR, LR of another size."""
    image = read_image(photographs / "coffee.png")
    for name in ("a[1].png", "b.x.png", "b.png"):
        write_png(photographs / name, image)
    for hr in photographs.iterdir():
        write_png(tmp_path / "LR" / hr.name, downscale(read_image(hr), 4))
    write_png(tmp_path / "LR/chelsea.png", image)
    for folder in (photographs, tmp_path / "LR"):
        (folder / "z.png").write_text("x")
        write_png(folder / "tiny.png", image[:3, :3])
    bands = calibrate_model(str(model), photographs, tmp_path / "LR")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert bands.images == 5 and len(lines) == 3
    assert "chelsea.png: the result has 640×480 pixels" in lines[0]
    assert "tiny.png: expected at least 4×4 pixels" in lines[1] and "z.png: not an image" in lines[2]
    assert {line.images for line in check_coverage(str(model), photographs)} == {6}


def test_a_map_overwrites_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "link.png").symlink_to(path)
    for name in ("a.png", "link.png"):
        with pytest.raises(SrlibError, match="would overwrite the image"):
            draw_map(path, tmp_path / name, "psnr-x4")
    with pytest.raises(SrlibError, match=r"map\.jpg: expected a name that ends in \.png"):
        draw_map(path, tmp_path / "map.jpg", "psnr-x4")
    write_png(tmp_path / "other.png", np.zeros((9, 9, 3), np.uint8))
    command = ["uncertainty", "map", str(path), "-o", str(tmp_path / "other.png")]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, SrlibError) and "other.png: exists; use --force to overwrite" in str(error)
    assert read_image(tmp_path / "other.png").shape == (9, 9, 3)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert read_image(tmp_path / "other.png").shape == (8, 8, 3)
