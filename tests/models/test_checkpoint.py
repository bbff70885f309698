"""Models on disk: the same bytes for the same weights, and one line for whatever is no model."""

import dataclasses
import doctest
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops, utils

from srlib.errors import SrlibError
from srlib.files import file_hash, tree_hash
from srlib.imaging.input_range import InputRange
from srlib.models import (
    CONFIG,
    MODELS,
    WEIGHTS,
    ModelConfig,
    build,
    checkpoint,
    load_model,
    load_weights,
    read_config,
    registry,
    save_model,
)
from srlib.models.checkpoint import weights_bytes

ROOT = Path(__file__).parents[2]
SMALL = {"blocks": 2, "filters": 8}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small EDSR on disk."""
    config = ModelConfig("edsr", 4, SMALL)
    save_model(build(config), config, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("module", [checkpoint, registry])
def test_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    config = ModelConfig("edsr", 3, SMALL)
    hashes = set()
    for name in ("a", "b"):
        utils.set_random_seed(7)
        model = build(config)
        save_model(model, config, tmp_path / name)
        hashes.add(tree_hash(tmp_path / name))
    assert len(hashes) == 1
    loaded, loaded_config = load_model(tmp_path / "a")
    assert loaded_config == config
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(before), ops.convert_to_numpy(after))


@pytest.mark.parametrize("name", MODELS)
def test_bytes_in_memory_are_those_on_disk(name: str, tmp_path: Path) -> None:
    model = build(ModelConfig(name, 2))
    model.save_weights(tmp_path / WEIGHTS)
    assert hashlib.sha256(weights_bytes(model)).hexdigest() == file_hash(tmp_path / WEIGHTS)


@pytest.mark.parametrize("name", ["psnr-x4", "gan-x4"])
def test_shipped_weights_are_saved_unchanged(name: str, tmp_path: Path) -> None:
    shipped = ROOT / f"srlib/weights/{name}/keras"
    model, config = load_model(shipped)
    save_model(model, config, tmp_path / "again")
    assert tree_hash(tmp_path / "again") == tree_hash(shipped)


def test_a_model_for_degraded_images_carries_its_range(tmp_path: Path) -> None:
    inputs = InputRange(noise=(0.0, 12.0), jpeg_quality=(30, 100))
    config = ModelConfig("espcn", 2, inputs=inputs)
    save_model(build(config), config, tmp_path / "model")
    assert read_config(tmp_path / "model").inputs == inputs
    unknown = dataclasses.replace(config, inputs=None)
    save_model(build(config), unknown, tmp_path / "unknown")
    assert read_config(tmp_path / "unknown") == unknown
    assert '"inputs"' not in json.dumps(ModelConfig("espcn", 2).as_json()), "clean models keep their bytes"
    with pytest.raises(SrlibError, match=r"config.json: not a model's config: inputs"):
        (tmp_path / "model" / CONFIG).write_text(json.dumps({**config.as_json(), "inputs": {"noise": 3}}))
        read_config(tmp_path / "model")


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from srlib.models import ModelConfig, build, save_model\n"
        "config = ModelConfig('edsr', 4, {'blocks': 2, 'filters': 32})\n"
        "model = build(config)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    save_model(model, config, Path('model'))\n"
        "except OSError as error:\n"
        "    sys.exit(f'OSError: {error.strerror}')\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "OSError: File too large")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    for config in (ModelConfig("edsr", 4, {"blocks": 3, "filters": 8}), ModelConfig("edsr", 2, SMALL)):
        with pytest.raises(SrlibError, match="do not fit the network edsr: "):
            load_weights(build(config), saved / WEIGHTS)


def test_weights_of_a_larger_network_are_refused(tmp_path: Path) -> None:
    build(ModelConfig("fsrcnn", 2, {"blocks": 3})).save_weights(tmp_path / WEIGHTS)
    with pytest.raises(SrlibError, match=r"unexpected array of shape \(1, 1, 12\)"):
        load_weights(build(ModelConfig("fsrcnn", 2, {"blocks": 2})), tmp_path / WEIGHTS)


def test_weights_that_diverged_are_refused(saved: Path) -> None:
    model, config = load_model(saved)
    model.variables[3].assign(ops.full(model.variables[3].shape, float("nan")))
    save_model(model, config, saved)
    with pytest.raises(SrlibError, match="block1_conv1/bias has values that are not finite"):
        load_model(saved)


PICKLE = b"cos\nmkdir\n(S'unpickled'\ntR."
"""Makes a folder where it is unpickled."""


@pytest.mark.parametrize("content", [None, b"", b"not HDF5", bytes(5000), "cut", PICKLE])
def test_a_file_without_weights(content: bytes | str | None, saved: Path) -> None:
    path = saved / WEIGHTS
    expected = "not a readable weights file" if content is not None else "no such file"
    if content == "cut":
        content = path.read_bytes()[:1000]
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(SrlibError, match=f"model.weights.h5: {expected}") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value) and not Path("unpickled").exists()


def test_weights_at_odd_places_are_refused_unread(saved: Path) -> None:
    path = saved / WEIGHTS
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SrlibError, match="expected a regular file, got a folder, pipe or device"):
        load_model(saved)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SrlibError, match="expected a regular file"):
        load_model(saved)
    path.unlink()
    path.mkdir()
    with pytest.raises(SrlibError, match="expected a regular file"):
        load_model(saved)
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(SrlibError, match=r"expected at most [\d,]+ bytes, got 10,737,418,240"):
        load_model(saved)


def test_a_model_for_another_scale(saved: Path) -> None:
    with pytest.raises(SrlibError, match="expected a model for ×2, got one for ×4"):
        load_model(saved, scale=2)


CONFIG_MISTAKES: dict[str, tuple[Any, str]] = {
    **{
        f"scale {value!r}": ({"scale": value}, f"scale: edsr works with 2 or 3 or 4, got {re.escape(repr(value))}")
        for value in (0, -1, 1.5, 4.0, "4", None, True, float("nan"), [4], {"a": 4}, 10**30)
    },
    "channels": ({"channels": "luma-studio"}, "channels: edsr works with rgb, got 'luma-studio'"),
    "channels of another type": ({"channels": ["rgb"]}, "channels: edsr works with rgb, got"),
    "value range": ({"value_range": [0, 255]}, r"value_range: edsr works with \(0.0, 1.0\), got \(0.0, 255.0\)"),
    "value range of another type": ({"value_range": 1}, "value_range: edsr works with"),
    "value range of another length": ({"value_range": []}, "value_range: edsr works with"),
    "training": ({"training": "wgan"}, "training: edsr works with pixel or gan, got 'wgan'"),
    "name": ({"name": "edrs"}, "name: expected one of edsr"),
    "name of another type": ({"name": ["edsr"]}, "name: expected one of edsr"),
    "options of another type": ({"options": [1]}, r"options: expected a mapping, got \[1\]"),
    "no options": ({"options": None}, "options: expected a mapping, got None"),
    "unknown option": ({"options": {"layers": 1}}, "options.layers: unknown key"),
    "negative option": ({"options": {"blocks": -1}}, "options.blocks: expected greater than 0, got -1"),
    "deep option": ({"options": {"blocks": json.loads("[" * 500 + "]" * 500)}}, "options.blocks: expected an integer"),
    "unknown key": ({"surprise": 1}, "'surprise': unknown key"),
    "a list": ([], "expected an object with the keys channels, name"),
    "a number": (3, "expected an object"),
    "null": (None, "expected an object"),
}


@pytest.mark.parametrize(("change", "words"), CONFIG_MISTAKES.values(), ids=CONFIG_MISTAKES.keys())
def test_a_wrong_config_is_one_line(change: Any, words: str, saved: Path) -> None:
    path = saved / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change if isinstance(change, dict) else change))
    with pytest.raises(SrlibError, match=words) as caught:
        load_model(saved)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", ["name", "scale", "options", "channels", "value_range", "training"])
def test_a_missing_key_is_one_line(key: str, saved: Path) -> None:
    content = json.loads((saved / CONFIG).read_text())
    del content[key]
    (saved / CONFIG).write_text(json.dumps(content))
    with pytest.raises(SrlibError, match=f"{key}: missing key"):
        read_config(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b'{"scale": ' + b"9" * 5000 + b"}"])
def test_a_config_that_is_no_json(content: bytes, saved: Path) -> None:
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(SrlibError, match="not valid JSON") as caught:
        read_config(saved)
    assert "\n" not in str(caught.value)


def test_a_config_at_odd_places(saved: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", saved / WEIGHTS):
        with pytest.raises(SrlibError, match=r"expected a model \(a folder with config.json"):
            read_config(folder)
    path = saved / CONFIG
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SrlibError, match="expected a regular file"):
        read_config(saved)


def test_a_config_holds_every_option() -> None:
    config = ModelConfig("srcnn", 3, {"middle": 1})
    assert config.options == {"middle": 1, "filters": 64}
    assert (config.channels, config.value_range, config.title) == ("luma-studio", (0.0, 1.0), "SRCNN")
    assert ModelConfig("edsr", 2, training="gan").title == "SRGAN"
    with pytest.raises(SrlibError, match="channels: srcnn works with luma-studio, got 'rgb'"):
        ModelConfig("srcnn", 3, channels="rgb")


def test_a_loaded_model_computes_the_same(saved: Path) -> None:
    lr = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    one, other = (load_model(saved)[0] for _ in range(2))
    assert isinstance(one, keras.Model)
    np.testing.assert_array_equal(ops.convert_to_numpy(one(lr)), ops.convert_to_numpy(other(lr)))
