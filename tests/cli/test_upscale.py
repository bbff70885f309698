"""Options of `srlib upscale`; what it does with files is tested in tests/inference."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srlib.cli import app, main
from srlib.errors import SrlibError
from srlib.films import batch
from srlib.inference import choice
from srlib.inference.shipped import SHIPPED
from srlib.signals import Stopped, report_stop


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    Image.fromarray(noise).save("a.png")
    return "a.png"


def run(*arguments: str) -> None:
    CliRunner().invoke(app, ["upscale", *arguments, "--force"], catch_exceptions=False, standalone_mode=False)


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_gan_names_the_counterpart_of_ones_own_model(image: str) -> None:
    psnr, gan = (str(SHIPPED / name) for name in ("free-x4", "gan-x4"))
    run(image, "-o", "own.png", "--model", psnr, "--gan", gan, "--fidelity", "0.3")
    run(image, "-o", "shipped.png", "--fidelity", "0.3")
    np.testing.assert_array_equal(pixels("own.png"), pixels("shipped.png"))
    run(image, "-o", "whole.png", "--model", psnr)
    assert (pixels("own.png") != pixels("whole.png")).any()


def test_fidelity_blends_the_pair_that_fits_the_image(image: str) -> None:
    smooth = np.linspace(60, 190, 128 * 128).reshape(128, 128, 1).repeat(3, axis=2)
    noisy = smooth + np.random.default_rng(0).normal(0, 9, smooth.shape)
    for name, content, model in (("clean.png", smooth, "gan-x4"), ("noisy.png", noisy, "photo-gan-x4")):
        Image.fromarray(content.clip(0, 255).astype(np.uint8)).save(name)
        run(name, "-o", "auto.png", "--fidelity", "0")
        run(name, "-o", "named.png", "--model", model)
        np.testing.assert_array_equal(pixels("auto.png"), pixels("named.png"))


def test_gan_without_fidelity_says_what_to_add(image: str) -> None:
    with pytest.raises(SrlibError, match=r"gan: gan-x4 is blended in by `fidelity` \(--fidelity\), which is missing"):
        run(image, "-o", "b.png", "--gan", "gan-x4")


def test_fidelity_of_ones_own_model_asks_for_gan(image: str) -> None:
    with pytest.raises(SrlibError, match=r"fidelity needs two models: name the one with GAN weights too \(--gan\)"):
        run(image, "-o", "b.png", "--model", str(SHIPPED / "psnr-x4"), "--fidelity", "0.3")


def test_existing_results_are_counted_beside_mistakes(image: str) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(Path(image).read_bytes())
    Path("in/bad.png").write_text("text")
    for existing in (0, 1):
        done = CliRunner().invoke(app, ["upscale", "in", "-o", "out"])
        assert "in/bad.png: not an image" in str(done.exception)
        assert ("out: 1 existed already and was left as it is" in done.output) == existing


@pytest.mark.parametrize("tile", ["big", "0", "-1", "²", "1.5", "9" * 20])
def test_tile_is_auto_or_a_number(image: str, tile: str) -> None:
    with pytest.raises(SrlibError, match=f"--tile: expected auto or a number of pixels, got {tile}"):
        run(image, "-o", "b.png", "--tile", tile)


def test_each_mistake_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["srlib", "upscale", "no.png", "nor.png", "-o", "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: no.png: no such file or folder", "error: nor.png: no such file or folder"]


class TestStop:
    """A stop has exactly one line, whoever prints it."""

    @pytest.fixture
    def stopped_lines(self, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        def run() -> list[str]:
            monkeypatch.setattr("sys.argv", ["srlib", "upscale", image, "-o", "b.png"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 128 + signal.SIGTERM
            return capsys.readouterr().err.splitlines()

        return run

    @pytest.mark.parametrize(("is_reported", "line"), [(True, "stopped: so far"), (False, "error: stopped by SIGTERM")])
    def test_of_the_work(self, stopped_lines, monkeypatch, is_reported, line):
        def stop(*arguments: object, **options: object) -> None:
            error = Stopped(signal.SIGTERM)
            if is_reported:
                report_stop(error, "stopped: so far")
            raise error

        monkeypatch.setattr(batch, "run_plan", stop)
        assert stopped_lines() == [line]

    def test_while_the_model_is_opened(self, stopped_lines, monkeypatch):
        def stop(*arguments: object, **options: object) -> None:
            raise Stopped(signal.SIGTERM)

        monkeypatch.setattr(choice, "open_any", stop)
        assert stopped_lines() == ["stopped: 0 images are done, 1 are not"]
