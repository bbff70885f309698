"""`srlib score` from the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from srlib.cli import app
from srlib.errors import SrlibError
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
