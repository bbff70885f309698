"""No file stays longer than the page that needs it."""

from pathlib import Path

from srlib.demo.sessions import Sessions


def uploaded(folder: Path, name: str) -> Path:
    path = folder / name / "photo.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"photo")
    return path


def test_another_file_replaces_upload_and_result(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    first, second = uploaded(tmp_path, "a"), uploaded(tmp_path, "b")
    sessions.take("me", first)
    result = sessions.new_result("me")
    (result / "big.png").touch()
    (tmp_path / "tmp12").touch()
    sessions.take("me", second)
    assert sorted(tmp_path.iterdir()) == [second.parent] and sessions["me"].upload == second
    sessions.take("me", None)
    assert list(tmp_path.iterdir()) == []


def test_closing_stops_the_work_and_deletes_everything(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.take("me", uploaded(tmp_path, "a"))
    session = sessions["me"]
    sessions.new_result("me")
    sessions.close("me")
    sessions.close("nobody")
    assert session.is_stopped.is_set() and list(tmp_path.iterdir()) == []


def test_an_upload_that_two_pages_share_stays_for_the_other(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    shared = uploaded(tmp_path, "a")
    sessions.take("one", shared)
    sessions.take("two", shared)
    sessions.close("one")
    assert shared.exists()
    sessions.close("two")
    assert list(tmp_path.iterdir()) == []


def test_each_result_replaces_the_one_before(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    first = sessions.new_result("me")
    sessions["me"].is_stopped.set()
    second = sessions.new_result("me")
    assert not first.exists() and second.is_dir() and not sessions["me"].is_stopped.is_set()
    sessions.stop_all()
    assert sessions["me"].is_stopped.is_set()
