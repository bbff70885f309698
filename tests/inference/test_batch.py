"""`srlib upscale` with a stand-in for the network: what is read, what is written, and what happens when things fail."""

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srlib import memory
from srlib.errors import SrlibError
from srlib.imaging.image_file import ImageFile, write_image_file
from srlib.inference import batch, limits
from srlib.inference.batch import ImageOptions, RgbModel, Summary, run_jobs
from srlib.inference.choice import open_any
from srlib.inference.jobs import plan_jobs
from srlib.inference.output_size import output_size
from srlib.inference.records import Records
from srlib.signals import Stopped

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Bicubic
from srlib.cli import main
from srlib.inference import upscaler

class Slow(Bicubic):
    def __call__(self, rgb, *, on_pixels=None):
        out = super().__call__(rgb, on_pixels=on_pixels)
        if Path("out/b.png").exists():
            print("at work", flush=True)
            time.sleep(60)
        return out

upscaler.open_model = lambda *arguments, **options: Slow()
sys.argv = ["srlib", "upscale", "in", "-o", "out"]
main()
"""

KILLED_WRITER = """
import os
from pathlib import Path
from srlib.atomic import atomic_path

with atomic_path(Path("out/c.png")) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""


def upscale(inputs: list[str], out: str, open_model: Callable[[], RgbModel], **options: Any) -> Summary:
    """Plan and run, as the command does."""
    chosen = {key: options.pop(key) for key in ("format", "force") if key in options}
    records = options.pop("records", None)
    return run_jobs(plan_jobs(inputs, out, **chosen), open_model, ImageOptions(**options), records)


def draw(path: Path, value: int = 99, size: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def below(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_one_file(folder, bicubic, capfd):
    draw(Path("a b.jpg"))
    assert upscale(["a b.jpg"], "صورة كبيرة.png", lambda: bicubic) == Summary(1, 0)
    with Image.open("صورة كبيرة.png") as image:
        assert (image.size, image.format) == ((28, 36), "PNG")
    assert capfd.readouterr().err.startswith("upscaling: 63/63 pixels (100%)")
    with pytest.raises(SrlibError, match=r"^صورة كبيرة.png: exists; use --force"):
        upscale(["a b.jpg"], "صورة كبيرة.png", lambda: bicubic)
    assert upscale(["a b.jpg"], "صورة كبيرة.png", lambda: bicubic, size=output_size(scale=2), force=True).done == 1
    with Image.open("صورة كبيرة.png") as image:
        assert image.size == (14, 18)


def test_folder_structure_and_formats_are_kept(folder, bicubic):
    for name in ("a.png", "deep/er/b.JPG", "deep/c.bmp", "d.webp", "e.tif", "f.gif"):
        draw(Path("in", name))
    Path("in/notes.txt").write_text("not an image")
    draw(Path("in/.hidden/g.png"))
    assert upscale(["in"], "out", lambda: bicubic) == Summary(6, 0)
    assert below("out") == ["a.png", "d.webp", "deep/c.png", "deep/er/b.JPG", "e.tif", "f.png"]
    kinds = {}
    for name in below("out"):
        with Image.open(Path("out", name)) as image:
            kinds[name] = image.format
            assert image.size == (28, 36)
    assert list(kinds.values()) == ["PNG", "WEBP", "PNG", "JPEG", "TIFF", "PNG"]
    assert upscale(["in"], "jpg", lambda: bicubic, format="jpeg").done == 6
    assert below("jpg") == ["a.jpg", "d.jpg", "deep/c.jpg", "deep/er/b.JPG", "e.jpg", "f.jpg"]


def test_patterns(folder, bicubic):
    for name in ("in/a.png", "in/b.png", "in/deep/c.png", "in/x[1].png", "in/readme.txt"):
        draw(Path(name)) if name.endswith("png") else Path(name).write_text("")
    assert upscale(["in/?.png", "in/x[1].png"], "out", lambda: bicubic).done == 3, "a file of that very name"
    assert upscale(["in/**/*"], "all", lambda: bicubic).done == 4
    assert below("all") == ["a.png", "b.png", "c.png", "x[1].png"]
    with pytest.raises(SrlibError, match=r"^in/\*\.jpg: matches no image$"):
        plan_jobs(["in/*.jpg"], "out")


@pytest.mark.parametrize(
    ("inputs", "out", "options", "message"),
    [
        (["none.png"], "out", {}, "none.png: no such file or folder"),
        (["none", "nor/*"], "out", {}, "none: no such file or folder\nnor/*: matches no image"),
        (["empty"], "out", {}, "empty: no images in it"),
        (["in"], "out.png", {}, "out.png: one file for 2 images of in; name a folder"),
        (["in"], "-", {}, "-o -: expected one image for standard output, got 2; name a folder"),
        (["in/a.png"], "out.gif", {}, "out.gif: expected a name that ends in .png, .jpg, .tif, .webp; the ending"),
        (["in/a.png"], "text.txt", {}, "text.txt: expected a name that ends in"),
        (["in/a.png"], "in/a.png", {"force": True}, "in/a.png: would overwrite the image that it is made from"),
        (["in"], "in", {}, "in: expected another output folder than the input folder itself"),
        (
            ["in/a.png", "in/deep/a.png"],
            "out",
            {},
            "in/deep/a.png and in/a.png would both become out/a.png; rename one",
        ),
        (["in/a.png", "b.jpg"], "out", {"format": "heic"}, "--format: expected png, jpeg, tiff, webp, got heic"),
        (["in/a.png"], "o.png", {"format": "jpeg"}, "o.png: its ending says png, --format says jpeg; leave one out"),
        (["in/a.png"], "in", {}, "in/a.png: would overwrite an image that is to be upscaled"),
        (["-", "in/a.png"], "out.png", {}, "-: a stream is one image; name no other input"),
        (["-"], "out/", {}, "out/: an image from a stream has no name; name a file such as out.png"),
        (["in"], "text.txt", {}, "text.txt: expected a name that ends in"),
    ],
)
def test_mistakes_are_reported_before_any_work(folder, inputs, out, options, message):
    draw(Path("in/a.png"))
    draw(Path("in/deep/a.png"))
    draw(Path("b.jpg"))
    Path("empty").mkdir()
    Path("text.txt").write_text("")
    before = below(".")

    def never():
        raise AssertionError("the model was opened")

    with pytest.raises(SrlibError) as error:
        upscale(inputs, out, never, **options)
    assert str(error.value).startswith(message)
    assert below(".") == before


def test_existing_results_stay_and_are_not_read_again(folder, bicubic):
    for name in "abc":
        draw(Path("in", f"{name}.png"))
    Path("in/big").mkdir()
    Path("in/big/b.png").write_bytes(b"mine")
    assert upscale(["in"], "in/big", lambda: bicubic) == Summary(2, 1)
    assert Path("in/big/b.png").read_bytes() == b"mine"
    assert upscale(["in"], "in/big", lambda: 1 / 0) == Summary(0, 3), "nothing is opened for nothing"
    assert upscale(["in"], "in/big", lambda: bicubic, force=True) == Summary(3, 0)
    assert below("in") == ["a.png", "b.png", "big/a.png", "big/b.png", "big/c.png", "c.png"]
    assert upscale(["**/*.png"], "in/big", lambda: bicubic, force=True) == Summary(3, 0)
    assert upscale(["in/big"], ".", lambda: bicubic) == Summary(3, 0), "into a folder above is no such case"
    assert upscale(["in/big/*"], "in", lambda: bicubic) == Summary(0, 3)


def test_a_bad_image_is_named_and_does_not_stop_the_rest(folder, bicubic):
    for name in "abcd":
        draw(Path("in", f"{name}.png"))
    Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:60])
    Path("in/e.heic").write_bytes(b"")
    draw(Path("in/wide.png"), size=(1, 16400))
    with pytest.raises(SrlibError) as error:
        upscale(["in"], "out", lambda: bicubic, format="jpeg")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("in/b.png: truncated or damaged")
    assert lines[1].startswith("in/e.heic: this image format is not supported")
    assert lines[2].startswith("in/wide.png: 65600×4 pixels are too many for JPEG (at most 65,500 per side); use")
    assert lines[3] == "3 of 6 inputs were left out"
    assert below("out") == ["a.jpg", "c.jpg", "d.jpg"]


def fail_at(name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an error end the writing of a result."""
    write = batch.atomic_path

    @contextlib.contextmanager
    def failing(path):
        with write(path) as temporary:
            yield temporary
            if path.name == name:
                raise error

    monkeypatch.setattr(batch, "atomic_path", failing)


NO_SPACE = OSError(errno.ENOSPC, "No space left on device", "out/b.png")


def test_a_full_disk_stops_the_run(folder, bicubic, monkeypatch):
    for name in "abc":
        draw(Path("in", f"{name}.png"))
    fail_at("b.png", NO_SPACE, monkeypatch)
    line = "out/b.png: No space left on device; 1 images are done, make space and run it again to continue"
    with pytest.raises(SrlibError, match=f"^{line}$"):
        upscale(["in"], "out", lambda: bicubic)
    assert below("out") == ["a.png"]


class TestEarlyEnd:
    """Lines about images that were left out are not lost where a run ends before the last image."""

    @pytest.fixture
    def images(self, folder):
        Path("in").mkdir()
        os.mkfifo("in/0.png")
        Path("in/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        draw(Path("in/b.png"))
        draw(Path("in/c.png"))

    def test_a_full_disk_comes_after_the_lines_so_far(self, images, bicubic, monkeypatch):
        fail_at("b.png", NO_SPACE, monkeypatch)
        with pytest.raises(SrlibError) as error:
            upscale(["in"], "out", lambda: bicubic)
        lines = str(error.value).splitlines()
        assert [line.split(": ")[0] for line in lines] == ["in/0.png", "in/a.png", "out/b.png"]

    @pytest.mark.parametrize("stop", [Stopped(signal.SIGINT), KeyboardInterrupt()])
    def test_a_stop_prints_the_lines_so_far(self, images, bicubic, monkeypatch, capfd, stop):
        fail_at("c.png", stop, monkeypatch)
        with pytest.raises(type(stop)):
            upscale(["in"], "out", lambda: bicubic)
        lines = capfd.readouterr().err.splitlines()[-3:]
        assert lines[0].startswith("in/0.png: expected an image file, got a pipe")
        assert lines[1].startswith("in/a.png: truncated or damaged")
        assert lines[2] == "stopped: 1 images are done, 2 are not; run it again to continue"
        assert getattr(stop, "is_reported", True)

    def test_a_stop_before_the_first_image_has_its_line(self, images, capfd):
        def stop():
            raise Stopped(signal.SIGTERM)

        with pytest.raises(Stopped) as error:
            upscale(["in"], "out", stop)
        assert error.value.is_reported
        first, last = capfd.readouterr().err.splitlines()
        assert first.startswith("in/0.png: expected an image file, got a pipe")
        assert last == "stopped: 0 images are done, 3 are not; run it again to continue"

    def test_a_model_that_cannot_be_opened_is_not_alone(self, images):
        def fail():
            raise SrlibError("no such model")

        with pytest.raises(SrlibError, match=r"^in/0\.png: .*\nno such model$"):
            upscale(["in"], "out", fail)


def test_an_image_is_read_once_for_its_pixels(folder, bicubic, monkeypatch):
    draw(Path("a.jpg"))
    reads, read = [], Path.open

    def count(path, *arguments, **options):
        reads.append(path.name)
        return read(path, *arguments, **options)

    regular = batch.read_regular
    monkeypatch.setattr(Path, "open", count)
    monkeypatch.setattr(batch, "read_regular", lambda path, limit: reads.append("whole") or regular(path, limit=limit))
    upscale(["a.jpg"], "b.png", lambda: bicubic)
    assert reads.count("whole") == 1 and "a.jpg" not in reads


class TestMemory:
    def test_an_image_too_large_is_refused(self, folder, bicubic, monkeypatch):
        draw(Path("a.png"), size=(100, 100))
        draw(Path("b.png"), size=(80, 80))
        monkeypatch.setattr(memory, "free_memory", lambda: 900_000)
        with pytest.raises(SrlibError, match=r"^a.png: 100×100 to 400×400 pixels needs about 0.0 GB of memory"):
            upscale(["a.png"], "c.png", lambda: bicubic)
        assert upscale(["b.png"], "c.png", lambda: bicubic).done == 1
        assert upscale(["a.png"], "d.png", lambda: bicubic, size=output_size(fit=(90, 90))).done == 1

    @pytest.mark.parametrize(
        ("kind", "scale", "format", "bytes_per_pixel"),
        [
            ("8 rgb", 4, "png", 6.5),
            ("8 rgb", 4, "webp", 14.5),
            ("8 rgb", 2, "png", 7.5),
            ("8 rgb", 8, "png", 7.5 * 4),
            ("8 gray", 4, "tif", 7.5),
            ("8 rgb alpha", 4, "png", 12),
            ("16 rgb", 4, "png", 17),
            ("16 rgb", 4, "jpg", 32),
            ("16 rgb alpha", 4, "png", 31),
            ("16 gray", 4, "png", 13.5),
        ],
    )
    def test_depth_and_alpha_count(self, folder, bicubic, monkeypatch, kind, scale, format, bytes_per_pixel):
        dtype = np.uint16 if kind.startswith("16") else np.uint8
        alpha = np.full((50, 60), 7, dtype) if "alpha" in kind else None
        write_image_file(ImageFile(np.full((50, 60, 3), 9, dtype), alpha, "gray" in kind), Path("a.png"))
        calls = []
        monkeypatch.setattr(type(bicubic), "__call__", lambda *a, **options: calls.append(1) or 1 / 0)
        for free, reason in ((-1, "60×50 to .* needs about 0.0 GB of memory"), (0, "unexpected ZeroDivisionError")):
            monkeypatch.setattr(memory, "free_memory", lambda free=free: 50 * 60 * 16 * bytes_per_pixel + free)
            with pytest.raises(SrlibError, match=rf"^a\.png: {reason}"):
                upscale(["a.png"], f"b.{format}", lambda: bicubic, size=output_size(scale=scale))
            assert bool(calls) == (free == 0), "refused before the network runs, or not at all"

    @pytest.mark.parametrize(
        ("extra", "kind", "size", "bytes_per_pixel"),
        [
            ("consistent", "8", (200, 240), 12.5),
            ("consistent", "16", (200, 240), 20),
            ("map", "8", (200, 240), 17.5),
            ("map", "16", (200, 240), 22.5),
            ("uncertainty", "8", (200, 240), 9.5),
            ("map", "8", (25, 30), 7.5 * 4),
        ],
    )
    def test_maps_and_consistency_count(self, folder, monkeypatch, extra, kind, size, bytes_per_pixel):
        options = {"format": "png", "stopwatch": None, "model_scale": 4, "allow_large": False, "extras": [extra]}
        for free in (-1, 0):
            monkeypatch.setattr(memory, "free_memory", lambda free=free: size[0] * size[1] * bytes_per_pixel + free)
            refused = pytest.raises(SrlibError, match="GB of memory") if free else contextlib.nullcontext()
            with refused:
                limits.check_image("a", 50, 60, size, **options, samples=limits.Samples(deep=kind == "16"))

    @pytest.mark.parametrize(("option", "extra"), [("consistent", 12.5), ("map", 17.5)])
    def test_a_run_counts_its_maps_and_consistency(self, folder, bicubic, monkeypatch, option, extra):
        draw(Path("a.png"), size=(50, 60))
        records = Records.at(None, "map.png", "b.png") if option == "map" else None
        monkeypatch.setattr(memory, "free_memory", lambda: 50 * 60 * 16 * extra - 1)
        with pytest.raises(SrlibError, match=r"^a\.png: 60×50 to 240×200 pixels needs about 0.0 GB of memory"):
            upscale(["a.png"], "b.png", lambda: bicubic, records=records, consistent=option == "consistent")
        assert os.listdir() == ["a.png"]

    def test_auto_counts_the_model_that_it_takes(self, folder, monkeypatch):
        """The model for ×2 needs a quarter of what the one for ×4 does, and only the image tells which it is."""
        draw(Path("a.png"), size=(50, 60))
        models = open_any("auto", precision="float32", threads=1)
        monkeypatch.setattr(memory, "free_memory", lambda: 50 * 60 * 4 * 7)
        assert upscale(["a.png"], "b.png", lambda: models, size=output_size(scale=2)).done == 1
        with pytest.raises(SrlibError, match=r"^a\.png: 60×50 to 240×200 pixels needs about 0.0 GB of memory"):
            upscale(["a.png"], "c.png", lambda: models)


def test_what_a_format_cannot_hold_is_printed_once(folder, bicubic, capfd):
    for name in "abc":
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(np.full((5, 5, 4), 128, np.uint8)).save(f"in/{name}.png")
    upscale(["in"], "out", lambda: bicubic, format="jpeg")
    assert capfd.readouterr().err.splitlines()[1:] == [
        "in/a.png and 2 more: JPEG has no transparency: composited onto white"
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_continues(folder, bicubic, number):
    for name in "abcd":
        draw(Path("in", f"{name}.png"))
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert below("out") == ["a.png", "b.png"]
    if number == signal.SIGKILL:
        subprocess.run([sys.executable, "-c", KILLED_WRITER], env=environment, check=False)
        assert any(name.endswith(".tmp") for name in below("out"))
    else:
        assert process.returncode == 128 + number
        assert errors.splitlines()[-1] == "stopped: 2 images are done, 2 are not; run it again to continue"
    before = {name: Path("out", name).stat().st_mtime_ns for name in below("out")}
    assert upscale(["in"], "out", lambda: bicubic) == Summary(2, 2)
    assert below("out") == ["a.png", "b.png", "c.png", "d.png"]
    assert all(Path("out", n).stat().st_mtime_ns == t for n, t in before.items() if not n.startswith("."))


class Stream(io.BytesIO):
    """Standard input or output as a test gives it."""

    @property
    def buffer(self) -> "Stream":
        return self


def test_standard_input_and_output(folder, bicubic, monkeypatch):
    content = draw(Path("a.jpg")).read_bytes()
    out = Stream()
    monkeypatch.setattr(sys, "stdin", Stream(content))
    monkeypatch.setattr(sys, "stdout", out)
    assert upscale(["-"], "-", lambda: bicubic).done == 1
    with Image.open(io.BytesIO(out.getvalue())) as image:
        assert (image.format, image.size) == ("JPEG", (28, 36)), "the format of what came in"
    monkeypatch.setattr(sys, "stdin", Stream(content))
    assert upscale(["-"], "b.png", lambda: bicubic).done == 1
    monkeypatch.setattr(sys, "stdin", Stream(b"text"))
    with pytest.raises(SrlibError, match=r"^standard input: not an image"):
        upscale(["-"], "c.png", lambda: bicubic)
    monkeypatch.setattr(sys, "stdin", Stream(content))
    monkeypatch.setattr(Stream, "isatty", lambda self: True)
    with pytest.raises(SrlibError, match="got a terminal"):
        upscale(["-"], "c.png", lambda: bicubic)
    with pytest.raises(SrlibError, match="an image cannot be shown by a terminal"):
        upscale(["a.jpg"], "-", lambda: bicubic)
    assert below(".") == ["a.jpg", "b.png"]


def test_the_command_line_imports_late():
    heavy = {"numpy", "cv2", "PIL", "openvino", "pydantic"}
    code = f"import sys, srlib.cli; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "srlib.cli", "upscale", *arguments],
        env=environment,
        capture_output=True,
        check=False,
        **options,
    )


def test_mistakes_of_the_command_are_one_line(folder):
    draw(Path("a.png"))
    for arguments, message in [
        (["a.png", "-o", "b.png", "--model", "none"], "error: none: expected a model's folder, an ONNX file, or one"),
        (["a.png", "-o", "b.png", "--scale", "40"], "error: scale: expected a factor from 1 to 16"),
        (["a.png", "-o", "b.png", "--tile", "big"], "error: --tile: expected auto or a number of pixels, got big"),
    ]:
        result = command(*arguments, text=True)
        assert result.returncode == 1 and result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert below(".") == ["a.png"]


def test_a_closed_standard_output_ends_quietly(folder):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from conftest import Bicubic\n"
        "import srlib.inference.upscaler as upscaler; upscaler.open_model = lambda *a, **k: Bicubic()\n"
        "import srlib.cli; sys.argv = ['srlib', 'upscale', 'a.png', '-o', '-']; srlib.cli.main()"
    )
    draw(Path("a.png"), size=(300, 300))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        for _ in range(300):
            if process.poll() is not None:
                break
            time.sleep(0.1)
    assert process.returncode == 1
    assert "Traceback" not in errors and "rror" not in errors
