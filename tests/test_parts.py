"""A list of files, divided by name among the jobs of an array."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.cli import app
from srlib.data.downscale import degrade_folder, downscale_folder
from srlib.errors import SrlibError
from srlib.imaging.write import write_png
from srlib.inference import upscaler
from srlib.params.degradation import Degradation
from srlib.parts import Part

NAMES = st.lists(st.text(max_size=20), unique=True, max_size=40)


@given(names=NAMES, added=NAMES, count=st.integers(1, 50))
def test_parts_are_a_partition_that_added_files_do_not_change(names: list[str], added: list[str], count: int) -> None:
    parts = [Part(number, count) for number in range(1, count + 1)]
    divided = [part.of(names) for part in parts]
    assert sorted(name for own in divided for name in own) == sorted(names)
    for part, own in zip(parts, divided, strict=True):
        assert own == [name for name in names if name in own], "the order is kept"
        assert set(part.of([*added, *names])) & set(names) == set(own)


def test_the_division_stays_the_same_in_later_versions() -> None:
    names = ["0001.png", "a/0001.png", "صورة.png", os.fsdecode(b"\xff.png")]
    assert [next(k for k in range(1, 33) if Part(k, 32).of([name])) for name in names] == [11, 16, 17, 30]


def test_parts_are_of_similar_size() -> None:
    names = [f"{number:04}.png" for number in range(3200)]
    sizes = [len(Part(number, 32).of(names)) for number in range(1, 33)]
    assert min(sizes) > 60 and max(sizes) < 140


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "-1/4", "1/4/2", "1.0/4", "٣/4", " 1/4", "a/b"])
def test_a_wrong_part_is_one_line(text: str) -> None:
    with pytest.raises(SrlibError) as error:
        Part.parse(text)
    assert str(error.value).startswith("--part: expected K/N with K from 1 to N, such as 3/32, got " + text)
    assert ("counts from 0" in str(error.value)) == (text == "0/4") and "\n" not in str(error.value)


def test_files_of_parts_sort_in_their_order() -> None:
    assert Part(3, 32).file(Path("out/scores.csv")) == Path("out/scores.part-03-of-32.csv")
    assert str(Part.parse("3/32")) == "3/32"


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with 12 images in `in`."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(12):
        write_png(Path("in", "sub" * (number % 2), f"{number}.png"), rng.integers(0, 256, (12, 16, 3), np.uint8))
    return tmp_path


def test_downscaled_and_degraded_parts_are_the_whole(images: Path) -> None:
    downscale_folder(Path("in"), Path("whole"), 4)
    assert sum(downscale_folder(Path("in"), Path("parts"), 4, part=Part(k, 5)) for k in range(1, 6)) == 12
    assert content(Path("parts")) == content(Path("whole"))
    params = Degradation.model_validate({"clean": 0.0, "passes": [{"blur": {}, "noise": {}}]})
    degrade_folder(Path("in"), Path("random"), 2, params, seed=3)
    for k in range(1, 6):
        degrade_folder(Path("in"), Path("parts-random"), 2, params, seed=3, part=Part(k, 5))
    assert content(Path("parts-random")) == content(Path("random"))


def run(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


@pytest.mark.slow
def test_upscaled_parts_are_the_whole(images: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    opened = upscaler.open_model("psnr-x4", threads=1)
    monkeypatch.setattr(upscaler, "open_model", lambda *arguments, **options: opened)
    run("upscale", "in", "-o", "whole", "--scores", "scores.csv")
    for k in range(1, 6):
        run("upscale", "in", "-o", "parts", "--part", f"{k}/5", "--scores", "scores.csv")
    assert content(Path("parts")) == content(Path("whole"))
    lines = [line for k in range(1, 6) for line in _lines(f"scores.part-{k}-of-5.csv")[1:]]
    assert sorted(map(_agreement, lines)) == sorted(map(_agreement, _lines("scores.csv")[1:])) and len(lines) == 12
    capfd.readouterr()
    first = sorted(content(Path("parts")))[0]
    Path("parts", first).unlink()
    for k in range(1, 6):
        run("upscale", "in", "-o", "parts", "--part", f"{k}/5")  # what exists is not made again
    assert content(Path("parts")) == content(Path("whole"))
    run("upscale", "in/0.png", "-o", "few", "--part", f"{5 if Part(1, 5).of(['0.png']) else 1}/5")
    assert "no file of in/0.png belongs to it" in capfd.readouterr().err


def _agreement(line: str) -> tuple[str, str]:
    """Return the image and its PSNR: the other columns hold the result's folder and the seconds."""
    values = line.split(",")
    return values[0], values[-2]


def _lines(name: str) -> list[str]:
    return Path(name).read_text().splitlines() if Path(name).exists() else [""]


def test_a_part_of_a_single_file_is_refused(images: Path) -> None:
    with pytest.raises(SrlibError, match=r"^--part 1/2: divides the files of a folder, and b.png is a single result"):
        run("upscale", "in/0.png", "-o", "b.png", "--part", "1/2")
    with pytest.raises(SrlibError, match=r"^--part: expected K/N"):
        run("downscale", "in", "lr", "--part", "3/2")
    assert not Path("lr").exists()
