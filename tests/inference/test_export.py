"""Every network as OpenVINO and ONNX files: the same images as Keras, the same bytes again, blending."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.imaging.write import write_png
from srlib.inference import convert, runtime
from srlib.inference import export as exporter
from srlib.inference import exported as model_files
from srlib.inference.blending import blend, check_precision
from srlib.inference.export_formats import FORMATS
from srlib.inference.shipped import SHIPPED
from srlib.inference.upscaler import open_model
from srlib.models.registry import MODELS

ROOT = Path(__file__).parents[2]

# Name → options and scale that keep the test quick; a network that is not listed is tested with its defaults at ×4.
SMALL = {
    "edsr": ({"blocks": 2, "filters": 8}, 4),
    "srresnet": ({"blocks": 1, "filters": 8}, 2),
    "compact": ({"blocks": 1, "filters": 8}, 3),
    "large_kernel": ({"blocks": 1, "filters": 8, "every": 1, "size": 5, "large_filters": 8}, 4),
    "srcnn": ({"filters": 8}, 3),
    "espcn": ({"filters": 8}, 4),
    "fsrcnn": ({"filters": 8}, 3),
}


def made(name: str, folder: Path, seed: int = 1, change: int = 1) -> Path:
    """A network with random weights and biases; random so that nothing folds away. Another `change`: a related one."""
    import keras

    from srlib.models import ModelConfig, build, save_model

    keras.utils.set_random_seed(seed)
    options, scale = SMALL.get(name, ({}, 4))
    config = ModelConfig(name, scale, options, channels=MODELS[name].channels)
    model = build(config)
    random = np.random.default_rng(change)
    for variable in model.weights:
        value = np.asarray(variable)
        if "variance" not in variable.path:
            variable.assign(value + 0.02 * random.standard_normal(value.shape).astype(np.float32))
    save_model(model, config, folder)
    return folder


AFTER_A_USE = """
import pathlib, shutil, sys
import keras
keras.config.set_floatx("float16")
keras.ops.sum(keras.ops.ones((2, 3)))
import srlib
from srlib.inference import convert
folder = pathlib.Path(sys.argv[1])
convert.from_keras = lambda model, path: shutil.copy(folder / f"{model.name}.onnx", path)
print(srlib.open_model(folder / "edsr").scale, keras.config.floatx())
"""
"""A notebook that has computed with Keras before it opens a model of its own."""

CONVERT = """
import pathlib, sys
from srlib.inference.convert import convert
folder = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    convert(folder / name, folder / f"{name}.onnx")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of all kinds, each converted to ONNX beside it, one after the other in one process."""
    folder = tmp_path_factory.mktemp("models")
    names = [*MODELS, "gan", "stranger"]
    for name in MODELS:
        made(name, folder / name)
    made("edsr", folder / "gan", change=2)
    made("edsr", folder / "stranger", seed=2)
    subprocess.run([sys.executable, "-c", CONVERT, str(folder), *names], check=True, capture_output=True)
    return folder


def converted(sources: Path) -> Callable[[Path, Path], None]:
    """Return a `convert.from_keras` that takes the ONNX file that is there, and converts to LiteRT in this process."""

    def from_keras(folder: Path, path: Path) -> None:
        if path.suffix == ".onnx":
            shutil.copy(sources / f"{folder.name}.onnx", path)
        else:
            convert.convert(folder, path)

    return from_keras


@pytest.fixture
def at_once(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export takes what is converted already."""
    monkeypatch.setattr(convert, "from_keras", converted(sources))


@pytest.fixture(scope="module")
def exported(sources: Path) -> dict[str, tuple[Path, exporter.ExportReport]]:
    exports = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "from_keras", converted(sources))
        for path in sorted(sources.glob("*.onnx")):
            out = sources / f"{path.stem}.light"
            exports[path.stem] = out, exporter.export(sources / path.stem, out, format="openvino")
        out = sources / "onnx.light"
        exports["onnx"] = out, exporter.export(sources / "edsr", out, format="onnx")
    return exports


@pytest.fixture
def image() -> np.ndarray:
    y, x = np.mgrid[:37, :45]
    waves = [128 + 100 * np.sin(x / 3 + k) * np.cos(y / (4 + k)) for k in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", list(MODELS))
def test_images_equal_those_of_keras(
    exported: dict[str, tuple[Path, exporter.ExportReport]], image: np.ndarray, name: str
) -> None:
    from srlib.evaluation.methods import upscale_function
    from srlib.models import load_model

    if name not in exported:
        pytest.skip(f"{name} is not among the networks")
    folder, check = exported[name]
    expected = upscale_function(load_model(folder.with_suffix(""))[0])(image)
    got = open_model(str(folder), precision="float32")(image)
    assert check.difference < 0.01
    assert np.mean(got != expected) < 1e-3
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("edsr", 8),  # 1 head + 4 blocks + 1 body + 1 and 1/2 upsampling + 1/4 tail = 7.75
        ("srcnn", 5),  # 2 bicubic + (4 + 2 + 2) / 3 = 4.67
        ("espcn", 4),  # 2 + 1 + 1
    ],
)
def test_receptive_fields_are_what_the_kernels_add_up_to(
    exported: dict[str, tuple[Path, exporter.ExportReport]], name: str, expected: int
) -> None:
    assert exported[name][1].config.receptive_field == expected


def test_nothing_beyond_the_receptive_field_is_seen(exported: dict[str, tuple[Path, exporter.ExportReport]]) -> None:
    folder, check = exported["edsr"]
    network = runtime.CompiledNetwork(model_files.read_exported(folder), precision="float32")
    reach, side = check.config.receptive_field, 2 * check.config.receptive_field + 9
    lr = np.full((side, side, 3), 0.5, np.float32)
    other = lr.copy()
    other[side // 2, side // 2] = 1
    moved = np.nonzero(np.abs(network(other) - network(lr)).max(axis=(1, 2)))[0] // check.config.scale
    assert moved.min() >= side // 2 - reach
    assert moved.max() <= side // 2 + reach
    assert moved.max() - moved.min() >= reach


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes(
    exported: dict[str, tuple[Path, exporter.ExportReport]], sources: Path, tmp_path: Path
) -> None:
    exporter.export(sources / "edsr", tmp_path / "again", format="openvino")
    assert tree_hash(exported["edsr"][0]) == tree_hash(tmp_path / "again")
    text = (exported["edsr"][0] / model_files.XML).read_text()
    assert "rt_info" not in text
    assert 'version="20' not in text


@pytest.mark.slow
def test_a_program_that_used_keras_before_gets_the_same_bytes(
    exported: dict[str, tuple[Path, exporter.ExportReport]], sources: Path, tmp_path: Path
) -> None:
    """TensorFlow refuses to change its threads once it has computed, and the program's own settings stay."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AFTER_A_USE, str(sources)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "4 float16\n", done.stderr
    (cached,) = (path for path in tmp_path.glob("srlib/models/*") if path.is_dir())
    assert tree_hash(cached) == tree_hash(exported["edsr"][0])


def test_the_onnx_file_names_its_axes_and_no_version(exported: dict[str, tuple[Path, exporter.ExportReport]]) -> None:
    import onnx

    content = onnx.load(exported["onnx"][0] / model_files.ONNX)
    assert [value.name for value in (*content.graph.input, *content.graph.output)] == ["lr", "sr"]
    assert content.producer_version == content.doc_string == ""
    sides = [value.type.tensor_type.shape.dim for value in (*content.graph.input, *content.graph.output)]
    assert [[axis.dim_param for axis in side] for side in sides] == [
        ["batch", "height", "width", ""],
        ["batch", "sr_height", "sr_width", ""],
    ]


def test_onnx_files_can_be_used_for_upscaling(
    exported: dict[str, tuple[Path, exporter.ExportReport]], image: np.ndarray
) -> None:
    through = [open_model(str(exported[name][0]), precision="float32")(image) for name in ("onnx", "edsr")]
    assert np.abs(through[0].astype(int) - through[1]).max() <= 1


class TestBlending:
    @pytest.mark.parametrize("other", ["gan", "large_kernel"])
    def test_the_images_are_interpolated(
        self, exported: dict[str, tuple[Path, exporter.ExportReport]], other: str
    ) -> None:
        models = [model_files.read_exported(exported[name][0]) for name in ("edsr", other)]
        mixed = blend(*models, 0.3)
        assert mixed.config.receptive_field == max(model.config.receptive_field for model in models)
        lr = np.random.default_rng(0).random((9, 11, 3), np.float32)
        faithful, sharp, got = (runtime.CompiledNetwork(m, precision="float32")(lr) for m in (*models, mixed))
        assert np.abs(faithful - sharp).max() > 1e-3
        np.testing.assert_allclose(got, 0.3 * faithful + 0.7 * sharp, atol=1e-6)

    @pytest.mark.parametrize(("fidelity", "whole"), [(0.0, "gan"), (1.0, "edsr")])
    def test_the_ends_are_the_networks_themselves(
        self, exported: dict[str, tuple[Path, exporter.ExportReport]], image: np.ndarray, fidelity: float, whole: str
    ) -> None:
        psnr, gan = str(exported["edsr"][0]), str(exported["gan"][0])
        got = open_model(psnr, fidelity=fidelity, gan=gan, precision="float32")(image)
        np.testing.assert_array_equal(got, open_model(str(exported[whole][0]), precision="float32")(image))

    @pytest.mark.parametrize(
        ("other", "reason"), [("compact", "of one scale, got 4 and 3"), ("onnx", "in OpenVINO's format")]
    )
    def test_another_scale_or_format_is_refused(
        self, exported: dict[str, tuple[Path, exporter.ExportReport]], other: str, reason: str
    ) -> None:
        models = [model_files.read_exported(exported[name][0]) for name in ("edsr", other)]
        with pytest.raises(SrlibError, match=f"fidelity: expected two models {reason}"):
            blend(*models, 0.5)

    @pytest.mark.parametrize("fidelity", [-0.1, 1.1, float("nan")])
    def test_a_share_outside_of_0_to_1_is_refused(self, fidelity: float) -> None:
        with pytest.raises(SrlibError, match=r"fidelity: expected a number from 0 \(GAN weights\) to 1"):
            check_precision(fidelity, "auto")

    def test_the_worse_of_two_losses_decides_on_bfloat16(
        self, exported: dict[str, tuple[Path, exporter.ExportReport]]
    ) -> None:
        model = model_files.read_exported(exported["edsr"][0])
        known = [
            dataclasses.replace(model, config=dataclasses.replace(model.config, bfloat16=loss))
            for loss in (0.001, -0.02)
        ]
        assert blend(*known, 0.5).config.bfloat16 == -0.02
        assert blend(known[0], model, 0.5).config.bfloat16 is None


class TestRefusals:
    def test_changed_weights(self, exported: dict[str, tuple[Path, exporter.ExportReport]], tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        for file in exported["edsr"][0].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        weights = bytearray((folder / model_files.BIN).read_bytes())
        weights[100] ^= 1
        (folder / model_files.BIN).write_bytes(weights)
        with pytest.raises(SrlibError, match=r"model.bin: not the file that was exported"):
            open_model(str(folder))
        (folder / model_files.BIN).unlink()
        with pytest.raises(SrlibError, match=r"model\.bin is missing"):
            open_model(str(folder))

    def test_another_format(self, tmp_path: Path) -> None:
        with pytest.raises(
            SrlibError, match="format: expected one of openvino, onnx, onnx-fp16, litert, openvino-int8, got"
        ):
            exporter.export(tmp_path, tmp_path / "out", format="pb")

    def test_what_is_there_is_not_overwritten(self, tmp_path: Path) -> None:
        with pytest.raises(SrlibError, match="exists; use --force"):
            exporter.export(tmp_path / "model", tmp_path, format="onnx")

    def test_force_replaces_nothing_but_an_export(self, tmp_path: Path) -> None:
        out = shutil.copytree(SHIPPED / "fast-x4", tmp_path / "out", ignore=shutil.ignore_patterns("keras"))
        with pytest.raises(SrlibError, match="nothing: expected a model"):
            exporter.export(tmp_path / "nothing", out, force=True)
        (out / "photo.jpg").write_bytes(b"mine")
        with pytest.raises(SrlibError, match=r"out: holds something else than an exported model \(photo\.jpg\)"):
            exporter.export(tmp_path / "nothing", out, force=True)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(SrlibError, match="expected a model"):
            exporter.export(tmp_path, tmp_path / "out", format="openvino")
        assert not (tmp_path / "out").exists()

    def test_a_model_that_is_exported_already(self, tmp_path: Path) -> None:
        with pytest.raises(SrlibError, match="fast-x4: is exported already; expected the folder of the model that it"):
            exporter.export(SHIPPED / "fast-x4", tmp_path / "out", format="onnx")

    def test_a_missing_package_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tf2onnx" else object())
        with pytest.raises(SrlibError, match=r"needs tf2onnx to be exported: \S+ -m pip install 'srlib\[pipeline\]'"):
            exporter.export(tmp_path, tmp_path / "out", format="openvino")

    def test_a_network_that_differs_from_keras(
        self, at_once: None, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], tolerance=-1.0))
        with pytest.raises(SrlibError, match="differs from Keras"):
            exporter.export(sources / "srresnet", tmp_path / "out", format="onnx")
        assert not (tmp_path / "out").exists()


def test_given_images_measure_bfloat16(
    at_once: None, sources: Path, image: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(tmp_path / "images" / "a.png", np.kron(image, np.ones((2, 2, 1), np.uint8)))
    write_png(tmp_path / "images" / "tiny.png", image[:5, :5])
    (tmp_path / "images" / "z.png").write_text("x")
    check = exporter.export(sources / "compact", tmp_path / "out", format="openvino", images=tmp_path / "images")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert check.images == 1 and "pixels" in lines[0] and "z.png: not an image" in lines[1]
    if runtime.has_bfloat16():
        assert check.config.bfloat16 == round(check.psnr_y["bfloat16"] - check.psnr_y["float32"], 4)
    else:
        assert check.config.bfloat16 is None
    assert f"{check.psnr_y['float32']:.3f} dB" in exporter.summary(tmp_path / "out", check)
