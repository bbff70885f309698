"""Films with a stand-in for the network: frames, times, streams and tags of the results, and interrupted runs."""

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import av

from srlib.errors import SrlibError
from srlib.films import upscaling
from srlib.films.reading import describe_film
from srlib.imaging.resize import resize
from srlib.inference.output_size import output_size

from .conftest import FRAMES, HEIGHT, WIDTH, Bicubic, frames, image, make_film, packets, run

LARGEST_ERROR = 1.2
"""Mean difference in levels after upscaling, encoding at quality 95, decoding and downscaling again."""

LARGEST_SHIFT = 0.4
"""Mean difference of a channel in levels."""

KINDS = {
    "plain.mp4": {},
    "rotated.mp4": {"rotation": 90},
    "variable-rate.mp4": {"ticks": (0, 512, 600, 2000, 2001, 3000, 5000)},
    "late-start.mp4": {"ticks": tuple(6400 + 512 * n for n in range(6))},
    "mute.mov": {"sounds": 0},
    "two-sounds.mkv": {"sounds": 2},
    "odd-size.mp4": {"size": (63, 47), "pixel_format": "yuv444p"},
    "one-frame.mp4": {"ticks": (0,)},
    "subtitles.mp4": {"subtitles": "mov_text"},
    "subtitles.mkv": {"subtitles": "subrip"},
    "chapters.mp4": {"chapters": True},
    "chapters.mkv": {"chapters": True},
    "ten-bits.mkv": {
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "options": {"x265-params": "log-level=none:crf=4"},
    },
    "full-range.mp4": {"is_full_range": True},
    "anamorphic.mp4": {"aspect": Fraction(4, 3)},
    "bt709.mov": {"matrix": 1},
    "bt2020.mp4": {"matrix": 9},
    "untagged.mp4": {"matrix": 2},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0"}},
}


def tags(path: Path) -> dict[str, object]:
    """Return what a player goes by."""
    film = describe_film(path)
    with av.open(str(path)) as container:
        return {
            "matrix": film.color.matrix,
            "full range": film.color.is_full_range,
            "transfer": film.color.transfer,
            "primaries": film.color.primaries,
            "depth": film.color.depth,
            "aspect": film.sample_aspect,
            "rotation": film.display_matrix,
            "title": container.metadata.get("title") or container.metadata.get("TITLE"),
            "languages": [stream.language for stream in container.streams if stream.type == "audio"],
            "chapters": [
                (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"])
                for c in container.chapters()
            ],
        }


def levels(rgb: np.ndarray) -> np.ndarray:
    return rgb / (np.iinfo(rgb.dtype).max / 255)


@pytest.mark.parametrize("name", KINDS)
def test_frames_times_streams_and_tags(tmp_path, name):
    source, target = make_film(tmp_path / name, **KINDS[name]), tmp_path / f"big-{name}"
    outcome = run(source, target)
    assert outcome.problems == [] and outcome.notes == []
    before, after = frames(source), frames(target)
    assert [tick for tick, _ in before] == [tick for tick, _ in after]
    assert len(before) == len(KINDS[name].get("ticks", range(FRAMES)))
    assert describe_film(source).time_base == describe_film(target).time_base
    differences = []
    for (_, lr), (_, sr) in zip(before, after, strict=True):
        assert sr.shape == (4 * lr.shape[0], 4 * lr.shape[1], 3) and sr.dtype == lr.dtype
        differences.append(levels(resize(sr, Fraction(1, 4))) - levels(lr))
    assert np.abs(differences).mean() < LARGEST_ERROR
    assert np.abs(np.mean(differences, (0, 1, 2))).max() < LARGEST_SHIFT
    assert tags(source) == tags(target)
    for kind in ("audio", "subtitle"):
        assert packets(source, kind) == packets(target, kind)


@pytest.mark.parametrize("options", [{}, {"matrix": 1}, {"matrix": 9}, {"is_full_range": True}, {"matrix": 2}])
def test_colors_are_those_of_the_images_the_film_was_made_of(tmp_path, options):
    source = make_film(tmp_path / "a.mp4", **options)
    run(source, tmp_path / "b.mp4")
    results = [resize(sr, Fraction(1, 4)).astype(float) for _, sr in frames(tmp_path / "b.mp4")]
    difference = np.array(results) - [image(number) for number in range(FRAMES)]
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.8, "with the wrong matrix or range it would be above 3"


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
def test_every_codec_keeps_the_times(tmp_path, codec):
    source = make_film(tmp_path / "a.mp4", ticks=(0, 512, 600, 2000, 2001, 3000, 5000))
    run(source, tmp_path / "b.mp4", codec=codec)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name.replace("libdav1d", "av1") == codec
    assert [tick for tick, _ in frames(tmp_path / "b.mp4")] == [0, 512, 600, 2000, 2001, 3000, 5000]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
def test_ffprobe_sees_the_same(tmp_path):
    source = make_film(tmp_path / "a.mp4", rotation=90, sounds=2, chapters=True, aspect=Fraction(4, 3))
    run(source, tmp_path / "b.mp4")

    def probe(path: Path) -> dict[str, object]:
        entries = ["-show_streams", "-show_chapters", "-show_entries", "packet=pts,stream_index,codec_type"]
        command = ["ffprobe", "-v", "error", "-of", "json", *entries, str(path)]
        report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        video = next(stream for stream in report["streams"] if stream["codec_type"] == "video")
        keys = ("time_base", "nb_frames", "sample_aspect_ratio", "color_range", "color_space", "start_pts")
        return {
            "kinds": sorted(stream["codec_type"] for stream in report["streams"]),
            "video": {key: video.get(key) for key in keys},
            "rotation": [data.get("rotation") for data in video.get("side_data_list", [])],
            "times": sorted(p["pts"] for p in report["packets"] if p["codec_type"] == "video"),
            "chapters": [(c["start_time"], c["end_time"], c["tags"]) for c in report["chapters"]],
        }

    assert probe(source) == probe(tmp_path / "b.mp4")


@pytest.mark.parametrize("stop_at", [3, 6, 12])
def test_an_interrupted_run_continues_to_the_same_bytes(tmp_path, monkeypatch, capfd, stop_at):
    monkeypatch.setattr(upscaling, "segment_frames", lambda height, width: 4)
    source = make_film(tmp_path / "a.mp4", ticks=tuple(512 * n + 7 * (n % 3) for n in range(FRAMES)))
    run(source, tmp_path / "whole.mp4")
    target = tmp_path / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        run(source, target, model=Bicubic(stop_at=stop_at))
    assert not target.exists()
    assert "of 12 frames are done; run it again to continue" in capfd.readouterr().err
    again = Bicubic()
    run(source, target, model=again)
    # The encoder runs behind the network: the segment before the interrupted one may be unfinished too.
    assert FRAMES - (stop_at - 1) <= again.calls <= FRAMES - max(0, (stop_at - 1) // 4 - 1) * 4
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "whole.mp4"]


def test_the_same_film_gives_the_same_bytes(tmp_path):
    source = make_film(tmp_path / "a.mkv", sounds=2)
    for name in ("b.mkv", "c.mkv"):
        run(source, tmp_path / name)
    assert (tmp_path / "b.mkv").read_bytes() == (tmp_path / "c.mkv").read_bytes()


def test_preview_takes_the_first_seconds_of_everything(tmp_path):
    source = make_film(tmp_path / "a.mp4", chapters=True)
    run(source, tmp_path / "b.mp4", seconds=0.2)
    assert [tick for tick, _ in frames(tmp_path / "b.mp4")] == [512 * n for n in range(5)]
    assert max(time for time, _ in packets(tmp_path / "b.mp4", "audio")) < 0.2
    assert len(tags(tmp_path / "b.mp4")["chapters"]) == 1


@pytest.mark.parametrize(
    ("size", "result", "note"),
    [
        ({"width": 101}, (76, 100), "100×76 instead of 101×76 pixels: films need even sizes"),
        ({"scale": 2}, (96, 128), None),
        ({"fit": (320, 99)}, (98, 132), "132×98 instead of 132×99 pixels: films need even sizes"),
        (
            {"width": 32},
            (24, 32),
            "already as large as the requested size: resized by bicubic, without the network",
        ),
        (
            {"width": 90, "height": 150},
            (150, 90),
            "stretched: the requested width and height have other proportions than the image",
        ),
    ],
)
def test_sizes(tmp_path, size, result, note):
    source = make_film(tmp_path / "a.mp4", ticks=(0, 512))
    outcome = run(source, tmp_path / "b.mp4", size=output_size(**size))
    assert frames(tmp_path / "b.mp4")[0][1].shape == (*result, 3)
    assert outcome.notes == ([note] if note else [])


@pytest.mark.parametrize(
    ("source", "target", "options", "notes"),
    [
        (
            "a.mkv",
            "b.mp4",
            {"subtitles": "subrip"},
            ["MP4 does not keep: subtitle (srt); Matroska (.mkv) holds more kinds"],
        ),
        ("a.mp4", "b.mkv", {}, ["Matroska stores times in milliseconds: frame times are rounded to them"]),
        (
            "a.mp4",
            "b.webm",
            {},
            ["WebM stores times in milliseconds: frame times are rounded to them", "WebM does not keep: audio (aac)"],
        ),
    ],
)
def test_what_a_container_cannot_hold_is_named(tmp_path, source, target, options, notes):
    made = make_film(tmp_path / source, **options)
    assert run(made, tmp_path / target).notes == notes
    before, after = (describe_film(path) for path in (made, tmp_path / target))
    times = [[tick * film.time_base for tick, _ in frames(film.path)] for film in (before, after)]
    assert max(abs(a - b) for a, b in zip(*times, strict=True)) <= Fraction(1, 1000)


def test_another_container_keeps_the_times_to_the_tick(tmp_path):
    source = make_film(tmp_path / "a.mkv", ticks=(0, 512, 1000, 2000))
    run(source, tmp_path / "b.mp4")
    times = [[tick * describe_film(p).time_base for tick, _ in frames(p)] for p in (source, tmp_path / "b.mp4")]
    assert times[0] == times[1]
    assert packets(source, "audio") == packets(tmp_path / "b.mp4", "audio")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transfer": 16, "matrix": 9}, r"HDR \(PQ\) is not supported"),
        ({"transfer": 18, "matrix": 9}, r"HDR \(HLG\) is not supported"),
        ({"options": {"crf": "1", "x264-params": "interlaced=1:tff=1"}}, "interlaced; convert it to whole frames"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path, options, message):
    source = make_film(tmp_path / "a.mkv", **options)
    with pytest.raises(SrlibError, match=message):
        run(source, tmp_path / "b.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]


def test_content_counts_more_than_the_ending(tmp_path):
    source = make_film(tmp_path / "a.mp4", muxer="matroska")
    run(source, tmp_path / "b.mp4")
    assert len(frames(tmp_path / "b.mp4")) == FRAMES


def test_names_that_look_like_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = make_film(tmp_path / "http:a.mp4", ticks=(0, 512)).relative_to(tmp_path)
    run(source, Path("b:c.mp4"))
    assert len(frames(tmp_path / "b:c.mp4")) == 2


def test_long_work_needs_a_request(tmp_path, monkeypatch, capfd):
    source = make_film(tmp_path / "a.mp4")
    monkeypatch.setattr(upscaling, "_ANNOUNCED", 1)
    monkeypatch.setattr(upscaling, "LONGEST_WORK", 0)
    with pytest.raises(SrlibError, match=r"64×48 to 256×192 pixels, 12 frames take about 1 min; use --allow-large"):
        run(source, tmp_path / "b.mp4")
    run(source, tmp_path / "b.mp4", allow_large=True)
    assert "64×48 to 256×192 pixels, 12 frames, about 1 min\n" in capfd.readouterr().err


def test_a_late_start_adds_no_frames(tmp_path, capfd):
    """Matroska's duration counts from zero, and sound may last longer than the frames: the number is an estimate."""
    source = make_film(tmp_path / "a.mkv", ticks=tuple(512 * (90_000 + n) for n in range(12)), sounds=0)
    assert describe_film(source).frames in (12, 13)
    run(source, tmp_path / "b.mkv")
    run(make_film(tmp_path / "c.mkv"), tmp_path / "d.mkv")
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["upscaling: 12/12 frames (100%)"] * 2
    assert all(line.endswith("in all") for line in lines)


def test_frames_that_memory_cannot_hold_are_refused(tmp_path, monkeypatch):
    source = make_film(tmp_path / "a.mp4")
    monkeypatch.setattr(upscaling, "free_memory", lambda: 1000)
    with pytest.raises(SrlibError, match=r"frames of 256×192 pixels need about 0.0 GB of memory"):
        run(source, tmp_path / "b.mp4")
    assert (WIDTH, HEIGHT) == (64, 48)
