"""Damage of Matroska and WebM files that no decoder notices is named; whole and truncated files raise no alarm."""

import random
import re

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import av

from srlib.films.matroska import damage

from .conftest import FRAMES, make_film, run

MISMATCH = "1 of 6 sections do not match their checksum: the file was damaged after it was written"


def zeroed(path, place, count=200):
    content = path.read_bytes()
    path.write_bytes(content[:place] + bytes(count) + content[place + count :])
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4"])
def test_no_alarm_for_whole_and_truncated_files(tmp_path, name):
    path = make_film(tmp_path / name, codec="libvpx-vp9" if name == "a.webm" else "libx264")
    content = path.read_bytes()
    for length in (len(content), *random.Random(0).sample(range(len(content)), 30)):
        path.write_bytes(content[:length])
        assert damage(path) == []


def test_no_alarm_for_a_cluster_of_unknown_size(tmp_path):
    path = make_film(tmp_path / "a.webm", codec="libvpx-vp9")
    content = bytearray(path.read_bytes())
    size = content.index(b"\x1f\x43\xb6\x75") + 4
    count = 9 - content[size].bit_length()
    content[size : size + count] = bytes([0xFF >> (count - 1)] + [0xFF] * (count - 1))
    path.write_bytes(content)
    assert damage(path) == []


@pytest.mark.parametrize("part", [0.75, 0.8, 0.85])
def test_a_checksum_shows_damage_that_the_decoder_hides(tmp_path, part):
    path = make_film(tmp_path / "a.mkv", options={"crf": "1", "x264-params": "bframes=0"})
    zeroed(path, int(len(path.read_bytes()) * part), 20)
    outcome = run(path, tmp_path / "b.mkv")
    assert MISMATCH in "; ".join(outcome.problems)


def test_a_preview_is_not_searched(tmp_path):
    path = make_film(tmp_path / "a.mkv")
    zeroed(path, len(path.read_bytes()) * 3 // 4, 20)
    assert MISMATCH not in "; ".join(run(path, tmp_path / "b.mkv", seconds=0.1).problems)


def test_broken_structure_without_a_checksum(tmp_path):
    path = make_film(tmp_path / "a.webm", codec="libvpx-vp9")
    content = path.read_bytes()
    blocks = [match.start() for match in re.finditer(rb"\xa3[\x40-\x9f].?\x81", content, re.DOTALL)]
    zeroed(path, blocks[len(blocks) // 2] - 8, 16)
    (problem,) = damage(path)
    assert re.fullmatch(r"is damaged at byte [\d,]+: frames, sound or subtitles may be missing", problem)


def test_frames_that_are_lost_in_the_middle_are_counted(tmp_path):
    path = make_film(tmp_path / "a.mkv", codec="libx265", options={"x265-params": "log-level=none:keyint=4"}, sounds=0)
    with av.open(str(path)) as film:
        packets = [bytes(packet) for packet in film.demux(video=0) if packet.size]
    content = path.read_bytes()
    for packet in packets[5:8]:
        place = content.index(packet)
        content = content[: place + 4] + b"\x7f" * (len(packet) - 4) + content[place + len(packet) :]
    path.write_bytes(content)
    problems = run(path, tmp_path / "b.mkv").problems
    assert re.match(rf"\d of {FRAMES} frames cannot be decoded|\d+ frames are damaged", problems[0]), problems


def test_transparency_beside_the_frames_is_named(tmp_path):
    path = make_film(tmp_path / "a.webm", codec="libvpx-vp9", pixel_format="yuva420p", sounds=0)
    outcome = run(path, tmp_path / "b.webm")
    assert "transparency is not kept" in outcome.notes and outcome.problems == []
