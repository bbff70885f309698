"""Standard streams that are closed, full, or that nobody reads; places where nothing can be written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("sr", "hr"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(
            tmp_path / name / "a.png"
        )
    return tmp_path


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of sh; `$S` is the command."""
    environment = {**os.environ, "S": f"{sys.executable} -m srlib.cli", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "$S upscale - -o big.png <&-",
            "standard input: truncated or damaged (no bytes)",
        ),
        ("$S score sr hr >&-", "standard output: Bad file descriptor"),
        ("$S upscale hr/a.png -o - >&-", "standard output: Bad file descriptor"),
        ("mkdir s; $S degradation estimate hr --hr hr --sheet s", "s: is a folder; expected the name of a file to"),
        ("mkdir gone; cd gone; rmdir ../gone; $S score ../sr ../hr --csv a", "the working folder does not exist any"),
        pytest.param(
            "$S upscale hr/a.png -o - > /dev/full",
            "standard output: No space left on device; make space and run it again",
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here"),
        ),
        pytest.param(
            "$S score sr hr > /dev/full",
            "standard output: No space left on device",
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here"),
        ),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_used_is_one_line(
    command: str, message: str, folder: Path, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether Python writes each line at once, as with PYTHONUNBUFFERED, or all at the end."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell(command, folder)
    *_, line = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {message}") and "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("messages", ["2> /dev/full", "2>&1 >/dev/null | true"])
def test_messages_that_cannot_be_written_do_not_stop_the_work(messages: str, folder: Path) -> None:
    assert shell(f"($S downscale hr lr; echo $? > status) {messages}", folder).stderr == ""
    assert (folder / "status").read_text() == "0\n" and (folder / "lr/a.png").is_file()
    assert shell("$S downscale gone lr 2> /dev/full", folder).returncode == 1


def test_with_all_streams_closed_an_image_is_written_whole(folder: Path) -> None:
    """Without streams, the file to be written would get their numbers, and messages with them."""
    done = shell("$S downscale hr lr <&- >&- 2>&-", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Image.open(folder / "lr/a.png") as image:
        assert image.size == (10, 10)
        image.load()
