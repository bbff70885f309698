"""The section that fits a folder, and the command that prints it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from srlib.cli import app
from srlib.data import fit_degradation
from srlib.data.degradation import degrade_image, keyed_generator
from srlib.data.fit_degradation import estimate_folder, fitted_degradation, section_text
from srlib.errors import SrlibError
from srlib.imaging.estimation import Traces
from srlib.imaging.input_range import SHARP
from srlib.params.degradation import Degradation

CLEAN = Traces(0.5, 0.9, SHARP)


def test_ranges_go_from_the_10th_to_the_90th_percentile():
    traces = [Traces(float(noise), 0.0, float(np.hypot(SHARP, 0.5)), 50 + noise) for noise in range(10, 21)]
    one = fitted_degradation(traces, 4).passes[0]
    assert one.noise.sigma == [11.0, 19.0] and one.noise.gray == 0 and one.noise.probability == 1
    assert one.blur.sigma == [2.0, 2.0], "half an LR pixel is two HR pixels"
    assert one.compression.quality == [61, 69]
    assert one.resize.methods == ["antialiased"]


def test_shares_count_the_images_that_show_a_trace():
    traces = [CLEAN, CLEAN, Traces(9.0, 1.0, SHARP), Traces(0.5, 1.0, None, 80, False)]
    section = fitted_degradation(traces, 4)
    one = section.passes[0]
    assert section.clean == 0.5 and one.blur is None
    assert (one.noise.probability, one.noise.gray) == (0.5, 1.0)
    assert (one.compression.probability, one.compression.full_chroma) == (0.5, 0.0)
    assert fitted_degradation([CLEAN], 4).clean == 1


def test_images_that_hide_their_noise_do_not_count():
    noisy, hidden = Traces(8.0, 1.0, SHARP, 85), Traces(0.5, 1.0, SHARP, 85, hides_noise=True)
    one = fitted_degradation([noisy, hidden, hidden, hidden], 4).passes[0]
    assert one.noise.probability == 1
    one = fitted_degradation([noisy, hidden, hidden, Traces(0.5, 1.0, SHARP, 85)], 4).passes[0]
    assert one.noise.probability == 0.5
    assert fitted_degradation([hidden], 4).passes[0].noise is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_colors_that_cannot_be_seen_follow_the_other_images(share):
    """A JPEG with averaged chroma shows luma's noise; the kind of noise is that of the folder."""
    known, unknown = (Traces(6.0, gray, SHARP, 85, full_chroma=False) for gray in (share, None))
    one = fitted_degradation([known, known, unknown], 4).passes[0]
    assert one.noise.gray == share and one.noise.sigma == [6.0 if share else 9.0] * 2
    one = fitted_degradation([unknown], 4).passes[0]
    assert one.noise.gray == 1 and one.noise.sigma == [6.0, 6.0]


def test_few_images_with_gray_noise_decide_for_all():
    gray, colored = (Traces(6.0, gray, SHARP, 85, full_chroma=False) for gray in (1.0, 0.0))
    assert fitted_degradation([gray, colored], 4).passes[0].noise.sigma == [6.0, 6.0]
    assert fitted_degradation([gray, *[colored] * 9], 4).passes[0].noise.sigma == [9.0, 9.0]


def test_the_text_is_the_section():
    for traces in ([CLEAN], [Traces(9.0, 1.0, 1.2, 40)], [Traces(200.0, 0.0, 30.0, 1)]):
        section = fitted_degradation(traces, 4)
        assert Degradation.model_validate(yaml.safe_load(section_text(section))["degradation"]) == section


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hr", "own"):
        Path(name).mkdir()
    for name in ("astronaut", "coffee", "cat"):
        hr = getattr(data, name)()
        Image.fromarray(hr).save(f"hr/{name}.png")
        section = Degradation.model_validate(
            {
                "clean": 0,
                "passes": [
                    {"noise": {"sigma": [10, 10], "poisson": 0, "gray": 0}, "resize": {"methods": ["antialiased"]}}
                ],
            }
        )
        lr = degrade_image(hr, 2, section, keyed_generator(name))
        Image.fromarray(lr).save(f"own/{name}.jpg", quality=95, subsampling=0)
    Path("own/broken.png").write_bytes(b"no image")


def test_command_prints_a_section_and_draws_a_sheet(folders):
    result = CliRunner().invoke(
        app,
        ["degradation", "estimate", "own", "--scale", "2", "--hr", "hr", "--sheet", "sheet.png"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    section = Degradation.model_validate(yaml.safe_load(result.stdout)["prepare"]["degradation"])
    one = section.passes[0]
    assert one.compression.quality == [95, 95] and one.compression.full_chroma == 1
    assert 7 < one.noise.sigma[0] <= one.noise.sigma[1] < 12
    assert "left out: own/broken.png: " in result.stderr and "own: 3 images" in result.stderr
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 2 * (2 * 128 + 8) + 8


def test_a_wrong_folder_for_the_sheet_is_named_before_the_work(folders, monkeypatch):
    monkeypatch.setattr(fit_degradation, "estimate_folder", lambda folder: 1 / 0)
    result = CliRunner().invoke(app, ["degradation", "estimate", "own", "--hr", "no", "--sheet", "sheet.png"])
    assert result.exit_code == 1 and str(result.exception).startswith("no: no such folder")


def test_a_sheet_replaces_no_image(folders):
    Path("photo.png").write_bytes(Path("hr/cat.png").read_bytes())
    for sheet, force, message in [
        ("photo.png", [], "photo.png: exists; use --force to overwrite"),
        ("sheet.jpg", [], "sheet.jpg: expected a name that ends in .png"),
        (
            "hr/cat.png",
            ["--force"],
            "hr/cat.png: expected a file outside hr, or the next run would read it as an image",
        ),
        ("own/new.png", [], "own/new.png: expected a file outside own, or the next run would read it as an image"),
    ]:
        command = ["degradation", "estimate", "own", "--hr", "hr", "--sheet", sheet, *force]
        error = CliRunner().invoke(app, command).exception
        assert isinstance(error, SrlibError) and str(error) == message
    assert Path("photo.png").read_bytes() == Path("hr/cat.png").read_bytes()
    command = ["degradation", "estimate", "own", "--hr", "hr", "--sheet", "photo.png", "--force"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert Path("photo.png").read_bytes() != Path("hr/cat.png").read_bytes()


@pytest.mark.parametrize(("quality", "sigma"), [(88, 0), (88, 14), (96, 0)])
def test_noise_that_compression_hides_is_named(folders, quality, sigma):
    noise = np.random.default_rng(1).normal(0, sigma, (256, 256, 3)) if sigma else 0
    image = np.clip(np.rint(data.astronaut()[:256, :256] + noise), 0, 255).astype(np.uint8)
    Path("few").mkdir()
    Image.fromarray(image).save("few/a.jpg", quality=quality)
    result = CliRunner().invoke(app, ["degradation", "estimate", "few"], catch_exceptions=False)
    line = "the JPEG compression hides noise below 3.0 levels: "
    assert (line in result.stderr) == (quality < 93)
    if quality < 93:
        end = "noise.sigma counts stronger noise only" if sigma else "there may be some, though none is estimated"
        assert line + end in result.stderr


def test_a_folder_without_usable_images_is_refused(folders):
    Path("small").mkdir()
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save("small/a.png")
    with pytest.raises(SrlibError, match=r"^small: expected images of at least 96 pixels per side, got none"):
        estimate_folder(Path("small"))
