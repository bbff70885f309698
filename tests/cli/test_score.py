"""`srlib score` from the command line."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from srlib.cli import app
from srlib.errors import SrlibError
from srlib.evaluation.tables import scores_csv
from srlib.imaging.write import write_png


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("sr", "hr"):
        write_png(tmp_path / name / "a.png", np.full((64, 64, 3), 99, np.uint8))
    return tmp_path


def test_scores_to_the_terminal_and_to_csv(images: Path) -> None:
    csv = images / "new" / "scores.csv"
    result = CliRunner().invoke(app, ["score", str(images / "sr"), str(images / "hr"), "--csv", str(csv)])
    assert result.exit_code == 0 and "∞" in result.output
    assert csv.read_text().splitlines()[1].startswith("hr,a,sr,inf,1.0")


def test_a_csv_that_cannot_be_written_is_an_error_at_once(images: Path) -> None:
    (images / "sr" / "a.png").unlink()  # scoring would fail, but is not reached
    for path in ("/", str(images), str(images / "hr" / "a.png" / "x.csv")):
        error = CliRunner().invoke(app, ["score", str(images / "sr"), str(images / "hr"), "--csv", path]).exception
        assert isinstance(error, SrlibError) and str(error).startswith(f"{path}: ") and "folder" in str(error)


def test_only_a_table_of_scores_is_replaced(images: Path) -> None:
    image, empty, upscaling, older = (images / name for name in ("sr/a.png", "empty.csv", "up.csv", "older.csv"))
    empty.touch()
    upscaling.write_text("source,result,width\n")
    older.write_text(scores_csv([]).split("psnr")[0] + "lpips\n")
    before = image.read_bytes(), upscaling.read_bytes()
    for csv in (image, upscaling):
        error = score(images, csv).exception
        assert isinstance(error, SrlibError)
        assert str(error) == f"--csv {csv}: exists and is no table of scores; name another file"
    assert (image.read_bytes(), upscaling.read_bytes()) == before
    for csv in (empty, older, older):
        assert score(images, csv).exit_code == 0
        assert csv.read_text().splitlines()[1].startswith("hr,a,sr,inf,1.0")


def test_folders_may_lie_within_each_other(images: Path) -> None:
    """Originals within the folder of the results; results within that of the originals, and maps within theirs."""
    (images / "hr").rename(images / "sr" / "hr")
    result = CliRunner().invoke(app, ["score", str(images / "sr"), str(images / "sr" / "hr")])
    assert result.exit_code == 0 and "∞" in result.output
    (images / "sr" / "hr").rename(images / "hr")
    (images / "sr").rename(images / "hr" / "sr")
    write_png(images / "hr" / "sr" / "maps" / "a.png", np.zeros((8, 8, 3), np.uint8))
    result = CliRunner().invoke(app, ["score", str(images / "hr" / "sr"), str(images / "hr")])
    assert result.exit_code == 0 and "∞" in result.output and "maps" not in result.output


def score(images: Path, csv: Path) -> Result:
    return CliRunner().invoke(app, ["score", str(images / "sr"), str(images / "hr"), "--csv", str(csv)])
