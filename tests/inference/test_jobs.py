"""Which files are upscaled, and where the results go."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.errors import SrlibError
from srlib.inference import batch, limits
from srlib.inference.jobs import plan_jobs

ROOT = Path(__file__).parents[2]


def draw(path: Path, size: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(path, "PNG")
    return path


def targets(*inputs: str, out: str = "out") -> list[str]:
    return [str(job.target) for job in plan_jobs(inputs, out).jobs]


class TestNames:
    def test_a_dot_that_is_no_ending_stays(self, folder):
        for name in ("Screenshot at 10.15.30", "v1.2.png", "plain"):
            draw(Path(name))
        names = targets("Screenshot at 10.15.30", "v1.2.png", "plain")
        assert names == ["out/Screenshot at 10.15.30.png", "out/v1.2.png", "out/plain.png"]

    def test_names_break_no_line_of_a_message(self, folder, bicubic, capsys):
        Image.new("RGBA", (8, 8)).save(draw(Path("in/a\nb\x1b[31m.png")))
        Path("in/c\nd.png").write_bytes(b"no image")
        with pytest.raises(SrlibError) as caught:
            batch.run_jobs(plan_jobs(["in"], "out", format="jpeg"), lambda: bicubic)
        assert str(caught.value).splitlines()[0].startswith("in/c\\nd.png: not an image")
        assert "\nin/a\\nb\\x1b[31m.png: JPEG has no transparency" in capsys.readouterr().err
        assert os.listdir("out") == ["a\nb\x1b[31m.jpg"]

    @pytest.mark.parametrize(("name", "meant"), [("x.pgn", "x.png"), ("x.jpgg", "x.jpg"), ("x.tifff", "x.tiff")])
    def test_a_mistyped_ending_is_refused(self, folder, name, meant):
        draw(Path("a.png"))
        with pytest.raises(SrlibError, match=f"^{name}: unknown ending; did you mean {meant}"):
            plan_jobs(["a.png"], name)
        assert targets("a.png", out=f"{name}/") == [f"{name}/a.png"]

    def test_other_endings_are_folders(self, folder):
        draw(Path("a.png"))
        assert targets("a.png", out="holiday.2024") == ["holiday.2024/a.png"]

    def test_names_of_255_bytes_fit_and_longer_ones_are_refused(self, folder, bicubic):
        draw(Path("x" * 251 + ".png"))
        batch.run_jobs(plan_jobs(["."], "out"), lambda: bicubic)
        assert os.listdir("out") == ["x" * 251 + ".png"]
        draw(Path("y" * 255))
        with pytest.raises(SrlibError, match="the name has 259 bytes, and file systems allow 255; rename the input"):
            plan_jobs(["y" * 255], "out")


class TestFolders:
    def test_a_space_behind_an_ending_does_not_hide_an_image(self, folder):
        for name in ("a.png ", "b.JPG\t", "c.tif"):
            draw(Path("in") / name)
        assert targets("in") == ["out/a.png .png", "out/b.JPG\t.jpg", "out/c.tif"]

    def test_an_image_that_its_name_hides_is_named(self, folder, bicubic, capsys):
        draw(Path("in/a.png"))
        draw(Path("in/a.png_original"))
        draw(Path("in/deep/plain"))
        Path("in/notes").write_text("BM: a text, as RIFF is")
        os.mkfifo("in/pipe")
        summary = batch.run_jobs(plan_jobs(["in"], "out"), lambda: bicubic)
        line = "in/a.png_original and 1 more: left out; an image whose name has no image's ending: "
        line += "rename it, or name it as IN"
        assert (summary.done, summary.notes, os.listdir("out")) == (1, (line,), ["a.png"])
        assert line in capsys.readouterr().err.splitlines()

    def test_a_folder_of_hidden_images_alone(self, folder):
        draw(Path("in/plain"))
        with pytest.raises(SrlibError, match="in: no images in it\nin/plain: left out; an image whose name has no"):
            plan_jobs(["in"], "out")

    @pytest.mark.parametrize("out", ["dangling.png", "dangling", "out"])
    def test_an_output_that_is_a_link_to_nowhere_is_refused(self, folder, out):
        draw(Path("in/a.png"))
        Path("out").mkdir()
        for link in ("dangling.png", "dangling", "out/a.png"):
            Path(link).symlink_to("nowhere")
        with pytest.raises(SrlibError, match=r"is a link to nowhere, which does not exist; remove the link"):
            plan_jobs(["in/a.png"], out, force=True)

    def test_a_folder_beside_a_link_to_it(self, folder):
        draw(Path("in/zeta/a.png"))
        Path("in/alpha").symlink_to("zeta")
        assert targets("in") == ["out/zeta/a.png"]

    def test_an_unreadable_folder_is_named_after_the_rest_is_done(self, folder, bicubic, monkeypatch):
        draw(Path("in/a.png"))
        draw(Path("in/closed/b.png"))
        scan = os.scandir

        def refuse(path):
            if str(path).endswith("closed"):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(SrlibError, match=r"^in/closed: this folder cannot be read \(Permission denied\)$"):
            batch.run_jobs(plan_jobs(["in"], "out"), lambda: bicubic)
        assert os.listdir("out") == ["a.png"]


class TestPipesAndDevices:
    def test_a_named_pipe_is_refused(self, folder):
        os.mkfifo("pipe.png")
        draw(Path("a.png"))
        with pytest.raises(SrlibError, match=r"^pipe.png: expected an image file, got a pipe or device; to read a"):
            plan_jobs(["pipe.png"], "out")
        with pytest.raises(SrlibError, match=r"^pipe.png: expected a file to write, got a pipe or device"):
            plan_jobs(["a.png"], "pipe.png")

    def test_a_named_pipe_in_a_folder_does_not_stop_the_rest(self, folder, bicubic):
        draw(Path("in/a.png"))
        os.mkfifo("in/pipe.png")
        with pytest.raises(SrlibError, match=r"^in/pipe.png: expected an image file, got a pipe or device"):
            batch.run_jobs(plan_jobs(["in"], "out"), lambda: bicubic)
        assert os.listdir("out") == ["a.png"]

    def test_process_substitution_is_read(self, folder, bicubic):
        content = draw(Path("a.png"), (300, 300)).read_bytes()
        reader, writer = os.pipe()

        def write():
            with os.fdopen(writer, "wb") as file:
                file.write(content)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            plan = plan_jobs([f"/dev/fd/{reader}"], "b.png")
            assert batch.run_jobs(plan, lambda: bicubic).done == 1
        finally:
            os.close(reader)
            thread.join()
        with Image.open("b.png") as image:
            assert image.size == (1200, 1200)

    def test_a_pipe_has_no_name_for_a_folder(self, folder):
        reader, writer = os.pipe()
        try:
            with pytest.raises(SrlibError, match="an image from a stream has no name"):
                plan_jobs([f"/dev/fd/{reader}"], "out/")
            with pytest.raises(SrlibError, match="a stream is one image; name no other input"):
                plan_jobs([f"/dev/fd/{reader}", "a.png"], "out/")
        finally:
            os.close(reader)
            os.close(writer)


class TestLargeImages:
    def test_beyond_the_limit_size_and_time_are_named(self, folder, bicubic, monkeypatch):
        draw(Path("a.png"), (50, 60))
        monkeypatch.setattr(limits, "LARGE_IMAGE", 2999)
        with pytest.raises(SrlibError, match=r"^a.png: 60×50 to 240×200 pixels takes about 1 min; use --allow-lar"):
            batch.run_jobs(plan_jobs(["a.png"], "b.png"), lambda: bicubic)
        assert not Path("b.png").exists()
        options = batch.ImageOptions(allow_large=True)
        assert batch.run_jobs(plan_jobs(["a.png"], "b.png"), lambda: bicubic, options).done == 1

    def test_a_long_run_prints_size_and_time_first(self, folder, bicubic, monkeypatch, capfd):
        draw(Path("in/a.png"), (50, 60))
        draw(Path("in/b.png"), (50, 60))
        monkeypatch.setattr(batch, "_ANNOUNCED", 6000)
        batch.run_jobs(plan_jobs(["in"], "out"), lambda: bicubic)
        assert capfd.readouterr().err.startswith("upscaling 2 images: 0 to 0 megapixels, about 1 min\n")


def test_an_unexpected_error_is_the_line_of_its_file(folder, bicubic, monkeypatch):
    for name in "ab":
        draw(Path("in", f"{name}.png"))
    read = batch.read_image_file

    def fail(path, content=None):
        if path.name == "a.png":
            raise KeyError(320)
        return read(path, content)

    monkeypatch.setattr(batch, "read_image_file", fail)
    with pytest.raises(SrlibError) as error:
        batch.run_jobs(plan_jobs(["in"], "out"), lambda: bicubic)
    lines = str(error.value).splitlines()
    assert lines[0] == "in/a.png: unexpected KeyError (320); please report this image"
    assert os.listdir("out") == ["b.png"]


def test_a_model_that_fails_is_named_with_the_file(folder, bicubic, monkeypatch):
    draw(Path("a.png"))

    def fail(rgb, *, on_pixels=None):
        raise SrlibError("the network's output is not finite")

    monkeypatch.setattr(type(bicubic), "__call__", lambda self, rgb, *, on_pixels=None: fail(rgb))
    with pytest.raises(SrlibError, match=r"^a.png: the network's output is not finite$"):
        batch.run_jobs(plan_jobs(["a.png"], "b.png"), lambda: bicubic)


def test_three_lines_of_python_upscale_a_folder(folder):
    draw(Path("holiday/a.png"))
    code = "import srlib\nprint(srlib.upscale_files('holiday', 'big'))\nprint(srlib.upscale_files('holiday', 'big'))"
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Summary(done=1, existing=0)", "Summary(done=0, existing=1)"]
    with Image.open("big/a.png") as image:
        assert image.size == (28, 36)
