"""The work folder from which an interrupted run continues; nothing here needs PyAV."""

import json

import pytest

from srlib.errors import SrlibError
from srlib.films.segments import open_work_folder, work_folder_of

TIMES = [(0, 512), (512, 512)]


def write(work, number, content=b"frames"):
    with work.writing(number) as path:
        path.write_bytes(content)
    return work.finish(number, TIMES)


def test_finished_segments_are_there_again(tmp_path):
    with open_work_folder(tmp_path / "a.mp4", {"model": "x"}) as work:
        segments = [write(work, 0), write(work, 1)]
    with open_work_folder(tmp_path / "a.mp4", {"model": "x"}) as work:
        assert work.finished() == segments


def test_an_incomplete_segment_ends_the_list(tmp_path):
    with open_work_folder(tmp_path / "a.mp4", {}) as work:
        first = write(work, 0)
        second, third = write(work, 1), write(work, 2)
        second.path.write_bytes(b"half")
        assert work.finished() == [first]
        write(work, 1)
        third.path.with_suffix(".json").write_text("{}")
        assert len(work.finished()) == 2
        with pytest.raises(KeyboardInterrupt), work.writing(0) as path:
            path.write_bytes(b"other")
            raise KeyboardInterrupt
        assert work.finished() == [], "a segment that is written again is not finished"


def test_another_identity_starts_afresh(tmp_path, capfd):
    with open_work_folder(tmp_path / "a.mp4", {"model": "x", "film": "1"}) as work:
        write(work, 0)
    with open_work_folder(tmp_path / "a.mp4", {"model": "y", "film": "1"}) as work:
        assert work.finished() == []
    assert capfd.readouterr().err == f"{tmp_path / 'a.mp4'}: starts afresh; the interrupted run differs in model\n"
    (work.path / "identity.json").write_text("no JSON")
    with open_work_folder(tmp_path / "a.mp4", {"model": "y", "film": "1"}):
        assert json.loads((work.path / "identity.json").read_text()) == {"model": "y", "film": "1"}


def test_one_run_at_a_time(tmp_path):
    with (
        open_work_folder(tmp_path / "a.mp4", {}),
        pytest.raises(SrlibError, match=r"a.mp4: another run is working on it$"),
        open_work_folder(tmp_path / "a.mp4", {}),
    ):
        pass


def test_long_names_have_a_work_folder(tmp_path):
    target = tmp_path / ("ü" * 120 + ".mp4")
    assert len(work_folder_of(target).name.encode()) < 255
    with open_work_folder(target, {}) as work:
        assert work.path.parent == tmp_path
