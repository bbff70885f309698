"""A process of its own imports what this one imports."""

from pathlib import Path

import pytest

from srlib.inference.process import run_module


def test_nothing_in_the_working_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("print('run'); raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    done = run_module("srlib.arrays")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_imports_from_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_my_own.py").write_text("import sys; print(sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    assert "No module named of_my_own" in run_module("of_my_own").stderr
    monkeypatch.syspath_prepend("")
    assert run_module("of_my_own", "a", "-b").stdout == "['a', '-b']\n"
