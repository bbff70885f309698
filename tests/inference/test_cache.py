"""Own models: exported once, kept in the user's cache folder, and usable where there is none."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.inference import cache, export
from srlib.inference.exported import BIN
from srlib.inference.shipped import SHIPPED
from srlib.inference.upscaler import open_model

MODEL = SHIPPED / "psnr-x4" / "keras"

FIRST_USE = """
import shutil, sys, time
from pathlib import Path
from srlib.atomic import atomic_path
from srlib.inference import cache, export
from srlib.inference.shipped import SHIPPED

def copy(folder, out, format="openvino", *, force=False):
    time.sleep(0.5)
    with atomic_path(out) as temporary:
        shutil.copytree(SHIPPED / "psnr-x4", temporary, ignore=shutil.ignore_patterns("keras"))

export.export = copy
print("ready", flush=True)
sys.stdin.readline()
print(cache.read_through_cache(Path(sys.argv[1])).config.scale)
"""


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the export by a copy of the shipped network; return the folders that it wrote."""
    written: list[Path] = []

    def copy(folder: Path, out: Path, format: str = "openvino", *, force: bool = False) -> None:
        written.append(out)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(SHIPPED / "psnr-x4", out, ignore=shutil.ignore_patterns("keras"))

    monkeypatch.setattr(export, "export", copy)
    return written


def test_the_first_use_exports_and_says_so(
    exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_model(str(MODEL)).scale == 4
    folder = exports[0]
    assert folder.parent == tmp_path / "srlib" / "models"
    line = f"{MODEL}: exporting to OpenVINO before its first use, about a minute; kept in {folder}\n"
    assert capfd.readouterr().err == line
    assert open_model(str(MODEL)).scale == 4
    assert exports == [folder]
    assert capfd.readouterr().err == ""


def test_a_damaged_cache_is_exported_again(
    exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_model(str(MODEL))
    (exports[0] / BIN).write_bytes(b"half")
    open_model(str(MODEL))
    assert len(exports) == 2


def test_processes_that_start_together_export_once(tmp_path: Path) -> None:
    """As in a job array whose home folder is shared."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, str(MODEL)],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in answers] == ["4\n"] * 3, answers
    assert sum(": exporting to OpenVINO" in errors for _, errors in answers) == 1, answers


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_used_too(
    exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def acquire(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    assert open_model(str(MODEL)).scale == 4 and len(exports) == 1


@pytest.mark.parametrize("home", ["a file", "none"])
def test_without_a_cache_folder_the_model_is_used_once(
    exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: str
) -> None:
    if home == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("os.getuid", lambda: 123456789)
    assert open_model(str(MODEL)).scale == 4
    assert not exports[0].exists()
    warning, line = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: no cache folder (") and warning.endswith("set XDG_CACHE_HOME to one")
    assert line.endswith("used once, since there is no cache folder")


def test_a_folder_without_a_model_makes_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SrlibError, match="empty: expected a model"):
        cache.read_through_cache(tmp_path / "empty")
    assert list((tmp_path / "cache").rglob("*.*")) == []
