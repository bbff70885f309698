import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from srlib.errors import SrlibError
from srlib.parallel import for_each


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_results_keep_the_order_of_the_items(workers):
    def slower_first(item):
        time.sleep(0.02 / (item + 1))
        return item * item

    assert for_each(slower_first, range(8), label="squaring", unit="numbers", workers=workers) == [
        item * item for item in range(8)
    ]


def test_several_threads_work_at_once():
    both = threading.Barrier(2, timeout=60)
    for_each(lambda _: both.wait(), range(2), label="meeting", unit="threads", workers=2)


def test_the_first_error_cancels_the_rest():
    done = []

    def work(item):
        if item == 1:
            raise OSError("disk full")
        time.sleep(0.005)
        done.append(item)

    with pytest.raises(OSError, match="disk full"):
        for_each(work, range(1000), label="working", unit="items", workers=2)
    assert len(done) < 500


def test_progress_counts_to_the_end(capsys):
    for_each(str, range(3), label="checking", unit="images")
    assert "checking: 3/3 images (100%)" in capsys.readouterr().err


def test_processes_give_the_same():
    assert for_each(abs, range(-9, 9), label="l", unit="u", workers=2, processes=True) == [abs(i) for i in range(-9, 9)]


def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        for_each(int, ["1", "x", *["2"] * 50], label="l", unit="u", workers=2, processes=True)


def test_a_process_that_is_killed_is_said():
    with pytest.raises(SrlibError, match="cutting: a process was killed before it finished"):
        for_each(os._exit, [3], label="cutting", unit="u", workers=1, processes=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_began_them(how, tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(
        "import time\n"
        "from srlib.parallel import for_each\n"
        "if __name__ == '__main__':\n"
        "    for_each(time.sleep, [0.2] * 600, label='l', unit='u', workers=2, processes=True)\n"
    )
    with subprocess.Popen([sys.executable, script], start_new_session=True, stderr=subprocess.DEVNULL) as main:
        try:
            mine = psutil.Process(main.pid)
            for _ in range(1200):
                children = mine.children()
                if sum("spawn_main" in " ".join(child.cmdline()) for child in children) >= 2:
                    break
                time.sleep(0.1)
            time.sleep(1)  # until they sleep
            (os.kill if how == signal.SIGKILL else os.killpg)(main.pid, how)
            gone, alive = psutil.wait_procs([mine, *children], timeout=120)
            assert not alive and len(gone) >= 3
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(main.pid, signal.SIGKILL)
