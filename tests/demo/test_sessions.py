"""No file stays longer than the page that needs it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from srlib.demo import page
from srlib.demo.choices import ModelChoice
from srlib.demo.sessions import Sessions
from srlib.demo.work import Limits, Settings
from srlib.errors import SrlibError
from srlib.signals import Stopped

FAST = Settings(ModelChoice("fast-x4", "fast-x4"))


def uploaded(folder: Path, name: str) -> Path:
    path = folder / name / "photo.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"photo")
    return path


def test_another_file_replaces_upload_and_result(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    first, second = uploaded(tmp_path, "a"), uploaded(tmp_path, "b")
    sessions.take("me", first)
    sessions.ask("me", {})
    with sessions.job("me") as job:
        (job.folder / "big.png").touch()
    assert (job.folder / "big.png").exists()
    (tmp_path / "tmp12").touch()
    sessions.take("me", second)
    assert sorted(tmp_path.iterdir()) == [second.parent] and sessions["me"].upload == second
    sessions.take("me", None)
    assert list(tmp_path.iterdir()) == []


def test_closing_stops_the_work_and_deletes_everything(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.take("me", uploaded(tmp_path, "a"))
    session = sessions["me"]
    sessions.ask("me", {})
    with sessions.job("me"):
        pass
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
    sessions.take("me", uploaded(tmp_path, "a"))
    sessions.ask("me", {})
    with sessions.job("me") as first:
        pass
    with sessions.job("me") as second:
        assert not first.folder.exists()
    assert second.folder.is_dir()
    with pytest.raises(SrlibError, match="broken"), sessions.job("me") as third:
        raise SrlibError("broken")
    assert not second.folder.exists() and not third.folder.exists()
    sessions.stop_all()
    assert sessions["me"].is_stopped.is_set()


def test_stop_reaches_work_that_waits_in_the_queue(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.take("me", uploaded(tmp_path, "a"))
    sessions.ask("me", {})
    sessions["me"].is_stopped.set()
    with pytest.raises(Stopped), sessions.job("me"):
        pytest.fail("the work began")
    sessions.ask("me", {})
    with sessions.job("me") as job:
        sessions.ask("me", {})
        assert sessions["me"].is_stopped is job.is_stopped, "a second click leaves the work within reach of Stop"
    assert sessions["me"].result == job.folder


def test_waiting_work_takes_what_was_chosen_last(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    first, last = {"size": 2}, {"size": 3}
    sessions.ask("me", first)  # type: ignore[dict-item]
    sessions.ask("me", last)  # type: ignore[dict-item]
    assert sessions.begin("me") is last
    assert sessions.begin("me") is None, "one click, one result"
    assert sessions.begin("nobody") is None and list(sessions._sessions) == ["me"]


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("part", [0, 1])
def test_work_leaves_nothing_once_its_page_is_gone(
    photo: Callable[..., Path], tmp_path: Path, is_closed: bool, part: int
) -> None:
    """The writer of files makes a folder again that was deleted in the meantime."""
    sessions = Sessions(tmp_path)
    first, other = uploaded(tmp_path, "a"), uploaded(tmp_path, "b")
    sessions.take("me", photo(first))
    sessions.ask("me", {})

    def progress(done: float, desc: str) -> None:
        if done == part and first.exists():
            sessions.close("me") if is_closed else sessions.take("me", other)

    with pytest.raises(Stopped), sessions.job("me") as job:
        page._upscaled(job, FAST, Limits(), progress)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    with pytest.raises(Stopped), sessions.job("me"):
        pytest.fail("nothing was asked for")
    assert list(sessions._sessions) == ([] if is_closed else ["me"])
