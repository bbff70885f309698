"""A network in 8-bit integers beside its float32 form: made, chosen, exact in tiles, and never out of date."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from srlib.calibration.int8_form import add_int8
from srlib.cli import app
from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.imaging.array_image import write_image
from srlib.inference import runtime
from srlib.inference.blending import blend
from srlib.inference.exported import CONFIG, INT8_BIN, INT8_XML, LARGEST_WEIGHT, Int8Form, read_exported
from srlib.inference.quantization import quantize
from srlib.inference.runtime import import_openvino
from srlib.inference.shipped import SHIPPED
from srlib.inference.upscaler import open_model

from ..inference.test_upscaler import write_network

needs_int8 = pytest.mark.skipif(not runtime.has_int8(), reason="this processor has neither AVX2, VNNI nor AMX")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `train` and `test` of parts of a photograph, of which one lies in both."""
    import skimage.data

    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        part = skimage.data.coffee()[40 * number : 40 * number + 160, 100 * number : 100 * number + 200]
        write_image(folder / "train" / f"{number}.png", part)
    (folder / "test").mkdir()
    write_image(folder / "test" / "held-out.png", skimage.data.chelsea()[100:260, 100:300])
    shutil.copy(folder / "train/4.png", folder / "test")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """×2 by four convolutions near repeating pixels, with its int8 form."""
    random = np.random.default_rng(0)
    kernels = [
        0.1 * random.standard_normal(shape) for shape in ((16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (12, 16, 3, 3))
    ]
    for kernel in kernels:
        for index in range(min(12, len(kernel))):
            kernel[index, index % 3, 1, 1] += 0.4
    folder = write_network(tmp_path_factory.mktemp("int8") / "model", kernels, 2, bfloat16=0.001)
    add_int8(folder, photos / "train", photos / "test")
    return folder


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(60, 180, (height, width, 3), np.uint8)


def test_what_is_written(model: Path, photos: Path, tmp_path: Path) -> None:
    config = read_exported(model).config
    assert config.int8 is not None and -0.1 < config.int8.loss < 0.5
    assert sorted(config.int8.files) == [INT8_BIN, INT8_XML]
    graph = import_openvino().Core().read_model(model / INT8_XML)
    kernels = [op for op in graph.get_ops() if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) == 4]
    kinds = [op.get_element_type().get_type_name() for op in kernels if op.get_output_shape(0)[2] == 3]
    assert sorted(kinds) == ["f32", "f32", "i8", "i8"]
    again = shutil.copytree(model, tmp_path / "again")
    report = add_int8(again, photos / "train", photos / "test")
    assert tree_hash(again) == tree_hash(model)
    assert (report.calibrated, report.measured) == (4, 2), "an image for the test is not calibrated on"
    assert report.loss <= report.largest_loss


@needs_int8
def test_auto_takes_it_within_the_bound(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = Int8Form({INT8_XML: "0" * 64, INT8_BIN: "0" * 64}, 0.04, LARGEST_WEIGHT)
    config = dataclasses.replace(read_exported(model).config, int8=form)
    assert runtime.choose_precision("auto", config) == "int8"
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: True)
    lossy = dataclasses.replace(config, int8=dataclasses.replace(form, loss=0.05))
    assert runtime.choose_precision("auto", lossy) == "bfloat16"
    monkeypatch.setattr(runtime, "has_int8", lambda _: False)
    assert runtime.choose_precision("auto", config) == "bfloat16"
    with pytest.raises(SrlibError, match="precision: this processor does not support int8; use auto or float32"):
        runtime.choose_precision("int8", config)
    with pytest.raises(SrlibError, match="precision: Test has no int8 form; `srlib quantize` adds one"):
        runtime.choose_precision("int8", dataclasses.replace(config, int8=None))


@pytest.mark.parametrize(
    ("flags", "usual", "large"),
    [
        ({"avx2"}, True, False),
        ({"avx2", "avx512_vnni"}, True, True),
        ({"amx_int8"}, True, True),
        ({"neon"}, False, False),
    ],
)
def test_large_weights_need_sums_of_32_bits(
    flags: set[str], usual: bool, large: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: False)
    form = Int8Form({INT8_XML: "0" * 64, INT8_BIN: "0" * 64}, 0.01, LARGEST_WEIGHT)
    for largest, is_exact in ((LARGEST_WEIGHT, usual), (127, large)):
        config = dataclasses.replace(
            read_exported(model).config, int8=dataclasses.replace(form, largest_weight=largest)
        )
        assert runtime.choose_precision("auto", config) == ("int8" if is_exact else "float32")


@needs_int8
def test_no_sum_overflows(photos: Path, tmp_path: Path) -> None:
    """In 8-bit integers a network gives what it gives with the same weights in float32, which OpenVINO leaves as is."""
    from openvino import opset13

    shapes = ((16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (12, 16, 3, 3))
    means = [np.full(shape, 1 / (9 * shape[1])) for shape in shapes]  # each weight is the largest
    folder = write_network(tmp_path / "model", means, 2, bfloat16=0.001)
    add_int8(folder, photos / "train", photos / "test")
    exported = read_exported(folder)
    assert exported.int8 is not None
    core = import_openvino().Core()
    graph = core.read_model(*exported.int8)
    for convolution in graph.get_ordered_ops():
        weights = convolution.input_value(1).get_node() if convolution.get_type_name() == "Convolution" else None
        if weights is not None and weights.get_type_name() == "Multiply":
            integers = weights.input_value(0).get_node().input_value(0).get_node().data
            assert np.abs(integers.astype(int)).max() == LARGEST_WEIGHT == exported.config.int8.largest_weight
            values = opset13.constant(integers * weights.input_value(1).get_node().data)
            convolution.input(1).replace_source_output(values.output(0))
    lr = np.ones((1, 20, 30, 3), np.float32)
    graphs = (core.read_model(*exported.int8), graph)
    low, exact = (core.compile_model(g, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([lr])[0] for g in graphs)
    assert np.abs(low - exact).max() < 4 / 255 and np.abs(low - exact).mean() < 0.2 / 255


def test_a_network_whose_sums_would_overflow_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an `openvino-int8` network of an earlier version, which has no other form."""
    exported = read_exported(model)
    assert exported.int8 is not None
    graph = import_openvino().Core().read_model(*exported.int8)
    for node in graph.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i8":
            larger = import_openvino().op.Constant(np.full(node.data.shape, -100, np.int8))
            node.output(0).replace(larger.output(0))
    network = dataclasses.replace(exported, int8=runtime.serialized(graph))
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: frozenset({"avx2", "avx512_vnni"}))
    runtime.CompiledNetwork(network, precision="int8")
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(SrlibError, match="weights of int8 up to 100 need a processor with VNNI or AMX; export"):
        runtime.CompiledNetwork(network, precision="int8")


@needs_int8
@pytest.mark.parametrize("ensemble", [False, True])
def test_any_tiles_give_the_same_bytes(model: Path, ensemble: bool) -> None:
    image = noise(61, 83)
    options: dict[str, Any] = {"precision": "int8", "ensemble": ensemble}
    whole, again = (open_model(str(model), tile=1000, **options)(image) for _ in range(2))
    np.testing.assert_array_equal(again, whole)
    cut = open_model(str(model), tile=9, **options)
    assert cut.tiles(61, 83) > 40
    np.testing.assert_array_equal(cut(image), whole)
    exact = open_model(str(model), precision="float32", ensemble=ensemble)(image)
    assert 0 < np.abs(exact.astype(int) - whole).mean() < 3


@needs_int8
def test_16_bits_stay_in_float32_unless_int8_was_requested(model: Path) -> None:
    image = (257 * noise(9, 11).astype(np.uint32)).astype(np.uint16)
    auto, exact, low = (open_model(str(model), precision=kind)(image) for kind in ("auto", "float32", "int8"))
    np.testing.assert_array_equal(auto, exact)
    assert (low != exact).any()


@needs_int8
def test_the_fingerprint_names_the_form(model: Path) -> None:
    assert (
        open_model(str(model), precision="int8").fingerprint != open_model(str(model), precision="float32").fingerprint
    )


def test_other_files_than_those_measured_are_refused(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "changed")
    (folder / INT8_XML).write_bytes((model / INT8_XML).read_bytes() + b" ")
    with pytest.raises(SrlibError, match=r"int8\.xml: not the file that was exported \(its SHA-256 differs\)"):
        read_exported(folder)
    (folder / INT8_XML).unlink()
    with pytest.raises(SrlibError, match=r"changed: int8\.xml is missing"):
        read_exported(folder)


def test_a_blend_has_no_int8_form(model: Path) -> None:
    network = read_exported(model)
    blended = blend(network, network, 0.5)
    assert blended.config.int8 is None and blended.int8 is None
    assert blend(network, network, 1).int8 == network.int8


def test_mistakes_are_one_line(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SrlibError, match="empty: no images in it"):
        add_int8(model, tmp_path / "empty", photos / "test")
    with pytest.raises(SrlibError, match=r"holds only images that are in .*train too; expected others"):
        add_int8(model, photos / "train", photos / "train")
    with pytest.raises(SrlibError, match="expected an exported model"):
        add_int8(tmp_path / "empty", photos / "train", photos / "test")
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "arithmetic": "int8"}))
    with pytest.raises(SrlibError, match="expected a model in OpenVINO's format and float32"):
        add_int8(folder, photos / "train", photos / "test")
    with pytest.raises(SrlibError, match="int8: expected a network of more than two convolutions, and"):
        quantize(import_openvino().Core().read_model(model / "model.xml"), [])


def test_an_image_that_cannot_be_used_is_left_out(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = shutil.copytree(model, tmp_path / "model"), shutil.copytree(photos, tmp_path / "images")
    write_image(images / "train/tiny.png", np.zeros((5, 9, 3), np.uint8))
    (images / "test/damaged.png").write_bytes((photos / "test/held-out.png").read_bytes()[:999])
    write_image(images / "test/white.png", np.full((60, 60, 3), 255, np.uint8))  # restored without any error
    report = add_int8(folder, images / "train", images / "test")
    assert (report.calibrated, report.measured) == (4, 3)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert "tiny.png: expected at least 6×6 pixels" in lines[0] and "damaged.png: " in lines[1]


def test_a_failure_leaves_the_form_that_was_there(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/damaged.png").write_bytes((photos / "test/held-out.png").read_bytes()[:999])
    with pytest.raises(SrlibError, match=r"damaged\.png: (.|\n)*test: no image to measure the loss on can be used"):
        add_int8(folder, photos / "train", tmp_path / "test")
    assert tree_hash(folder) == tree_hash(model)


def test_the_command_prints_the_loss(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    arguments = ["quantize", str(folder), "--images", str(photos / "train"), "--test", str(photos / "test")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "int8.xml and int8.bin, 0.0 MB, calibrated on 4 images\n" in result.stdout
    assert "mean PSNR-Y on 2 other images: float32 " in result.stdout and " dB on one image" in result.stdout


@needs_int8
@pytest.mark.parametrize("name", [path.parent.name for path in sorted(SHIPPED.glob(f"*/{INT8_XML}"))])
def test_the_shipped_forms(name: str) -> None:
    import skimage.data

    loss = read_exported(SHIPPED / name).config.int8.loss  # type: ignore[union-attr]
    assert loss < runtime.LARGEST_INT8_LOSS and open_model(name).precision == "int8"
    image = np.ascontiguousarray(skimage.data.astronaut()[100:180:2, 180:260:2])
    exact, low = (open_model(name, precision=kind) for kind in ("float32", "int8"))
    assert np.sqrt(np.mean((exact(image).astype(float) - low(image)) ** 2)) < 3
    if "psnr" in name:  # trained to be equivariant
        turned = np.rot90(low(np.ascontiguousarray(np.rot90(image))), -1)
        assert np.abs(turned.astype(int) - low(image)).max() <= 1
