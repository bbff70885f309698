"""Every format of `srlib export`, and the examples of its page, each in the runtime that it is for."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.imaging.array_image import write_image
from srlib.imaging.read import read_image
from srlib.inference import convert
from srlib.inference.export import _check_loss, export, summary
from srlib.inference.export_formats import FORMATS
from srlib.inference.exported import read_exported
from srlib.inference.upscaler import open_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "export-a-model.md").read_text(encoding="utf-8")
NODE_MODULES = Path(os.environ.get("NODE_PATH", ROOT / "node_modules"))
FOLDERS = {"openvino": "exported", "onnx": "exported-onnx", "litert": "exported-litert"}
INT8 = "openvino-int8"
FROM_KERAS = convert.from_keras


def example(language: str, text: str) -> str:
    """Return the example of the page that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (block,) = (block for block in blocks if text in block)
    return str(block)


def network(folder: Path, name: str = "compact") -> Path:
    """A small network of random weights."""
    import keras

    from srlib.models import MODELS, ModelConfig, build, save_model

    keras.utils.set_random_seed(3)
    options = {"blocks": 2, "filters": 8} if name == "compact" else {}
    config = ModelConfig(name, 2, options, channels=MODELS[name].channels)
    model = build(config)
    save_model(model, config, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Convert the same weights once, and to LiteRT without a process of its own: that gives the same bytes."""
    folder = tmp_path_factory.mktemp("conversions")

    def from_keras(model: Path, path: Path) -> None:
        file = folder / f"{tree_hash(model.resolve())}{path.suffix}"
        if not file.exists():
            (FROM_KERAS if file.suffix == ".onnx" else convert.convert)(model, file)
        shutil.copy(file, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "from_keras", from_keras)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module")
def exports(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network in every format that needs no further package."""
    folder = tmp_path_factory.mktemp("exports")
    for name in FORMATS:
        if name != INT8:
            report = export(source, folder / name, format=name)
            assert report.random == 4
            assert 0 <= report.difference <= 255 * FORMATS[name].tolerance
    return {name: folder / name for name in FORMATS}


@pytest.fixture
def photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """`photo.jpg` in the current folder."""
    import skimage.data

    monkeypatch.chdir(tmp_path)
    write_image("photo.jpg", skimage.data.chelsea()[100:137, 150:195])
    return read_image("photo.jpg")


def test_the_documented_table_is_that_of_the_code() -> None:
    table = re.findall(r"^\| `([a-z][\w-]+)` \| (.*?) \|.*\| (.*?) \|$", PAGE, re.MULTILINE)
    rows = {cells[0]: cells for cells in table if cells[1].startswith("`")}
    assert set(rows) == set(FORMATS)
    for name, (_, files, bound) in rows.items():
        target = FORMATS[name]
        assert tuple(re.findall(r"`(.*?)`", files)) == target.files
        assert bound.split()[0] == f"{target.largest_loss or target.tolerance:.4f}".rstrip("0")
    command = (ROOT / "srlib" / "cli" / "models.py").read_text(encoding="utf-8")
    assert all(re.search(rf"[\s\"]{name}\b", command) for name in FORMATS)


def test_what_the_folder_says(exports: dict[str, Path]) -> None:
    configs = {name: read_exported(exports[name]).config for name in FORMATS if name != INT8}
    assert {name: config.arithmetic for name, config in configs.items()} == {
        "openvino": "float32",
        "onnx": "float32",
        "onnx-fp16": "float16",
        "litert": "float32",
    }
    assert "arithmetic" not in json.loads((exports["litert"] / "config.json").read_text())
    whole, half = ((exports[name] / "model.onnx").stat().st_size for name in ("onnx", "onnx-fp16"))
    assert half < 0.8 * whole


def test_float16_is_what_the_weights_are(exports: dict[str, Path]) -> None:
    import onnx

    graph = onnx.load(exports["onnx-fp16"] / "model.onnx").graph
    kinds = {value.data_type for value in graph.initializer} - {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("name", ["onnx-fp16", "onnx"])
def test_srlib_upscales_by_it(exports: dict[str, Path], photograph: np.ndarray, name: str) -> None:
    expected, got = (open_model(str(exports[form]), precision="float32")(photograph) for form in ("openvino", name))
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_srlib_names_what_it_does_not_run(exports: dict[str, Path]) -> None:
    with pytest.raises(SrlibError, match="a LiteRT file, which srlib itself does not run; export it as openvino or"):
        open_model(str(exports["litert"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx-fp16", "litert"])
def test_the_same_weights_give_the_same_bytes(
    source: Path, exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """LiteRT against a process of its own; ONNX is from such a process, and test_export.py has another one."""
    if name == "litert":
        monkeypatch.setattr(convert, "from_keras", FROM_KERAS)
    export(source, tmp_path / "again", format=name)
    assert tree_hash(tmp_path / "again") == tree_hash(exports[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srcnn"])
def test_networks_on_luma_are_compared_on_images(tmp_path: Path, photograph: np.ndarray, name: str) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy("photo.jpg", tmp_path / "images" / "photo.jpg")
    report = export(network(tmp_path / name, name), tmp_path / "out", format="litert", images=tmp_path / "images")
    assert (report.random, report.images) == (4, 1)
    assert "on 4 random images and 1 photograph\n" in summary(tmp_path / "out", report)


def expected(folder: Path, image: np.ndarray) -> np.ndarray:
    return open_model(str(folder), precision="float32")(image).astype(int)


@pytest.mark.parametrize("form", FOLDERS)
def test_python_examples(
    exports: dict[str, Path], photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    from tensorflow import lite

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", lite)  # the copy that the page names
    monkeypatch.setitem(sys.modules, "ai_edge_litert", lite)
    Path(FOLDERS[form]).symlink_to(exports[form])
    text = {"openvino": "import openvino", "onnx": "onnxruntime", "litert": "ai_edge_litert"}[form]
    exec(example("python", text), {})
    difference = read_image("big.png") - expected(exports["openvino"], photograph)
    # OpenVINO takes bfloat16 where the processor has it.
    assert np.abs(difference).max() <= (3 if form == "openvino" else 1)


def test_the_example_of_the_public_api(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/pretrained").symlink_to(source)
    exec(example("python", "srlib.export"), {})
    assert sorted(path.name for path in Path("exported-onnx").iterdir()) == ["config.json", "model.onnx"]


@pytest.mark.parametrize("form", ["onnx", "onnx-fp16"])
def test_node_example(exports: dict[str, Path], photograph: np.ndarray, form: str) -> None:
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    if not all((NODE_MODULES / name).is_dir() for name in ("onnxruntime-node", "sharp")):
        pytest.skip(f"needs `npm install onnxruntime-node sharp`: {NODE_MODULES} (NODE_PATH) lacks them")
    Path("upscale.js").write_text(example("js", "onnxruntime-node"))
    write_image("photo.png", photograph)  # decoders of JPEG differ in last bits
    command = ["node", "upscale.js", str(exports[form] / "model.onnx"), "photo.png", "big.png"]
    subprocess.run(command, check=True, env={**os.environ, "NODE_PATH": str(NODE_MODULES)})
    assert np.abs(read_image("big.png") - expected(exports["openvino"], photograph)).max() <= 1


@pytest.fixture
def site(exports: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    """The documented page with what it needs, served as the page says."""
    runtime = NODE_MODULES / "onnxruntime-web" / "dist"
    if not runtime.is_dir():
        pytest.skip(f"needs `npm install onnxruntime-web`: {NODE_MODULES} (NODE_PATH) lacks it")
    folder = tmp_path / "site"
    folder.mkdir()
    for path in (runtime / "ort.wasm.min.js", *runtime.glob("ort-wasm-simd-threaded.*")):
        shutil.copy(path, folder)
    shutil.copy(exports["onnx"] / "model.onnx", folder)
    (folder / "index.html").write_text(example("html", "ort.wasm.min.js"), encoding="utf-8")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.browser
def test_browser_example(
    site: str, exports: dict[str, Path], photograph: np.ndarray, tmp_path: Path, browse: Callable[..., Any]
) -> None:
    write_image("photo.png", photograph)
    page = browse()
    page.open(site)
    page.upload("input", tmp_path / "photo.png")
    page.wait("document.querySelector('p').textContent.includes('pixels in')", seconds=60)
    height, width = (2 * side for side in photograph.shape[:2])
    assert page.text("p").startswith(f"{width}×{height} pixels in ")
    rgba = page.js(
        "Array.from(document.querySelector('canvas').getContext('2d').getImageData(0,0,a[0],a[1]).data)", width, height
    )
    got = np.array(rgba).reshape(height, width, 4)
    assert (got[..., 3] == 255).all()
    assert np.abs(got[..., :3] - expected(exports["openvino"], photograph)).max() <= 1
    assert not [line for line in page.errors() if "favicon.ico" not in line]


@pytest.fixture(scope="module")
def exported(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("int8") / "out"
    return out, summary(out, export(source, out, format=INT8))


class TestInt8:
    def test_it_is_calibrated_and_measured_on_the_sample(self, exported: tuple[Path, str]) -> None:
        out, text = exported
        assert "int8, " in text
        assert "on 5 photographs\n" in text
        assert re.search(r"int8 [\d.]+ dB, float32 [\d.]+ dB", text)
        assert read_exported(out).config.arithmetic == "int8"

    def test_its_convolutions_take_integers(self, exported: tuple[Path, str]) -> None:
        from srlib.inference.runtime import import_openvino

        graph = import_openvino().Core().read_model(exported[0] / "model.xml")
        convolutions = [op for op in graph.get_ops() if op.get_type_name() == "Convolution"]
        assert convolutions
        constants = [op for op in graph.get_ops() if op.get_type_name() == "Constant"]
        kernels = [op for op in constants if len(shape := op.get_output_shape(0)) == 4 and shape[3] > 1]
        kinds = [op.get_element_type().get_type_name() for op in kernels]
        assert sorted(kinds) == ["f32"] * 2 + ["i8"] * (len(convolutions) - 2)

    def test_srlib_upscales_by_it(
        self, exported: tuple[Path, str], exports: dict[str, Path], photograph: np.ndarray
    ) -> None:
        difference = open_model(str(exported[0]))(photograph).astype(int) - expected(exports["openvino"], photograph)
        assert 0 < np.sqrt(np.mean(difference**2)) < 4

    def test_it_cannot_be_blended(self, exported: tuple[Path, str]) -> None:
        with pytest.raises(SrlibError, match="expected two models in float32; int8 ones cannot be blended"):
            open_model(str(exported[0]), fidelity=0.5, gan=str(exported[0]))

    def test_too_large_a_loss_is_refused(self, exported: tuple[Path, str]) -> None:
        config = read_exported(exported[0]).config
        with pytest.raises(SrlibError, match=r"Compact in int8 loses 0\.20 dB PSNR-Y on 5 images, more than 0\.1; cal"):
            _check_loss(0.2, config, 0.1, 5)
