"""Stores that cannot be used: one line before any work, without SQL and without minutes of further attempts."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.tracking import store


class TestUnusable:
    """A database in the repository, or one that MLFLOW_TRACKING_URI names."""

    @pytest.fixture(autouse=True)
    def _own_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    @pytest.mark.parametrize("is_cut", [False, True])
    def test_a_damaged_database(self, is_cut: bool, tmp_path: Path) -> None:
        file = tmp_path / store.DATABASE
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            for number in range(50):
                connection.execute(f"CREATE TABLE table{number} (name TEXT)")
        file.write_bytes(file.read_bytes()[:6000] if is_cut else b"no database " * 1000)
        reason = "database disk image is malformed" if is_cut else "file is not a database"
        expected = f"{file}: MLflow cannot use it: {reason}; move it away, and a new one is made, or restore a copy"
        with pytest.raises(SrlibError) as caught:
            store.connect(tmp_path)
        assert str(caught.value) == expected

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / store.DATABASE).mkdir()
        start = time.monotonic()
        with pytest.raises(SrlibError, match="unable to open database file; expected a file that can be read"):
            store.connect(tmp_path)
        assert time.monotonic() - start < 10, "MLflow would try for a minute and a half"

    def test_a_driver_that_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+pg8000://name:secret@127.0.0.1/runs")
        expected = r"^MLflow at postgresql\+pg8000://127.0.0.1/runs cannot be used: No module named 'pg8000'$"
        with pytest.raises(SrlibError, match=expected):
            store.connect(tmp_path)

    def test_an_error_of_the_database(self, tmp_path: Path) -> None:
        with pytest.raises(SrlibError) as caught, store._usable("sqlite:///runs.db"):
            from sqlalchemy.exc import OperationalError

            raise OperationalError("INSERT INTO runs", {}, Exception("attempt to write a readonly database"))
        text = "(builtins.Exception) attempt to write a readonly database"
        assert str(caught.value) == f"MLflow at sqlite:///runs.db cannot be used: {text}"
