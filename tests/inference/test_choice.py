"""`auto`: the model that fits each image; and warnings of images that a model was not trained for."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

import srlib
from srlib.errors import SrlibError
from srlib.imaging.array_image import from_array
from srlib.imaging.input_range import CLEAN, InputRange
from srlib.imaging.resize import downscale
from srlib.inference import choice, input_traces, inspection, runtime, shipped
from srlib.inference.batch import run_jobs
from srlib.inference.choice import AutoModel, open_any
from srlib.inference.input_traces import InputTraces, traces_of
from srlib.inference.jobs import plan_jobs
from srlib.inference.notes import Note, Notes
from srlib.inference.records import Records


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """A photograph without noise and JPEG traces."""
    return downscale(data.astronaut(), 2)[:160, :160]


def jpeg(image: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return out.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_traces_of_clean_compressed_and_noisy_images(clean: np.ndarray) -> None:
    assert traces_of(clean).is_clean
    assert traces_of(clean).in_words() == "no visible noise"
    strong = jpeg(clean, 40)
    traces = traces_of(pixels(strong), strong)
    assert traces.jpeg_quality == 40 and not traces.is_clean
    assert not traces_of(pixels(strong)).is_clean, "a PNG of a JPEG shows its blocks"
    again = jpeg(pixels(strong), 96)
    assert not traces_of(pixels(again), again).is_clean, "and so does a JPEG that was saved again"
    noise = np.random.default_rng(0).normal(0, 9, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    assert not traces_of(noisy).is_clean and "noise about" in traces_of(noisy).in_words()
    flat = np.clip(np.random.default_rng(0).normal(120, 9, (256, 256, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    strong = jpeg(flat, 80)
    assert traces_of(pixels(strong), strong).in_words() == "JPEG quality 80, noise about 9 levels"


def test_the_header_alone_gives_the_quality(clean: np.ndarray) -> None:
    assert traces_of(clean, jpeg(clean, 55), estimate=False) == InputTraces(jpeg_quality=55)
    assert traces_of(clean, b"\xff\xd8 damaged", estimate=False) == InputTraces()
    assert traces_of(clean[:50], jpeg(clean, 55)) == InputTraces(jpeg_quality=55), "too small to estimate the rest"


def test_auto_takes_the_model_that_fits(clean: np.ndarray) -> None:
    models = open_any("auto", precision="float32", threads=1)
    assert isinstance(models, AutoModel)
    assert models.fitting(InputTraces(noise=1.0)).name == "free-x4"
    assert models.fitting(InputTraces(noise=9.0)).name == "photo-x4"
    assert models.fitting(InputTraces(blur=3.0)).name == "free-x4", "blur does not decide"
    assert models.fitting(InputTraces(noise=9.0)) is models.fitting(InputTraces(jpeg_quality=20)), "opened once"
    lr = np.ascontiguousarray(clean[:100, :100])
    np.testing.assert_array_equal(srlib.upscale(lr, model="auto"), srlib.upscale(lr, model="free-x4"))


@pytest.mark.parametrize(
    ("factor", "model"),
    [("1", "psnr-x2"), ("2", "psnr-x2"), ("9/4", "psnr-x3"), ("3", "psnr-x3"), ("4", "free-x4"), ("16", "free-x4")],
)
def test_auto_takes_the_model_of_the_next_factor(factor: str, model: str) -> None:
    models = open_any("auto", precision="float32", threads=1)
    assert isinstance(models, AutoModel)
    assert models.fitting(InputTraces(), Fraction(factor)).name == model
    assert models.fitting(InputTraces(noise=9.0), Fraction(factor)).name == "photo-x4", "it has one factor"
    blended = open_any("auto", fidelity=0.5)
    assert isinstance(blended, AutoModel)
    assert blended.fitting(InputTraces(), Fraction(factor)).name == "free-x4 fidelity 0.5", "as has gan-x4"


@pytest.mark.parametrize("size", [{"scale": 2}, {"fit": (150, 190)}, {"width": 150, "height": 10}])
def test_arrays_and_files_get_the_model_of_their_factor(
    size: dict[str, Any], clean: np.ndarray, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lr = np.dstack([clean[:100, :100], np.linspace(0, 255, 100).astype(np.uint8)[None].repeat(100, axis=0)])
    expected = srlib.upscale(lr, model="psnr-x2", **size)
    np.testing.assert_array_equal(srlib.upscale(lr, **size), expected)
    srlib.write_image("a.png", lr)
    srlib.upscale_files("a.png", "b.png", **size)
    np.testing.assert_array_equal(np.asarray(Image.open("b.png")), expected)
    assert "a.png: psnr-x2 (no visible noise)" in capfd.readouterr().err


def test_a_size_beyond_the_factor_is_said(clean: np.ndarray, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    srlib.write_image("a.png", np.ascontiguousarray(clean[:20, :30]))
    for scale, expected in ((2, False), (4, True)):
        srlib.upscale_files("a.png", f"{scale}.png", model="psnr-x2", scale=scale)
        assert ("a.png: the network upscales by 2, the rest is bicubic" in capfd.readouterr().err) == expected


def test_an_installation_without_the_smaller_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "shipped_models", lambda: ["free-x4", "photo-x4"])
    models = open_any("auto")
    assert isinstance(models, AutoModel)
    assert models.fitting(InputTraces(), Fraction(2)).name == "free-x4"


def test_auto_of_files_prints_models_and_reasons(
    clean: np.ndarray, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Image.fromarray(clean).save("in/clean.png")
    Path("in/strong.jpg").write_bytes(jpeg(clean, 30))
    run_jobs(
        plan_jobs(["in"], "out"), lambda: open_any("auto", fidelity=0.5), records=Records.at("scores.csv", None, "out")
    )
    lines = capfd.readouterr().err.splitlines()
    assert "in/clean.png: free-x4 fidelity 0.5 (no visible noise)" in lines
    assert any(line.startswith("in/strong.jpg: photo-x4 fidelity 0.5 (JPEG quality 30,") for line in lines)
    first, second = Path("scores.csv").read_text().splitlines()[1:]
    assert ",free-x4 fidelity 0.5," in first and ",photo-x4 fidelity 0.5," in second and ",30," in second


def test_many_images_share_few_lines(clean: np.ndarray) -> None:
    image, models = from_array(np.ascontiguousarray(clean[:100, :100])), open_any("auto")
    contents = (b"", jpeg(clean, 33), jpeg(clean, 37))
    looks = [inspection.look_at(image, content, models, Fraction(4), estimate=False) for content in contents]
    assert [look.model.name for look in looks] == ["free-x4", "photo-x4", "photo-x4"]
    notes = Notes()
    for name, look in zip(("a", "b", "c"), looks, strict=True):
        notes.add(look.notes[0], name)
    assert [line.partition(",")[0] for line in notes.print()] == [
        "a: free-x4 (no visible noise)",
        "b and 1 more: photo-x4 (JPEG quality 30 to 39",
    ]


def test_a_choice_for_one_image_of_many_names_its_figures() -> None:
    notes = Notes()
    for quality, name in ((74, "a"), (33, "b"), (37, "c")):
        traces = InputTraces(jpeg_quality=quality)
        notes.add(Note(traces.in_words(exact=False), traces.in_words()), name)
    notes.add("cut", "a")
    assert notes.print() == (
        "a: JPEG quality 74, too small to estimate noise",
        "b and 1 more: JPEG quality 30 to 39, too small to estimate noise",
        "a: cut",
    )


def test_auto_needs_both_models_and_no_gan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match=r"^gan: auto has GAN counterparts of its own"):
        open_any("auto", fidelity=0.5, gan="gan-x4")
    monkeypatch.setattr(choice, "shipped_models", lambda: ["free-x4"])
    with pytest.raises(SrlibError, match=r"^auto: needs photo-x4, which is not in this installation"):
        open_any("auto")
    with pytest.raises(SrlibError, match=r"^auto: `srlib upscale` and .* choose a model for each image; here, name"):
        srlib.open_model("auto")


def test_a_pair_is_blended_by_its_own_counterpart() -> None:
    blended = srlib.open_model("photo-gan-x4", fidelity=0.5)
    assert blended.name == "photo-x4 fidelity 0.5"
    with pytest.raises(SrlibError, match="fidelity needs two models"):
        srlib.open_model("other-x4", fidelity=0.5)


def test_images_outside_of_the_training_give_one_line(
    clean: np.ndarray, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name, quality in (("a", 30), ("b", 40), ("c", 95)):
        Path(f"in/{name}.jpg").write_bytes(jpeg(clean[:40, :40], quality))
    srlib.upscale_files("in", "out", model="psnr-x4")
    lines = capfd.readouterr().err.splitlines()
    low = f"{CLEAN.jpeg_quality[0]:g}"
    assert lines[-1] == (
        f"in/a.jpg and 1 more: JPEG quality below {low}: psnr-x4 was not trained for such images; try --model photo-x4"
    )


@pytest.mark.parametrize(
    ("model", "better"),
    [
        *[(name, "photo-x4") for name in ("psnr-x4", "psnr-x2", "free-x4", "fast-x4", "psnr-x4 fidelity 0.5")],
        ("gan-x4", "photo-gan-x4"),
    ],
)
def test_models_for_clean_images_name_the_one_for_photographs(model: str, better: str) -> None:
    (note,) = inspection.range_notes(model, CLEAN, InputTraces(noise=20))
    assert note.endswith(f"{model} was not trained for such images; try --model {better}")


@pytest.mark.parametrize("model", ["photo-x4", "photo-gan-x4", "photo-x4 fidelity 0.5", "psnr-x4-mine", "other"])
def test_no_other_model_is_named_for_these(model: str) -> None:
    (note,) = inspection.range_notes(model, CLEAN, InputTraces(noise=20))
    assert note.endswith("artifacts may remain or grow")


def test_auto_at_fidelity_0_is_the_gan_that_fits(clean: np.ndarray) -> None:
    lr = np.ascontiguousarray(clean[:100, :100])
    noisy = np.clip(lr + np.random.default_rng(0).normal(0, 9, lr.shape), 0, 255).astype(np.uint8)
    models = open_any("auto", fidelity=0)
    for image, model in ((lr, "gan-x4"), (noisy, "photo-gan-x4")):
        assert models.fitting(traces_of(image)).name == model
        np.testing.assert_array_equal(models(image), srlib.upscale(image, model=model))


@pytest.mark.parametrize("model", ["auto", "free-x4"])
def test_a_blend_in_int8_is_refused_before_any_work(model: str) -> None:
    with pytest.raises(SrlibError, match="precision: expected auto, bfloat16 or float32 for a blend"):
        open_any(model, fidelity=0.5, precision="int8")
    if runtime.has_int8():
        open_any(model, fidelity=1, precision="int8")


def test_a_gan_belongs_to_the_first_pair_that_names_it() -> None:
    assert srlib.open_model("gan-x4", fidelity=1).name == "free-x4"
    assert srlib.open_model("psnr-x4", fidelity=0).name == "gan-x4"


def test_warnings_name_both_sides_of_a_range() -> None:
    inputs = InputRange(noise=(5, 10), jpeg_quality=(60, 80))
    text = inspection.range_notes("mine", inputs, InputTraces(noise=20, blur=2, jpeg_quality=95))
    assert text == (
        "noise above 10 levels, blur above 1 pixels, JPEG quality above 80: mine was not trained for such images; "
        "artifacts may remain or grow",
    )
    assert inspection.range_notes("mine", inputs, InputTraces(noise=7, blur=0.5, jpeg_quality=70)) == ()
    assert inspection.range_notes("foreign", None, InputTraces(noise=90)) == ()
    assert input_traces.VISIBLE_BLOCKS > 0.2, "images that were never compressed stay below"


def test_fidelity_needs_all_counterparts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "shipped_models", lambda: ["free-x4", "gan-x4", "photo-x4"])
    with pytest.raises(SrlibError, match="fidelity: not all models behind auto have a GAN counterpart"):
        open_any("auto", fidelity=0.5)


def test_the_fingerprint_depends_on_what_this_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_any("auto").fingerprint
    assert open_any("auto").fingerprint == before
    monkeypatch.setattr(choice, "choose_precision", lambda precision, config: "another")
    assert open_any("auto").fingerprint != before
