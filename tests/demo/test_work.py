"""The page's results are those of the command, byte for byte; what it says and shows of them."""

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srlib
from srlib.calibration.uncertainty import draw_map
from srlib.demo import work
from srlib.demo.choices import ModelChoice
from srlib.demo.work import Limits, Settings, upscale_upload
from srlib.errors import SrlibError
from srlib.films import reading
from srlib.imaging.read import image_size
from srlib.inference.output_size import output_size
from srlib.inference.shipped import SHIPPED
from srlib.progress import observed

Photo = Callable[..., Path]
PSNR = ModelChoice("psnr-x4", "psnr-x4", fidelity=1.0)


def run(source: Path, folder: Path, limits: Limits | None = None, **settings: object) -> work.Outcome:
    folder.mkdir()
    return upscale_upload(source, folder, Settings(PSNR, 1.0, **settings), limits or Limits())  # type: ignore[arg-type]


def test_the_bytes_of_the_command(photo: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    source = photo(tmp_path / "photo.jpg", exif=exif, quality=95)
    outcome = run(source, tmp_path / "page", size=output_size(scale="3"), quality=90)
    srlib.upscale_files(source, tmp_path / "command", model="psnr-x4", scale=3, quality=90)
    assert outcome.file.read_bytes() == (tmp_path / "command" / "photo.jpg").read_bytes()
    with Image.open(outcome.file) as image:
        assert image.getexif()[0x010F] == "Camera"
    assert outcome.text.startswith("**Downscaled again, the result is ") and " dB, largest difference " in outcome.text
    assert outcome.detail is None and outcome.map is not None
    assert outcome.sure is None, "measured at ×4 only"
    sizes = {image_size(path) for path in (*outcome.view, outcome.map)}
    assert sizes == {(72, 120)}


def test_small_tiles_give_the_bytes_of_the_command(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_TILE", 20)
    work._open.cache_clear()
    source, parts = photo(tmp_path / "photo.png", 40, 420), list[float]()
    with observed(lambda part, text: parts.append(part)):
        outcome = run(source, tmp_path / "page")
    srlib.upscale_files(source, tmp_path / "command", model="psnr-x4")
    assert outcome.file.read_bytes() == (tmp_path / "command" / "photo.png").read_bytes()
    assert len(set(parts)) > 2 and parts[-1] == 1
    work._open.cache_clear()


def test_a_model_that_changed_is_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    choice = ModelChoice("model", str(folder))
    shutil.copytree(SHIPPED / "fast-x4", folder)
    first = work._opened(choice, None)
    assert work._opened(choice, None) is first and first.scale == 4
    shutil.rmtree(folder)
    shutil.copytree(SHIPPED / "psnr-x2", folder)
    assert work._opened(choice, None).scale == 2


def test_how_sure_a_result_is(photo: Photo, tmp_path: Path) -> None:
    source = photo(tmp_path / "photo.png", 30, 40)
    outcome = run(source, tmp_path / "page", size=output_size(scale="4"))
    assert outcome.sure is not None and image_size(outcome.sure) == (120, 160)
    mean = draw_map(outcome.file, tmp_path / "command.png", "psnr-x4")
    assert outcome.sure.read_bytes() == (tmp_path / "command.png").read_bytes()
    assert f"95 % of the original's pixels lie within {mean:.1f} levels of 255 on average." in outcome.text
    assert run(source, tmp_path / "consistent", consistent=True).sure is None


def test_fidelity_is_that_of_the_command(photo: Photo, tmp_path: Path) -> None:
    source = photo(tmp_path / "photo.png")
    (tmp_path / "page").mkdir()
    outcome = upscale_upload(source, tmp_path / "page", Settings(PSNR, 0.3), Limits())
    assert outcome.sure is None, "not measured for blends"
    expected = srlib.upscale(srlib.read_image(source), model=srlib.open_model("psnr-x4", fidelity=0.3))
    np.testing.assert_array_equal(srlib.read_image(outcome.file), expected)


def test_a_large_result_is_also_shown_in_part_at_full_size(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_LARGEST_VIEW", 80)
    monkeypatch.setattr(work, "_DETAIL", 48)
    outcome = run(photo(tmp_path / "photo.png"), tmp_path / "page")
    assert outcome.detail is not None
    assert [image_size(path) for path in (*outcome.view, *outcome.detail)] == [(48, 80)] * 2 + [(48, 48)] * 2
    result = srlib.read_image(outcome.file)
    np.testing.assert_array_equal(srlib.read_image(outcome.detail[1]), result[24:72, 56:104])
    before = srlib.read_image(outcome.detail[0]).astype(int)
    assert np.abs(before - srlib.read_image(outcome.detail[1])).mean() < 10  # the same place


def test_notes_name_the_file_without_its_folder(tmp_path: Path) -> None:
    rgba = np.full((8, 9, 4), 120, np.uint8)
    rgba[:4, :, 3] = 0
    srlib.write_image(tmp_path / "clear.png", rgba)
    outcome = run(tmp_path / "clear.png", tmp_path / "page", format="jpeg")
    assert outcome.file.name == "clear.jpg" and str(tmp_path) not in outcome.text
    assert "clear.png: transparency" in outcome.text or "white" in outcome.text


def test_a_smaller_result_has_no_score(photo: Photo, tmp_path: Path) -> None:
    outcome = run(photo(tmp_path / "photo.png"), tmp_path / "page", size=output_size(fit="20x20"))
    assert outcome.map is None and "nothing to compare" in outcome.text
    assert "without the network" in outcome.text


def test_refusals_are_one_line_without_folders(photo: Photo, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match=r"^photo\.png: 40×24 pixels are more than this page takes \(0\.0005 megap"):
        run(photo(tmp_path / "photo.png"), tmp_path / "large", Limits(megapixels=0.0005))
    (tmp_path / "broken.png").write_bytes((tmp_path / "photo.png").read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("no image")
    for name in ("broken.png", "notes.txt"):
        with pytest.raises(SrlibError) as error:
            run(tmp_path / name, tmp_path / f"for {name}")
        assert str(error.value).startswith(f"{name}: ") and "\n" not in str(error.value)
        assert str(tmp_path) not in str(error.value)


def write_film(path: Path, count: int, step: int) -> Path:
    """Write a film of gray frames, each brighter than the one before by a step."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), step * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_film(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    write_film(tmp_path / "clip.mp4", 5, 40)
    outcome = run(tmp_path / "clip.mp4", tmp_path / "page", format="png", size=output_size(scale="2"))
    srlib.upscale_film(tmp_path / "clip.mp4", tmp_path / "big.mp4", model="psnr-x4", scale=2)
    assert outcome.is_film and outcome.file.read_bytes() == (tmp_path / "big.mp4").read_bytes()
    assert outcome.map is None and [image_size(path) for path in outcome.view] == [(48, 64)] * 2
    limited = run(tmp_path / "clip.mp4", tmp_path / "limited", Limits(seconds=0.2), size=output_size(scale="2"))
    with av.open(str(limited.file)) as container:
        assert len(list(container.decode(video=0))) == 2


def test_both_frames_of_a_film_show_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result may hold only the first seconds. Of the frames before, none stays in memory."""
    convert, most = reading.RgbConverter.__call__, 0
    frames: list[weakref.ref[np.ndarray]] = []

    def count(self: reading.RgbConverter, *arguments: object) -> np.ndarray:
        nonlocal most
        rgb = convert(self, *arguments)
        frames.append(weakref.ref(rgb))
        most = max(most, sum(reference() is not None for reference in frames))
        return rgb

    monkeypatch.setattr(reading.RgbConverter, "__call__", count)
    source, result = write_film(tmp_path / "source.mp4", 30, 8), write_film(tmp_path / "result.mp4", 8, 8)
    view, _ = work._frames(source, result, tmp_path)
    before, after = (srlib.read_image(path).mean() for path in view)
    assert abs(before - after) < 3 and 50 < after < 62
    assert most <= 4
