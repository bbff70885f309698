"""Kinds of film files, codecs and quality; nothing here needs PyAV."""

from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.films.batch import run_plan
from srlib.films.containers import CODECS, CONTAINERS, codec_for, container_of, demuxer_of
from srlib.films.options import FilmOptions
from srlib.formats.suffixes import FILM_SUFFIXES
from srlib.inference.jobs import plan_jobs


def test_every_ending_belongs_to_one_container():
    suffixes = [suffix for container in CONTAINERS.values() for suffix in container.suffixes]
    assert sorted(suffixes) == sorted(FILM_SUFFIXES)
    assert container_of(Path("a.M4V")) is CONTAINERS["mp4"]
    with pytest.raises(SrlibError, match=r"^a.avi: expected a name that ends in .mp4, .mov, .mkv, .webm"):
        container_of(Path("a.avi"))


def test_every_container_has_its_default_codecs():
    for container in CONTAINERS.values():
        assert 8 in CODECS[codec_for(container, 8, None)].formats
        assert 10 in CODECS[codec_for(container, 10, None)].formats
        assert {*container.codecs, container.deep_codec} <= set(CODECS)


def test_higher_quality_means_a_lower_rate_factor():
    for codec in CODECS.values():
        factors = [codec.crf(quality) for quality in range(1, 101)]
        assert factors == sorted(factors, reverse=True)
        assert factors[0] == codec.highest_crf and factors[-1] == codec.lowest_crf


@pytest.mark.parametrize(
    ("container", "depth", "codec", "message"),
    [
        ("webm", 8, "h264", "codec: expected vp9 or av1 for WebM, got 'h264'"),
        ("mkv", 10, "vp9", "codec: vp9 is written with 8 bits only, and the film has 10; use hevc"),
    ],
)
def test_what_a_container_cannot_hold_is_refused(container, depth, codec, message):
    with pytest.raises(SrlibError, match=f"^{message}$"):
        codec_for(CONTAINERS[container], depth, codec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "divx"}, "codec: expected one of h264, hevc, vp9, av1, got 'divx'"),
        ({"quality": 0}, "quality: expected a whole number from 1 to 100, got 0"),
        ({"seconds": -1.0}, "preview: expected a number of seconds above 0, got -1"),
        ({"seconds": float("nan")}, "preview: expected a number of seconds above 0, got nan"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(SrlibError, match=f"^{message}$"):
        FilmOptions(**options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a text\n", "not an MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not an MP4"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", "not an MP4"),
        (b"RIFF\0\0\0\0AVI LIST", "not an MP4, QuickTime, Matroska or WebM film; another kind becomes one"),
    ],
)
def test_content_decides_what_is_opened(tmp_path, content, message):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(SrlibError, match=message):
        demuxer_of(path)


def test_folders_and_pipes_are_refused(tmp_path):
    with pytest.raises(SrlibError, match="expected a film file, got a folder"):
        demuxer_of(tmp_path)
    with pytest.raises(SrlibError, match="expected a film file"):
        demuxer_of(Path("/dev/null"))
    with pytest.raises(FileNotFoundError):
        demuxer_of(tmp_path / "none.mp4")


def test_a_missing_pyav_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    plan = plan_jobs([str(tmp_path / "a.mp4")], str(tmp_path / "b.mp4"), films=True)
    with pytest.raises(SrlibError, match=r"^films need PyAV: \S+ -m pip install 'srlib\[films\]'$"):
        run_plan(plan, lambda: pytest.fail("the model was opened"), FilmOptions())


@pytest.mark.parametrize(
    ("inputs", "out", "options", "message"),
    [
        (["a.mp4"], "a.png", {}, "a.png: a film does not become an image; choose another ending"),
        (["a.png"], "b.mkv", {}, "b.mkv: an image does not become a film; choose another ending"),
        (["a.mp4"], "-", {}, "a.mp4: a film cannot be written to a stream; name a file such as big.mp4"),
        (["-"], "b.mp4", {}, "b.mp4: a film cannot be read from a stream; name its file"),
        (["a.mp4"], "a.mp4", {}, "a.mp4: would overwrite"),
        (["a.mp4"], "b.mp4", {"format": "mkv"}, "b.mp4: its ending says mp4, --format says mkv; leave one out"),
        (["a.mp4"], "b.mp44", {}, "b.mp44: unknown ending; did you mean b.mp4"),
        (["a.mp4"], "b.mp4", {"format": "avi"}, "--format: expected png, jpeg, tiff, webp, m4v, mkv, mov, mp4, webm"),
    ],
)
def test_mistakes_are_reported_before_any_work(tmp_path, monkeypatch, inputs, out, options, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "a.png"):
        Path(name).write_bytes(b"content")
    with pytest.raises(SrlibError) as error:
        plan_jobs(inputs, out, films=True, **options)
    assert str(error.value).startswith(message)


def test_films_and_images_of_a_folder_are_planned_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in/deep").mkdir(parents=True)
    for name in ("in/a.png", "in/b.MP4", "in/deep/c.webm", "in/d.avi"):
        Path(name).write_bytes(b"content")
    plan = plan_jobs(["in"], "out", films=True)
    assert [job.target.as_posix() for job in plan.jobs] == ["out/a.png"]
    assert [job.target.as_posix() for job in plan.films] == ["out/b.MP4", "out/deep/c.webm"]
    plan = plan_jobs(["in"], "out", films=True, format="mkv")
    assert [job.target.as_posix() for job in plan.jobs + plan.films] == ["out/a.png", "out/b.mkv", "out/deep/c.mkv"]
    plan = plan_jobs(["in"], "out", films=True, format="jpeg")
    assert [job.target.as_posix() for job in plan.jobs + plan.films] == ["out/a.jpg", "out/b.MP4", "out/deep/c.webm"]
    assert plan_jobs(["in"], "out").films == (), "functions for images leave films out"
