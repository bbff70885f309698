"""Films and images together, through the command."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

from srlib.errors import SrlibError
from srlib.films import upscaling
from srlib.films.batch import run_plan
from srlib.films.options import FilmOptions
from srlib.imaging.array_image import write_image
from srlib.inference import choice
from srlib.inference.batch import Summary
from srlib.inference.choice import AutoModel
from srlib.inference.jobs import plan_jobs
from srlib.inference.output_size import output_size
from srlib.inference.records import Records
from srlib.signals import Stopped

from .conftest import Bicubic, frames, image, make_film


def upscale(inputs: list[str], out: str, records: Records | None = None) -> Summary:
    return run_plan(plan_jobs(inputs, out, films=True), Bicubic, FilmOptions(), records=records)


def test_a_folder_of_films_and_images(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("in/deep").mkdir(parents=True)
    make_film(Path("in/a.mp4"), ticks=(0, 512))
    make_film(Path("in/deep/b.mkv"), ticks=(0, 512), subtitles="subrip")
    write_image(Path("in/c.png"), image(0))
    Path("in/bad.mov").write_text("no film")
    with pytest.raises(SrlibError, match=r"^in/bad.mov: not an MP4"):
        upscale(["in"], "out")
    assert sorted(path.as_posix() for path in Path("out").rglob("*.*")) == ["out/a.mp4", "out/c.png", "out/deep/b.mkv"]
    assert "film 2 of 3: in/bad.mov" in capfd.readouterr().err
    Path("in/bad.mov").unlink()
    assert upscale(["in"], "out") == Summary(0, 3)


def test_scores_and_maps_are_for_images(tmp_path):
    make_film(tmp_path / "a.mp4", ticks=(0,))
    with pytest.raises(SrlibError, match=r"^--scores, --map, --uncertainty and --track are for images"):
        upscale([str(tmp_path / "a.mp4")], str(tmp_path / "b.mp4"), Records(scores=tmp_path / "scores.csv"))


def test_a_damaged_film_is_named_with_its_result(tmp_path):
    film = make_film(tmp_path / "a.mkv", ticks=tuple(512 * n for n in range(24)))
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(SrlibError, match=rf"^{film}: is cut off after .* seconds.*; the rest is in .*b.mkv$"):
        upscale([str(film)], str(tmp_path / "b.mkv"))
    assert (tmp_path / "b.mkv").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), Stopped(signal.SIGINT)])
def test_an_early_end_keeps_the_lines_so_far(tmp_path, monkeypatch, capfd, error):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Path("in/b.mp4").write_text("no film")
    make_film(Path("in/c.mp4"), ticks=(0,))

    def fail(path):
        raise error

    monkeypatch.setattr(upscaling, "file_hash", fail)
    with pytest.raises((SrlibError, Stopped)) as ended:
        upscale(["in"], "out")
    text = capfd.readouterr().err if isinstance(error, Stopped) else str(ended.value)
    lines = [line for line in text.splitlines() if not line.startswith("film ")]
    want = ["in/a.png", "in/b.mp4"] if isinstance(error, Stopped) else ["in/a.png", "in/b.mp4", "out/c.mp4"]
    assert [line.split(": ")[0] for line in lines[-len(want) :]] == want
    assert not getattr(error, "is_reported", False), "no line of its own was printed"


@pytest.mark.slow
def test_the_command_with_the_shipped_network(tmp_path):
    film = make_film(tmp_path / "a.mp4", ticks=(0, 512))
    command = [
        sys.executable,
        "-m",
        "srlib.cli",
        "upscale",
        str(film),
        "-o",
        str(tmp_path / "b.mp4"),
        "--preview",
        "0.03",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((tick, sr),) = frames(tmp_path / "b.mp4")
    assert tick == 0 and sr.shape == (192, 256, 3)
    assert np.abs(sr[::4, ::4].astype(float) - image(0)).mean() < 6


SLOW_RUN = """
import sys, time
from pathlib import Path
from srlib.cli import main
from srlib.films import upscaling
from srlib.imaging.resize import resize
from srlib.inference import upscaler

class Slow:
    scale, name, fingerprint = 4, "bicubic", "bicubic"
    def __call__(self, rgb, *, on_pixels=None):
        time.sleep(0.05)
        return resize(rgb, 4)

upscaling.segment_frames = lambda height, width: 4
upscaler.open_model = lambda *arguments, **options: Slow()
sys.argv = ["srlib", "upscale", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def upscaled_film(tmp_path_factory):
    """A film, and the bytes of the file that an uninterrupted run makes of it."""
    folder = tmp_path_factory.mktemp("whole")
    film = make_film(folder / "a.mp4", ticks=tuple(512 * n for n in range(24)))
    command = [sys.executable, "-c", SLOW_RUN, str(film), "-o", str(folder / "whole.mp4")]
    subprocess.run(command, check=True, capture_output=True)
    return film, (folder / "whole.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, number, upscaled_film):
    film, whole = upscaled_film
    command = [sys.executable, "-c", SLOW_RUN, str(film), "-o"]
    target = tmp_path / "b.mp4"
    process = subprocess.Popen([*command, str(target)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob(".b.mp4.work/*1.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not target.exists()
    if number != signal.SIGKILL:
        assert "of 24 frames are done; run it again to continue" in errors and "Traceback" not in errors
    again = subprocess.run([*command, str(target)], check=True, capture_output=True, text=True)
    assert "starts afresh" not in again.stderr
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]


def test_a_film_gets_one_model(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(choice, "PHOTO_MODEL", "gan-x4")  # shipped in every installation
    monkeypatch.chdir(tmp_path)
    make_film(Path("a.mp4"), ticks=(0, 512))
    opened = []
    models = AutoModel(lambda name: opened.append(name) or Bicubic())
    run_plan(plan_jobs(["a.mp4"], "b.mp4", films=True), lambda: models, FilmOptions())
    assert "a.mp4: bicubic (too small to estimate noise)" in capfd.readouterr().err
    assert Path("b.mp4").is_file()
    run_plan(plan_jobs(["a.mp4"], "c.mp4", films=True), lambda: models, FilmOptions(output_size(scale=2)))
    assert opened == ["free-x4", "psnr-x2"]
    with pytest.raises(SrlibError, match=r"^a\.mp4: .* is more than ×16"):
        run_plan(plan_jobs(["a.mp4"], "d.mp4", films=True), lambda: models, FilmOptions(output_size(width=9999)))
