"""Maps of uncertainty beside the results of `srlib upscale`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from srlib.calibration.uncertainty import draw_map
from srlib.cli import app
from srlib.errors import SrlibError
from srlib.imaging.array_image import write_image
from srlib.imaging.image_file import read_image_file
from srlib.imaging.read import read_image
from srlib.imaging.write import write_png
from srlib.inference import batch
from srlib.inference.bands import BANDS, check_bands
from srlib.inference.image_files import upscale_files
from srlib.inference.output_size import OutputSize, output_size
from srlib.inference.shipped import SHIPPED
from srlib.inference.upscaler import open_model


@pytest.fixture
def images(folder: Path) -> Path:
    """`in/` with a clean PNG and a strongly compressed JPEG."""
    photograph = skimage.data.chelsea()[:112, :128]
    Path("in/deep").mkdir(parents=True)
    write_png(Path("in/clean.png"), photograph)
    Image.fromarray(photograph).save("in/deep/web.jpg", quality=30)
    return folder


def upscale(*arguments: str) -> str:
    """Run `srlib upscale` with success, and return what it prints."""
    done = CliRunner().invoke(app, ["upscale", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    """Run `srlib upscale`, and return the line of its mistake."""
    done = CliRunner().invoke(app, ["upscale", *arguments])
    assert done.exit_code == 1 and isinstance(done.exception, SrlibError), done.output
    return str(done.exception)


def test_a_map_is_the_one_of_the_model_that_auto_took(images: Path) -> None:
    printed = upscale("in", "-o", "out", "--uncertainty", "bands", "--map", "maps", "--tile", "50")
    assert "free-x4" in printed and "photo-x4" in printed and "95 % of the original" not in printed
    names = ["clean.png", "deep/web.jpg.png"]
    for folder in ("bands", "maps"):
        assert sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png")) == names
    draw_map(Path("out/clean.png"), Path("again.png"), "free-x4")
    assert Path("bands/clean.png").read_bytes() == Path("again.png").read_bytes()
    sr = open_model("photo-x4", tile=50)(read_image(Path("in/deep/web.jpg")))
    write_png(Path("sr.png"), sr)
    draw_map(Path("sr.png"), Path("again.png"), "photo-x4", force=True)
    assert Path("bands/deep/web.jpg.png").read_bytes() == Path("again.png").read_bytes()


def test_the_mean_of_a_single_image_is_printed(images: Path) -> None:
    printed = upscale("in/clean.png", "-o", "big.png", "--uncertainty", "bands.png", "--scale", "4")
    assert "95 % of the original's pixels lie within" in printed and "levels of 255 on average" in printed
    shades = read_image_file(Path("bands.png"))
    assert shades.gray and shades.rgb.shape == (448, 512, 3)
    assert upscale_files("in/clean.png", "x4/", uncertainty="bands").done == 1
    assert Path("bands/clean.png").read_bytes() == Path("bands.png").read_bytes()
    assert refused("in/clean.png", "-o", "big2.png", "--uncertainty", "in/clean.png").startswith(
        "--uncertainty in/clean.png: would overwrite in/clean.png"
    )


def test_a_result_that_exists_has_its_map(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stops before a result is written has drawn its map; the next one draws it again."""

    def disk_full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as full, pytest.raises(SrlibError, match="No space left on device"):
        full.setattr(batch, "atomic_path", disk_full)
        upscale_files("in", "out", uncertainty="bands", model="fast-x4")
    assert not list(Path("out").rglob("*.png")) and len(list(Path("bands").rglob("*.png"))) == 1
    assert upscale_files("in", "out", uncertainty="bands", model="fast-x4").done == 2
    assert len(list(Path("bands").rglob("*.png"))) == 2
    printed = upscale("in", "-o", "out", "--uncertainty", "bands")
    assert (
        "out: 2 existed already and were left as they are, so --uncertainty wrote nothing for them; add --force to "
        "make both again" in printed
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fidelity", "0.5"], "--uncertainty: bands were measured for single models as they are; leave out --fid"),
        (["--ensemble"], "--uncertainty: bands were measured for single models as they are; leave out --ensemble"),
        (["--consistent"], "--uncertainty: bands were measured without corrections; leave out --consistent"),
        (
            ["--scale", "2"],
            "--uncertainty: bands hold at the model's own size, ×4; for clean images take --model psnr-x2",
        ),
        (["--gan", "gan-x4"], "--uncertainty: bands were measured for single models as they are; leave out --gan"),
        (["--fit", "99x99"], "--uncertainty: bands hold at the model's own size, ×4; leave out the option for another"),
        (["--model", "mine"], f"--uncertainty: mine/{BANDS}: not there; measure the bands of mine first: srlib unc"),
        (["--map", "bands"], "--uncertainty bands: is the place of --map too; name another one"),
    ],
)
def test_bands_that_do_not_hold_are_refused_before_any_work(images: Path, options: list[str], message: str) -> None:
    shutil.copytree(SHIPPED / "fast-x4", "mine", ignore=shutil.ignore_patterns(BANDS, "keras"))
    assert refused("in", "-o", "out", "--uncertainty", "bands", *options).startswith(message)
    assert not Path("out").exists() and not Path("bands").exists()


def test_an_opened_model_has_no_bands(images: Path) -> None:
    with pytest.raises(SrlibError, match=r"^--uncertainty: bands are kept beside a model's files; give the model by"):
        upscale_files("in", "out", uncertainty="bands", model=open_model("fast-x4"))


def test_the_own_factor_is_the_own_size() -> None:
    check_bands("auto", output_size(scale=4), 4, consistent=False)
    with pytest.raises(SrlibError, match="×3"):
        check_bands("psnr-x4", OutputSize(width=9), 3, consistent=False)


def test_16_bits_have_a_map(folder: Path) -> None:
    photograph = skimage.data.chelsea()[:30, :40].astype(np.uint16) * 257
    write_image("a.tif", photograph)
    upscale_files("a.tif", "b.tif", model="fast-x4", uncertainty="b.png")
    assert read_image_file(Path("b.png")).rgb.shape == (120, 160, 3)
