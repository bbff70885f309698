"""Scores without an original, and maps of undetermined detail."""

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.errors import SrlibError
from srlib.imaging.consistency import lr_consistency
from srlib.inference import records
from srlib.inference.batch import ImageOptions, run_jobs
from srlib.inference.jobs import plan_jobs
from srlib.inference.output_size import output_size
from srlib.inference.records import Records
from srlib.signals import Stopped


@pytest.fixture
def images(folder):
    rng = np.random.default_rng(0)
    Path("in/deep").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "deep/b.jpg"):
        Image.fromarray(rng.integers(60, 190, (9, 12, 3), np.uint8)).save(f"in/{name}")
    return folder


def run(inputs, out, model, *, scores=None, maps=None, **options):
    plan = plan_jobs(inputs, out, format="tiff", force=True)
    return run_jobs(plan, lambda: model, ImageOptions(**options), Records.at(scores, maps, out))


def rows(path="scores.csv"):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_have_a_line_per_image(images, bicubic):
    run(["in/a.png", "in/deep"], "out", bicubic, scores="scores.csv")
    first, second = rows()
    assert (first["image"], first["result"], first["model"]) == ("in/a.png", "out/a.tif", "bicubic")
    assert (first["width"], first["height"], first["result_width"], first["result_height"]) == ("12", "9", "48", "36")
    lr, sr = (np.asarray(Image.open(first[key])) for key in ("image", "result"))
    assert float(first["lr_psnr"]) == pytest.approx(lr_consistency(lr, sr).psnr, abs=1e-3)
    assert second["image"] == "in/deep/b.jpg"
    run(["in/a.png"], "out", bicubic, scores="scores.csv", consistent=True)
    assert [row["image"] for row in rows()] == ["in/a.png", "in/deep/b.jpg", "in/a.png"], "lines are added"
    assert float(rows()[2]["lr_psnr"]) > float(first["lr_psnr"]) + 10
    assert int(rows()[2]["lr_largest_error"]) <= 1


@pytest.mark.parametrize("moment", ["while it is scored", "before its line", "after its line"])
def test_a_stop_leaves_no_result_without_its_line(images, bicubic, monkeypatch, moment):
    add = Records.add

    def run_all():
        plan = plan_jobs(["in/a.png", "in/deep"], "out")
        return run_jobs(plan, lambda: bicubic, records=Records.at("scores.csv", None, "out"))

    def stop(*arguments):
        if moment == "after its line":
            add(*arguments)
        raise Stopped(signal.SIGINT)

    with monkeypatch.context() as patch:
        owner, name = (records, "lr_consistency") if moment == "while it is scored" else (Records, "add")
        patch.setattr(owner, name, stop)
        with pytest.raises(Stopped):
            run_all()
    assert not list(Path("out").glob("*"))
    assert run_all().done == 2
    assert {row["result"] for row in rows()} == {"out/a.png", "out/b.jpg"}


def test_maps_follow_the_names_of_the_images(images, bicubic):
    run(["in/a.png", "in/deep"], "out", bicubic, maps="maps")
    assert sorted(path.name for path in Path("maps").rglob("*")) == ["a.tif.png", "b.tif.png"]
    run(["in/a.png"], "out.tif", bicubic, maps="map.png")
    with Image.open("map.png") as image:
        assert (image.size, image.mode) == ((48, 36), "L")


def test_a_smaller_result_has_no_scores(images, bicubic):
    run(["in/a.png"], "out", bicubic, scores="scores.csv", maps="maps", size=output_size(width=6))
    assert rows() == [] and not Path("maps").exists()


def test_a_table_of_an_earlier_version_keeps_its_columns(images, bicubic, capsys):
    Path("scores.csv").write_text("image,width,result_width\r\nold.png,1,4")  # its last line was cut
    run(["in/a.png"], "out", bicubic, scores="scores.csv")
    assert Path("scores.csv").read_text().splitlines() == ["image,width,result_width", "old.png,1,4", "in/a.png,12,48"]
    assert "without result, height, result_height, model" in capsys.readouterr().err
    assert Path("in/a.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_table_gets_its_columns(images, bicubic):
    Path("scores.csv").touch()
    run(["in/a.png"], "out", bicubic, scores="scores.csv")
    assert [row["image"] for row in rows()] == ["in/a.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": "in"}, "--scores in: expected a CSV file, got a folder or device"),
        ({"scores": "in/a.png"}, "--scores in/a.png: exists and is no table of scores; name another file"),
        ({"scores": "/dev/null/x.csv"}, "--scores /dev/null/x.csv: cannot be written: "),
        ({"maps": "map.png"}, "--map map.png: one file for 2 images; name a folder"),
        ({"scores": "newer.csv"}, "--scores newer.csv: is another table, with the unknown column 'glow'; name another"),
        ({"scores": "twice.csv"}, "--scores twice.csv: is another table, with a column twice; name another file"),
        ({"scores": "dangling"}, "--scores dangling: is a link to nowhere, which does not exist"),
        ({"maps": "in/a.png/x"}, "--map in/a.png/x: cannot be written; "),
        ({"maps": "dangling"}, "--map dangling: is a link to nowhere, which does not exist"),
        ({"maps": "in/a.bmp"}, "--map in/a.bmp: expected a PNG file or a folder, got another file"),
    ],
)
def test_what_cannot_be_written_is_named_before_any_work(images, options, message):
    def no_model(rgb, *, on_pixels=None):
        raise AssertionError

    Path("dangling").symlink_to("nowhere")
    Path("newer.csv").write_text("image,glow\n")
    Path("twice.csv").write_text("image,image\n")
    with pytest.raises(SrlibError, match=f"^{message}"):
        run(["in/a.png", "in/deep"], "out", no_model, **options)
    assert not Path("out").exists()


def test_only_a_map_is_replaced(images, bicubic):
    for maps, photograph in (("b.png", "b.png"), ("maps", "maps/a.tif.png")):
        Path(photograph).parent.mkdir(exist_ok=True)
        Path(photograph).write_bytes(Path("in/a.png").read_bytes())
        with pytest.raises(SrlibError, match=f"^--map {maps}: {photograph} exists and is no map; name another place"):
            run(["in/a.png"], "a.tif", bicubic, maps=maps)
        Path(photograph).unlink()
        run(["in/a.png"], "a.tif", bicubic, maps=maps)
        run(["in/a.png"], "a.tif", bicubic, maps=maps)


def test_options_that_wrote_nothing_are_named(images, bicubic, capfd):
    run(["in/a.png"], "small.tif", bicubic, scores="s.csv", maps="m.png", size=output_size(width=8))
    lines = capfd.readouterr().err
    assert "in/a.png: no larger than before, so --scores and --map wrote nothing for it" in lines
    assert not Path("m.png").exists()
    run(["in/a.png"], "large.tif", bicubic, scores="s.csv", maps="m.png")
    assert "wrote nothing" not in capfd.readouterr().err


def test_two_maps_never_get_one_name(images, bicubic):
    Path("in/x.jpg").write_bytes(Path("in/deep/b.jpg").read_bytes())
    Path("in/x.jpg.png").write_bytes(Path("in/a.png").read_bytes())
    plan = plan_jobs(["in/x.jpg", "in/x.jpg.png"], "out")
    with pytest.raises(SrlibError, match=r"in/x\.jpg and in/x\.jpg\.png would both become maps/x\.jpg\.png; rename"):
        run_jobs(plan, lambda: bicubic, records=Records.at(None, "maps", "out"))
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["m.jpg", "m.WEBP", "m.gif"])
def test_a_map_is_a_png_or_in_a_folder(name, images, bicubic):
    with pytest.raises(SrlibError, match=rf"^--map {name}: expected a name that ends in .png, or a folder"):
        run(["in/a.png"], "out.tif", bicubic, maps=name)
    Path(name).mkdir()
    run(["in/a.png"], "out.tif", bicubic, maps=name)
    assert len(list(Path(name).iterdir())) == 1


def test_levels_are_those_of_8_bits(images, bicubic):
    gray = np.random.default_rng(0).integers(0, 256, (9, 12)).astype(np.uint8)
    Image.fromarray(gray).save("g8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save("g16.png")
    run(["g8.png", "g16.png"], "out", bicubic, scores="s.csv")
    eight, sixteen = (float(row["lr_largest_error"]) for row in csv.DictReader(Path("s.csv").read_text().splitlines()))
    assert abs(eight - sixteen) <= 1 and eight > 1


def test_a_map_never_replaces_an_image(images, bicubic):
    with pytest.raises(SrlibError, match=r"--map in/a\.png: would overwrite in/a\.png; name another place"):
        run(["in/a.png"], "out.tif", bicubic, maps="in/a.png")
