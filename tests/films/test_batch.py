"""Films and images together, through the command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

from srlib.errors import SrlibError
from srlib.films.batch import run_plan
from srlib.films.upscaling import FilmOptions
from srlib.imaging.array_image import write_image
from srlib.inference.batch import Summary
from srlib.inference.jobs import plan_jobs
from srlib.inference.records import Records

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
    with pytest.raises(SrlibError, match=r"^--scores and --map are for images"):
        upscale([str(tmp_path / "a.mp4")], str(tmp_path / "b.mp4"), Records(scores=tmp_path / "scores.csv"))


def test_a_damaged_film_is_named_with_its_result(tmp_path):
    film = make_film(tmp_path / "a.mkv", ticks=tuple(512 * n for n in range(24)))
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(SrlibError, match=rf"^{film}: is cut off after .* seconds.*; the rest is in .*b.mkv$"):
        upscale([str(film)], str(tmp_path / "b.mkv"))
    assert (tmp_path / "b.mkv").exists()


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
