"""Exported models of any content: read, or refused in one line that names the file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.imaging.input_range import CLEAN, InputRange
from srlib.inference.blending import blend
from srlib.inference.exported import BIN, CONFIG, INT8_BIN, INT8_XML, ONNX, XML, read_exported
from srlib.inference.shipped import SHIPPED
from srlib.inference.upscaler import open_model

ROOT = Path(__file__).parents[2]
IMAGE = np.zeros((6, 7, 3), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model psnr-x4 in float32."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (XML, BIN):
        shutil.copy(SHIPPED / "psnr-x4" / name, folder)
    config = replace(read_exported(SHIPPED / "psnr-x4").config, int8=None)
    (folder / CONFIG).write_text(json.dumps(config.as_dict()))
    return folder


def rewrite(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file, and its SHA-256 in config.json, as an attacker would."""
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    config = json.loads((folder / CONFIG).read_text())
    config["files"][name] = file_hash(path)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("scale", value) for value in (0, -1, 1.5, "4", None, float("nan"), [4], True, 17, 10**400)),
        *(("channels", value) for value in ("bgr", 3, None, ["rgb"], {})),
        *(("value_range", value) for value in ([0, 255], [0], "01", None, {}, [None, None])),
        *(("receptive_field", value) for value in (-1, 1.0, "9", None, 10**9)),
        *(("bytes_per_pixel", value) for value in (0, -4, None, 1e30)),
        *(("bfloat16", value) for value in ("0", float("inf"), True, [])),
        *(("files", value) for value in ({}, [], None, {XML: 1, BIN: 2}, {"../x": "0" * 64}, {ONNX: "0"})),
        *((key, value) for key in ("name", "title") for value in ("", 3, None, "a\nb", "x" * 1000)),
        ("training", "both"),
        *(("int8", value) for value in (1, [], {}, {"files": {}, "loss": 0.0}, {"files": None, "loss": 0, "x": 1})),
        ("int8", {"files": {INT8_XML: "0" * 64, INT8_BIN: "0" * 64}, "loss": None}),
        ("int8", {"files": {INT8_XML: "0" * 64, BIN: "0" * 64}, "loss": 0.0}),
    ],
)
def test_values_in_the_config_are_checked(model: Path, key: str, value: object) -> None:
    config = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(SrlibError, match=rf"^{model / CONFIG}: {key}: expected ") as error:
        open_model(str(model))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"null", b"{", b'{"scale": 4}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b" " * 2**21],
)
def test_any_content_of_the_config_ends_in_one_line(model: Path, content: bytes) -> None:
    (model / CONFIG).write_bytes(content)
    with pytest.raises(SrlibError, match=f"^{model / CONFIG}: ") as error:
        open_model(str(model))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_unknown_and_missing_keys_are_named(model: Path) -> None:
    config = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(config | {"extra": 1}))
    with pytest.raises(SrlibError, match="'extra' is unknown"):
        read_exported(model)
    del config["title"]
    (model / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SrlibError, match="title is missing"):
        read_exported(model)


# In a process of its own: OpenVINO must not bring it down either.
OPEN = """
import sys
import numpy as np
from srlib.errors import SrlibError
from srlib.inference.upscaler import open_model
for folder in sys.argv[1:]:
    try:
        open_model(folder, precision="float32")(np.zeros((6, 7, 3), np.uint8))
        print("worked")
    except SrlibError as error:
        print(error)
"""


def test_broken_graphs_and_weights_end_in_one_line(model: Path, tmp_path: Path) -> None:
    changes: list[tuple[str, Callable[[bytes], bytes]]] = [
        (XML, lambda content: b""),
        (XML, lambda content: content[:5000]),
        (XML, lambda content: b"text"),
        (XML, lambda content: content.replace(b'offset="0"', b'offset="99999999"')),
        (XML, lambda content: content.replace(b'offset="0"', b'offset="-8"')),
        (XML, lambda content: content.replace(b'offset="0"', b'offset="a"')),
        (XML, lambda content: content.replace(b'type="Convolution"', b'type="Nothing"', 1)),
        (XML, lambda content: content.replace(b'from-layer="1"', b'from-layer="999"', 1)),
        (XML, lambda content: content.replace(b"?,?,?,3", b"?,?,?,5")),
        (BIN, lambda content: b""),
        (BIN, lambda content: content[:100]),
        (BIN, lambda content: content[:-4]),
    ]
    folders = []
    for number, (name, change) in enumerate(changes):
        folders.append(shutil.copytree(model, tmp_path / f"changed{number}"))
        before = (model / name).read_bytes()
        assert change(before) != before, number
        rewrite(folders[-1], name, change)
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OPEN, *map(str, folders)]
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(changes)
    assert [number for number, line in enumerate(lines) if line == "worked"] == []


def test_a_config_of_another_scale_is_noticed(model: Path) -> None:
    config = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(config | {"scale": 3}))
    with pytest.raises(SrlibError, match=r"gives the shape \[1,20,28,3\], expected \[1, 15, 21, 3\] for scale 3"):
        open_model(str(model))


def test_a_network_that_shrinks_images_is_never_run(model: Path) -> None:
    rewrite(model, XML, lambda content: content.replace(b'auto_pad="same_upper"', b'auto_pad="valid"'))
    with pytest.raises(SrlibError, match=r"the network gives the shape|cannot load the model"):
        open_model(str(model))
    assert open_model("psnr-x4")(IMAGE).shape == (24, 28, 3)


def test_a_config_of_other_channels_is_noticed(model: Path) -> None:
    config = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(config | {"channels": "luma-studio"}))
    with pytest.raises(SrlibError, match="expected one input and one output of 1 channels"):
        open_model(str(model))


@pytest.mark.parametrize("name", [CONFIG, XML, BIN])
def test_pipes_and_devices_are_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(SrlibError, match="expected a"):
        open_model(str(model))
    (model / name).unlink()
    (model / name).symlink_to("/dev/zero")
    with pytest.raises(SrlibError, match="expected a"):
        open_model(str(model))


def test_onnx_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.zeros(2000, np.float32), "t1")
    onnx.external_data_helper.set_external_data(tensor, "elsewhere.bin")
    tensor.ClearField("raw_data")
    value = onnx.helper.make_tensor_value_info("lr", onnx.TensorProto.FLOAT, [1, None, None, 3])
    node = onnx.helper.make_node("Identity", ["lr"], ["sr"])
    output = onnx.helper.make_tensor_value_info("sr", onnx.TensorProto.FLOAT, [1, None, None, 3])
    graph = onnx.helper.make_graph([node], "network", [value], [output], [tensor])
    (tmp_path / ONNX).write_bytes(onnx.helper.make_model(graph).SerializeToString())
    config = json.loads((SHIPPED / "psnr-x4" / CONFIG).read_text())
    config["files"] = {ONNX: file_hash(tmp_path / ONNX)}
    config.pop("int8", None)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SrlibError, match="expected weights inside the file, got a reference to another file"):
        read_exported(tmp_path)


def test_the_range_of_the_training_is_read(model: Path) -> None:
    assert read_exported(model).config.inputs == CLEAN
    config = json.loads((model / CONFIG).read_text())
    inputs = {"noise": [0, 12], "blur": [0, 1], "jpeg_quality": [30, 100]}
    (model / CONFIG).write_text(json.dumps({**config, "inputs": inputs}))
    known = read_exported(model).config
    assert known.inputs == InputRange((0, 12), (0, 1), (30, 100))
    assert "inputs" in known.as_dict() and "inputs" not in replace(known, inputs=CLEAN).as_dict()
    (model / CONFIG).write_text(json.dumps({**config, "inputs": {**inputs, "noise": [5, 2]}}))
    with pytest.raises(SrlibError, match=r"config.json: inputs.noise: expected two numbers from 0 to 255"):
        read_exported(model)


class TestBlend:
    """What a blend computes is tested in test_export.py."""

    def test_hostile_graphs_end_in_one_line(self, model: Path) -> None:
        psnr = read_exported(model)
        bomb = b'<!DOCTYPE a [<!ENTITY b "b">]><net>&b;</net>'
        for change in (
            lambda content: bomb,
            lambda content: content[:900],
            lambda content: content.replace(b'offset="0"', b'offset="99999999"'),
            lambda content: content.replace(b'size="', b'size="-'),
            lambda content: content.replace(b'element_type="f32"', b'element_type="f16"', 1),
        ):
            folder = model.parent / "other"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(model, folder)
            rewrite(folder, XML, change)
            with pytest.raises(SrlibError) as error:
                blend(psnr, read_exported(folder), 0.5)
            assert "\n" not in str(error.value)
