"""The upscaler on small networks built in OpenVINO itself: tiles, depths, the ensemble, options, memory."""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as opset

from srlib.errors import SrlibError
from srlib.files import file_hash, write_json
from srlib.imaging.array_image import write_image
from srlib.imaging.resize import resize
from srlib.inference import exported, runtime, shipped, tiles
from srlib.inference import upscaler as upscaling
from srlib.inference.choice import open_any
from srlib.inference.image_files import upscale_files
from srlib.inference.upscale import upscale
from srlib.inference.upscaler import Upscaler, open_model


def write_network(folder: Path, kernels: list[np.ndarray], scale: int, channels: str = "rgb", **more: Any) -> Path:
    """A chain of convolutions [out, in, k, k] with zero padding and ReLU between them, then a sub-pixel step."""
    folder.mkdir(parents=True, exist_ok=True)
    lr = opset.parameter([1, -1, -1, kernels[0].shape[1]], np.float32)
    x: Any = opset.transpose(lr, [0, 3, 1, 2])
    for index, kernel in enumerate(kernels):
        pad = [kernel.shape[2] // 2] * 2
        x = opset.relu(x) if index else x
        x = opset.convolution(x, opset.constant(kernel.astype(np.float32)), [1, 1], pad, pad, [1, 1])
    x = opset.transpose(opset.depth_to_space(x, "blocks_first", scale), [0, 2, 3, 1])
    ov.save_model(ov.Model([x], [lr]), folder / exported.XML, compress_to_fp16=False)
    files = {name: file_hash(folder / name) for name in (exported.BIN, exported.XML)}
    reach = sum(kernel.shape[2] // 2 for kernel in kernels)
    config = exported.ExportConfig(
        "test", "Test", scale, channels, (0.0, 1.0), "pixel", reach, 4 * sum(len(k) for k in kernels), files, **more
    )  # fmt: skip
    write_json(folder / exported.CONFIG, config.as_dict())
    return folder


@pytest.fixture(scope="module")
def nearest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """×4 by repeating pixels: what comes out is known."""
    kernel = np.tile(np.eye(3), (16, 1)).reshape(48, 3, 1, 1)
    return str(write_network(tmp_path_factory.mktemp("nearest"), [kernel], 4))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """×2 by three random convolutions of 5×5, 3×3 and 3×3."""
    random = np.random.default_rng(0)
    shapes = [(16, 3, 5, 5), (16, 16, 3, 3), (12, 16, 3, 3)]
    kernels = [random.normal(0.02, 1 / math.sqrt(math.prod(shape[1:])), shape) for shape in shapes]
    return str(write_network(tmp_path_factory.mktemp("chain"), kernels, 2, bfloat16=0.001))


def noise(height: int, width: int, dtype: Any = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(height * 1000 + width).integers(0, top, (height, width, 3), dtype, endpoint=True)


def test_threads_may_share_an_upscaler(chain: str) -> None:
    upscaler = open_model(chain, threads=1)
    images = [np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8) for seed in range(4)]
    expected = [upscaler(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(upscaler, 50 * images))
    for result, one in zip(results, 50 * expected, strict=True):
        np.testing.assert_array_equal(result, one)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 3), (33, 47)])
def test_every_level_of_both_depths_comes_back(nearest: str, size: tuple[int, int], dtype: Any) -> None:
    image = noise(*size, dtype)
    got = open_model(nearest, precision="float32")(image)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, image.repeat(4, axis=0).repeat(4, axis=1))


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_tiles_give_the_whole_image(chain: str, height: int, width: int, side: int) -> None:
    image = noise(height, width)
    whole, cut = (_opened(chain, tile)(image) for tile in (1000, side))
    assert np.abs(whole.astype(int) - cut).max() <= 1
    assert np.mean(whole != cut) < 1e-3


def _opened(chain: str, tile: int) -> Upscaler:
    return open_model(chain, precision="float32", tile=tile)


def test_one_pixel_less_overlap_shows(chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(50, 50)
    whole = open_model(chain, precision="float32", tile=1000)(image)
    cut = open_model(chain, precision="float32", tile=9)
    cut.receptive_field -= 1
    assert np.abs(whole.astype(int) - cut(image)).max() > 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_progress_counts_every_pixel_once(chain: str, dtype: Any) -> None:
    upscaler, done = open_model(chain, tile=16), []
    upscaler(noise(50, 70, dtype), on_pixels=done.append)
    assert len(done) == upscaler.tiles(50, 70) > 4
    assert sum(done) == 50 * 70


def test_the_ensemble_rotates_with_the_image(chain: str) -> None:
    upscaler, single = (open_model(chain, ensemble=one, precision="float32") for one in (True, False))
    image = noise(23, 31)
    turned = np.ascontiguousarray(np.rot90(image[:, ::-1]))
    got = np.rot90(upscaler(turned), -1)[:, ::-1]
    assert np.abs(got.astype(int) - upscaler(image)).max() <= 1
    assert np.abs(np.rot90(single(turned), -1)[:, ::-1].astype(int) - single(image)).max() > 1


def test_the_ensemble_is_averaged_before_it_is_rounded(chain: str) -> None:
    image = noise(20, 20)
    network = runtime.CompiledNetwork(exported.read_exported(Path(chain)), precision="float32")
    views = []
    for turns in range(4):
        for flipped in (False, True):
            view = np.rot90(image[:, ::-1] if flipped else image, turns).astype(np.float32) / np.float32(255)
            sr = np.rot90(network(view), -turns)
            views.append(sr[:, ::-1] if flipped else sr)
    mean = np.mean(np.array(views, np.float64), axis=0)
    expected = np.floor(np.clip(mean, 0, 1) * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(open_model(chain, ensemble=True, precision="float32")(image), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_luma_network_leaves_chroma_to_bicubic(tmp_path: Path, dtype: Any) -> None:
    """The network repeats luma: the result has that luma, and bicubic's differences between R, G and B."""
    folder = write_network(tmp_path / "luma", [np.ones((4, 1, 1, 1))], 2, "luma-studio")
    image = noise(30, 20, dtype) // 2 + np.iinfo(dtype).max // 4
    whole, cut = (open_model(str(folder), tile=tile, precision="float32")(image) for tile in (1000, 8))
    np.testing.assert_array_equal(whole, cut)
    weights = np.array([65.481, 128.553, 24.966]) / 219
    expected = (image @ weights).repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(whole @ weights - expected).max() < 0.6
    bicubic = resize(image, 2).astype(float)
    assert np.abs((whole - bicubic) - (whole - bicubic).mean(axis=2, keepdims=True)).max() <= 1.01


class TestPrecision:
    def test_auto_takes_bfloat16_where_it_is_harmless(self, chain: str, nearest: str) -> None:
        assert open_model(nearest).precision == "float32"
        assert open_model(chain).precision == ("bfloat16" if runtime.has_bfloat16() else "float32")

    @pytest.mark.parametrize(("loss", "expected"), [(0.0099, True), (-0.0099, True), (0.01, False), (-0.5, False)])
    def test_what_counts_as_harmless(self, chain: str, loss: float, expected: bool, monkeypatch: Any) -> None:
        import dataclasses

        config = dataclasses.replace(exported.read_exported(Path(chain)).config, bfloat16=loss)
        monkeypatch.setattr(runtime, "has_bfloat16", lambda: True)
        assert (runtime.choose_precision("auto", config) == "bfloat16") == expected
        monkeypatch.setattr(runtime, "has_bfloat16", lambda: False)
        assert runtime.choose_precision("auto", config) == "float32"

    def test_sixteen_bits_are_computed_in_float32(self, chain: str) -> None:
        image = noise(20, 20, np.uint16)
        got, expected = (open_model(chain, precision=kind)(image) for kind in ("auto", "float32"))
        np.testing.assert_array_equal(got, expected)

    def test_bfloat16_is_near(self, chain: str) -> None:
        if not runtime.has_bfloat16():
            pytest.skip("this processor has no bfloat16")
        image = noise(40, 40)
        low, high = (open_model(chain, precision=kind)(image).astype(int) for kind in ("bfloat16", "float32"))
        assert 0 < np.abs(low - high).max() < 16

    def test_bfloat16_is_refused_where_there_is_none(self, chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "has_bfloat16", lambda: False)
        with pytest.raises(SrlibError, match="precision: this processor does not support bfloat16"):
            open_model(chain, precision="bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision: expected auto, float32, bfloat16 or int8, got half"),
        ({"tile": 0}, "tile: expected a side from 1 pixel, got 0"),
        ({"threads": 0}, "threads: expected a number from 1, got 0"),
        ({"threads": 1.5}, r"threads: expected a number from 1, got 1\.5"),
        ({"tile": "64"}, "tile: expected a side from 1 pixel, got '64'"),
        ({"fidelity": "0.5"}, r"fidelity: expected a number from 0 \(GAN weights\) to 1 \(PSNR weights\), got '0\.5'"),
        ({"fidelity": 0.5}, "fidelity needs two models"),
    ],
)
def test_options_out_of_range_are_named(nearest: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SrlibError, match=message):
        open_model(nearest, **options)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="nothing-here: expected a model's folder, an ONNX file, or one of the models"):
        open_model("nothing-here")


def test_a_model_may_be_a_path(nearest: str) -> None:
    lr = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    for upscaled in (open_model(Path(nearest))(lr), upscale(lr, model=Path(nearest))):
        np.testing.assert_array_equal(upscaled, open_model(nearest)(lr))


@pytest.mark.parametrize("model", [None, 4, b"psnr-x4", ["psnr-x4"]])
def test_what_is_no_model_is_one_line(model: Any, tmp_path: Path) -> None:
    lr = np.zeros((6, 7, 3), np.uint8)
    write_image(tmp_path / "a.png", lr)
    for run in (
        lambda: open_model(model),
        lambda: open_any(model),
        lambda: upscale(lr, model=model),
        lambda: upscale_files(tmp_path / "a.png", tmp_path / "b.png", model=model),
    ):
        with pytest.raises(SrlibError) as error:
            run()
        assert str(error.value) == f"model: expected a name, a folder or a file, got {model!r}"


def test_files_are_upscaled_by_a_model_given_as_path(nearest: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((6, 7, 3), np.uint8))
    assert upscale_files(tmp_path / "a.png", tmp_path / "b.png", model=Path(nearest)).done == 1


def test_options_of_numpy(nearest: str, chain: str, tmp_path: Path) -> None:
    plain = {"tile": 200, "threads": 1, "ensemble": True}
    numpy = {"tile": np.uint8(200), "threads": np.int64(1), "ensemble": np.True_}
    one, same = open_model(chain, **plain), open_model(chain, **numpy)
    assert one.fingerprint == same.fingerprint
    assert one.tiles(300, 300) == same.tiles(300, 300) == 4
    write_image(tmp_path / "a.png", noise(6, 7))
    for name, quality in (("b.jpg", 80), ("c.jpg", np.uint8(80))):
        upscale_files(tmp_path / "a.png", tmp_path / name, model=nearest, quality=quality)
    assert file_hash(tmp_path / "b.jpg") == file_hash(tmp_path / "c.jpg")
    with pytest.raises(SrlibError, match=r"^quality: expected a whole number from 1 to 100, got 80\.5$"):
        upscale_files(tmp_path / "a.png", tmp_path / "d.jpg", model=nearest, quality=80.5)


def test_a_blend_has_one_fingerprint() -> None:
    """It decides whether an interrupted film continues; OpenVINO numbers nodes over the whole process."""
    blends = [open_model("fast-x4", gan="fast-x4", fidelity=share, threads=1) for share in (0.5, 0.25, 0.5)]
    first, other, again = (blend.fingerprint for blend in blends)
    assert first == again != other


def test_a_result_beyond_the_memory_is_one_line(nearest: str) -> None:
    image = np.broadcast_to(np.uint8(0), (10**6, 10**6, 3))
    with pytest.raises(SrlibError, match=r"^1000000×1000000 to 4000000×4000000 pixels needs about 48000\.0 GB"):
        open_model(nearest)(image)


def test_a_config_without_keys(tmp_path: Path) -> None:
    (tmp_path / exported.CONFIG).write_text(json.dumps({"scale": 4}))
    (tmp_path / exported.XML).write_text("")
    with pytest.raises(SrlibError, match="not an exported model's config"):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_arrays_are_refused(nearest: str, image: np.ndarray) -> None:
    with pytest.raises(SrlibError, match="expected an image"):
        open_model(nearest)(image)


def test_a_network_that_has_diverged_is_named(tmp_path: Path) -> None:
    folder = write_network(tmp_path / "bad", [np.full((12, 3, 1, 1), np.nan)], 2)
    with pytest.raises(SrlibError, match="not finite"):
        open_model(str(folder), precision="float32")(noise(4, 4))


def test_little_memory_makes_small_tiles(chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = open_model(chain)
    few = upscaler.tiles(3000, 4000)
    monkeypatch.setattr(upscaling, "free_memory", lambda: 3 * 6000 * 8000 + 2**24)
    assert upscaler.tiles(3000, 4000) > 4 * few
    monkeypatch.setattr(upscaling, "free_memory", lambda: 0)
    assert upscaler.tiles(30, 40) >= 1


def test_shipped_models_are_whole() -> None:
    for name in shipped.shipped_models():
        model = exported.read_exported(shipped.SHIPPED / name)
        assert name.endswith(f"x{model.config.scale}")
        assert tiles.grid(100, 100, overlap=model.config.receptive_field, largest=2**20)


def test_the_pipeline_is_not_needed(chain: str) -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['tensorflow', 'keras', 'cv2', 'mlflow', 'dvc', 'yaml', 'pydantic', 'psutil'])\n"
        "import numpy as np\nimport srlib.cli, srlib.inference.image_files\n"
        "from srlib.inference.upscaler import open_model\n"
        "print(open_model(sys.argv[1])(np.zeros((5, 7, 3), np.uint8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, chain], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["(10,", "14,", "3)"]
