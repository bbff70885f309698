"""Broken and truncated films: what can be decoded is done, the rest is named."""

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import av

from srlib.errors import SrlibError
from srlib.films.containers import address
from srlib.films.reading import FrameReader, describe_film

from .conftest import FRAMES, _sound, _sound_frame, frames, make_film, run


def fast_start(tmp_path):
    """Return a film whose header lies before its content."""
    source, path = make_film(tmp_path / "made.mp4", options={"crf": "1", "g": "3"}), tmp_path / "a.mp4"
    with av.open(str(source)) as before, av.open(str(path), "w", container_options={"movflags": "faststart"}) as after:
        streams = {stream: after.add_stream_from_template(stream, opaque=True) for stream in before.streams}
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                after.mux(packet)
    source.unlink()
    return path


def test_a_film_that_was_cut_off(tmp_path):
    path = fast_start(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    outcome = run(path, tmp_path / "b.mp4")
    count = len(frames(tmp_path / "b.mp4"))
    assert 0 < count < FRAMES
    assert outcome.problems[0].startswith(f"{FRAMES - count} of {FRAMES} frames are missing or cannot be decoded")


@pytest.mark.parametrize(("number", "words"), [(1, "1 frame is damaged"), (2, "2 frames are damaged")])
def test_one_damaged_frame_is_not_several(tmp_path, number, words):
    reader = FrameReader(describe_film(make_film(tmp_path / "a.mkv", sounds=0)), seconds=1.0)
    reader.faults.damaged = number
    assert reader.problems() == [words]


def test_a_matroska_film_that_was_cut_off(tmp_path):
    path = make_film(tmp_path / "a.mkv", ticks=tuple(512 * n for n in range(2 * FRAMES)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    outcome = run(path, tmp_path / "b.mkv")
    assert 0 < len(frames(tmp_path / "b.mkv")) < 2 * FRAMES
    assert len(outcome.problems) == 1 and outcome.problems[0].startswith("is cut off after 0.")


def test_a_film_that_starts_late_is_whole(tmp_path):
    path = make_film(tmp_path / "a.mkv", ticks=tuple(64_000 + 512 * n for n in range(FRAMES)), sounds=0)
    assert describe_film(path).duration > 5  # Matroska's header counts from zero
    assert run(path, tmp_path / "b.mkv").problems == []


def test_damaged_content(tmp_path):
    path = fast_start(tmp_path)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 1500):
        content[place] ^= 0x5A
    path.write_bytes(content)
    outcome = run(path, tmp_path / "b.mp4")
    assert outcome.problems and frames(tmp_path / "b.mp4")


def test_a_missing_header(tmp_path):
    path = make_film(tmp_path / "a.mp4")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SrlibError, match=r"a.mp4: cannot be read as a film, its header is damaged or missing"):
        run(path, tmp_path / "b.mp4")
    (tmp_path / "c.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 10)
    with pytest.raises(SrlibError, match=r"c.mkv: cannot be read as a film"):
        run(tmp_path / "c.mkv", tmp_path / "b.mp4")


def test_a_file_without_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        track = _sound(out, 0)
        out.mux(track.encode(_sound_frame(0, track.time_base)))
        out.mux(track.encode(None))
    with pytest.raises(SrlibError, match=r"a.mp4: holds no video$"):
        run(tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_a_full_disk_keeps_the_finished_segments(tmp_path, monkeypatch):
    from srlib.films import upscaling

    path = make_film(tmp_path / "a.mp4")
    encode, calls = upscaling.encode_segment, []

    def full(path, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise av.error.OSError(28, "No space left on device", address(path))
        return encode(path, *arguments)

    monkeypatch.setattr(upscaling, "segment_frames", lambda height, width: 4)
    monkeypatch.setattr(upscaling, "encode_segment", full)
    with pytest.raises(OSError, match="No space") as error:
        run(path, tmp_path / "b.mp4")
    assert error.value.filename == str(tmp_path / "b.mp4"), "no internal file"
    assert len(list((tmp_path / ".b.mp4.work").glob("*.segment"))) == 1
