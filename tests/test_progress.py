"""srlib.progress: plain lines where there is no terminal, a bar on a real pseudo-terminal."""

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from srlib import progress as module
from srlib.progress import observed, progress

ROOT = Path(__file__).parents[1]


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "_clock", clock)
    return clock


def test_plain_lines_every_ten_seconds_and_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(100, "pretrain", "steps") as advance:
        for step in range(50):
            clock.now += 0.5
            advance(2, loss=1 / (step + 1))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "pretrain: 40/100 steps (40%), 4 steps/s, 0:15 left, loss 0.05",
        "pretrain: 80/100 steps (80%), 4 steps/s, 0:05 left, loss 0.025",
        "pretrain: 100/100 steps (100%), 4 steps/s, 0:25 in all, loss 0.02",
    ]


def test_resume_and_a_slow_first_step_keep_the_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(10_000, "pretrain", "steps", start=9_000) as advance:
        clock.now += 60
        advance()
        for _ in range(20):
            clock.now += 1
            advance()
    assert "9,021/10,000 steps (90%), 1 steps/s, stopped" in capsys.readouterr().err.splitlines()[-1]


def test_units_that_end_together_give_no_rate_yet(clock: Clock) -> None:
    """Of two threads, both end their first pair at 60 s and their second at 120 s."""
    lines = []
    with observed(lambda _, line: lines.append(line)), progress(100, "aligning", "pairs") as advance:
        for seconds in (60, 0.001, 60, 0.001):
            clock.now += seconds
            advance()
    assert lines == [
        "1/100 pairs (1%)",
        "2/100 pairs (2%)",
        "3/100 pairs (3%), 0.0333 pairs/s, 48:31 left",
        "4/100 pairs (4%), 0.05 pairs/s, 32:01 left",
    ]


def test_nearly_a_thousand_in_a_second_is_no_power_of_ten(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(1_000_000, "pretrain", "steps") as advance:
        advance()
        clock.now += 100
        advance(99_970)
    assert "99,971/1,000,000 steps (10%), 1,000 steps/s" in capsys.readouterr().err


def test_bytes_have_readable_units(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3_530_603_713, "DIV2K_train_HR.zip", "B") as advance:
        advance(1000)
        clock.now += 10
        advance(20_000_000)
    assert capsys.readouterr().err.splitlines()[0] == ("DIV2K_train_HR.zip: 20 MB of 3.53 GB (1%), 2 MB/s, 29:16 left")


def test_failed_work_is_not_reported_as_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), progress(5, "set [5]", "images") as advance:
        advance(3, image="a [bold].png")
        raise ValueError("broken")
    assert capsys.readouterr().err == "set [5]: 3/5 images (60%), stopped, image a [bold].png\n"


@pytest.mark.parametrize("estimate", [2, 3, 4, 90_000])
def test_an_estimated_number_is_mended(estimate: int, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(estimate, "upscaling", "frames", is_estimated=True) as advance:
        for _ in range(3):
            clock.now += 1
            advance()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("upscaling: 3/3 frames (100%), 1 frames/s, 0:0") and last.endswith("in all")


def test_an_estimate_does_not_hide_a_failure(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), progress(5, "upscaling", "frames", is_estimated=True) as advance:
        advance(3)
        raise ValueError("broken")
    assert capsys.readouterr().err == "upscaling: 3/5 frames (60%), stopped\n"


def test_no_work_ends_at_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(0, "evaluate", "images"):
        pass
    assert capsys.readouterr().err == "evaluate: 0/0 images, 0:00 in all\n"


def test_threads_share_one_count(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4000, "prepare", "images") as advance:
        threads = [threading.Thread(target=lambda: [advance() for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "4,000/4,000 images (100%)" in capsys.readouterr().err


def test_bars_on_a_terminal_may_be_nested() -> None:
    script = (
        "from srlib.progress import progress\n"
        "with progress(2, 'outer', 'sets') as advance:\n"
        "    with progress(3, 'inner', 'images') as inner:\n"
        "        inner(3)\n"
        "    advance(2, psnr=28.43)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs, cwd=ROOT, env=environment) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the other end was closed
                break
            if not part:
                break
            output += part
    os.close(ours)
    text = output.decode()
    assert process.returncode == 0, text
    assert "━" in text
    assert "3/3 images (100%)" in text
    assert "2/2 sets (100%)" in text
    assert "psnr 28.43" in text


def test_the_module_is_light() -> None:
    script = "import sys, srlib.progress; assert not {'rich', 'numpy', 'tqdm'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
