import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from srlib.atomic import atomic_path
from srlib.errors import SrlibError
from srlib.files import write_bytes, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_one_before(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert os.listdir(tmp_path / "folder") == ["two"]


def killed(code: str, path: Path) -> None:
    """Run code in a process that ends in SIGKILL; `path` is known to it, and so is `atomic_path`."""
    head = "import os, sys; from pathlib import Path; from srlib.atomic import atomic_path; path = Path(sys.argv[1])\n"
    process = subprocess.run([sys.executable, "-c", head + code, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL


KILL = "os.kill(os.getpid(), 9)"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed(f"with atomic_path(path) as t: t.write_text('half'); {KILL}", tmp_path / "a.txt")
    assert len(os.listdir(tmp_path)) == 1
    write_text(tmp_path / "a.txt", "whole")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_another_thread_or_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("first")
        other = tmp_path / temporary.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
        other.touch()
        write_text(path, "second")
        assert path.read_text() == "second" and other.exists()
    assert path.read_text() == "first"


def test_what_another_host_may_still_write_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(f"with atomic_path(path) as t: t.write_text('half'); {KILL}", tmp_path / "a.txt")
    (tmp_path / ".a.txt.999999.tmp").touch()  # of an earlier version, which did not name the host
    before = os.listdir(tmp_path)
    monkeypatch.setattr("srlib.atomic._host", lambda: "0" * 8)
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "a.txt"])


def test_what_another_host_abandoned_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that was killed never comes back under its name."""
    killed(f"with atomic_path(path) as t: t.mkdir(); (t / 'x').touch(); {KILL}", tmp_path / "a")
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr("srlib.atomic._host", lambda: "0" * 8)
    for days, stays in ((6, True), (8, False)):
        for path in (left / "x", left):
            os.utime(path, times=(0, time.time() - days * 86400))
        write_text(tmp_path / "a", "whole")
        assert left.exists() == stays


def test_what_an_earlier_process_of_this_number_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that starts again, every process is number 1."""
    with atomic_path(tmp_path / "a.txt") as temporary:
        monkeypatch.setattr("srlib.atomic._PROCESS", "0" * 8)
        temporary.write_text("half")
        write_text(tmp_path / "a.txt", "whole")
        assert os.listdir(tmp_path) == ["a.txt"]
        temporary.write_text("again")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_threads_write_one_path(tmp_path: Path, kind: str) -> None:
    def write(number: int) -> None:
        for _ in range(50):
            with atomic_path(tmp_path / "a") as temporary:
                if kind == "folder":
                    temporary.mkdir()
                    (temporary / "x").write_text(f"{number}")
                    (temporary / "y").write_text(f"{number}")
                else:
                    temporary.write_text(f"{number}" * 10_000)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert os.listdir(tmp_path) == ["a"]
    if kind == "folder":
        assert (tmp_path / "a" / "x").read_text() == (tmp_path / "a" / "y").read_text()


def test_processes_write_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from srlib.atomic import atomic_path\n"
        "for _ in range(200):\n"
        "    with atomic_path(Path(sys.argv[1])) as t: t.mkdir(); (t / 'x').touch(); (t / 'y').touch()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "folder")]
    with subprocess.Popen(command) as one, subprocess.Popen(command) as other:
        assert (one.wait(), other.wait()) == (0, 0)
    assert os.listdir(tmp_path) == ["folder"] and sorted(os.listdir(tmp_path / "folder")) == ["x", "y"]


def test_a_kill_between_the_renames_loses_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    write_text(path / "old", "old")
    code = (
        "replace = os.replace\n"
        "def patched(source, target):\n"
        f"    replace(source, target)\n    if str(target).endswith('.old.tmp'): {KILL}\n"
        "os.replace = patched\n"
        "with atomic_path(path) as t: t.mkdir(); (t / 'new').touch()"
    )
    killed(code, path)
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt), atomic_path(path):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(path) == ["old"]


def test_a_failed_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    write_text(path / "old", "old")
    moves: list[Path] = []

    def replace(source: Path, target: Path) -> None:
        moves.append(target)
        if moves.count(path) == 2 and len(moves) == 3:
            raise OSError(errno.EIO, "Input/output error")
        os.rename(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"), atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(path) == ["old"]


def test_all_files_of_a_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    with atomic_path(tmp_path / "folder") as temporary:
        write_text(temporary / "inner" / "x", "x")
        (temporary / "y").touch()
        (temporary / "link").symlink_to("nowhere")
        os.mkfifo(temporary / "pipe")
        synced.clear()
    names = (".", "folder", "folder/inner", "folder/inner/x", "folder/y")
    assert synced == {(tmp_path / name).stat().st_ino for name in names}


@pytest.mark.parametrize("size", [200, 206, 207, 208, 239, 255])
def test_names_of_255_bytes_can_be_written(tmp_path: Path, size: int) -> None:
    path = tmp_path / ("ü" * (size // 2) + "a" * (size % 2))
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == [path.name]


def test_a_root_folder_is_not_a_name() -> None:
    with pytest.raises(SrlibError, match=r"^/: expected the name of a file or folder to write"):
        write_bytes(Path("/"), b"")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("nowhere")
    os.mkfifo("pipe")
    return tmp_path


def test_an_error_without_a_name_gets_one(places: Path) -> None:
    """`write` on a full disk names no file."""
    with pytest.raises(OSError, match="No space left") as error, atomic_path(Path("new")):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == "new"


@pytest.mark.parametrize(("before", "inside"), [("", ""), ("file:", ""), ("", "/a/b.png")])
def test_no_error_names_the_temporary_path(places: Path, before: str, inside: str) -> None:
    with pytest.raises(OSError, match="No space left") as error, atomic_path(Path("out/new")) as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", f"{before}{temporary}{inside}")
    assert error.value.filename == f"out/new{inside}"


def test_a_link_to_nowhere_is_never_replaced(places: Path) -> None:
    with pytest.raises(SrlibError, match="dangling: is a link to nowhere, which does not exist"):
        write_text(Path("dangling"), "x")
    assert Path("dangling").is_symlink() and not Path("nowhere").exists()


def test_a_pipe_or_device_is_never_replaced(places: Path) -> None:
    with pytest.raises(SrlibError, match="pipe: is a pipe or device, which a file would replace"):
        write_bytes(Path("pipe"), b"")
    assert Path("pipe").is_fifo()
