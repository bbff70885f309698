"""Networks of one size, and weights of PyTorch, as rows of the table."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srlib.errors import SrlibError
from srlib.evaluation.methods import content_hash, from_file

SCALE, SIDE = 2, 20
TORCH = """
import numpy as np
import torch
from spandrel.architectures.Compact import Compact
torch.manual_seed(0)
network = Compact(num_feat=8, num_conv=2, upscale=2).eval()
torch.save(network.state_dict(), "theirs.pth")
lr = torch.from_numpy(np.load("lr.npy").transpose(2, 0, 1)[None].astype(np.float32) / 255)
with torch.no_grad():
    np.save("sr.npy", np.floor(network(lr)[0].numpy().transpose(1, 2, 0).clip(0, 1) * 255 + 0.5))
"""


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """A network that repeats each pixel, whose layers hold the numbers of one size."""
    weights = np.kron(np.eye(3, dtype=np.float32), np.ones((SCALE**2, 1), np.float32))[..., None, None]
    large = [1, 3, SCALE * SIDE, SCALE * SIDE]
    constants = {"split": [1, 3, SCALE, SCALE, SIDE, SIDE], "joined": large}
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["wide"]),
        helper.make_node("Reshape", ["wide", "split"], ["six"]),
        helper.make_node("Transpose", ["six"], ["moved"], perm=[0, 1, 4, 2, 5, 3]),
        helper.make_node("Reshape", ["moved", "joined"], ["large"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("large", TensorProto.FLOAT, large)],
        [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in constants.items()]
        + [numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_network_of_one_size_runs_window_by_window(fixed: Path, image: np.ndarray) -> None:
    method = from_file("theirs", fixed, SCALE, sha256=content_hash(fixed))
    assert method.upscale is not None and method.cost is not None
    np.testing.assert_array_equal(method.upscale(image, SCALE), image.repeat(SCALE, 0).repeat(SCALE, 1))
    assert method.cost.parameters == 3 * 3 * SCALE**2
    one, six = method.cost.multiply_adds(SIDE, SIDE), method.cost.multiply_adds(33, 47)
    assert one == method.cost.parameters * SIDE**2
    assert six == 2 * 3 * one, "33 and 47 pixels take 2 and 3 windows of 20 with their overlap"


def test_another_scale_or_channels_are_named(fixed: Path) -> None:
    digest = content_hash(fixed)
    with pytest.raises(SrlibError, match=r"fixed\.onnx: upscales by 2, expected 4"):
        from_file("theirs", fixed, 4, sha256=digest)
    with pytest.raises(SrlibError, match=r"fixed\.onnx: has 3 channels, expected 1; set `channels` of this method"):
        from_file("theirs", fixed, SCALE, sha256=digest, channels="luma")


def test_weights_of_pytorch(tmp_path: Path, image: np.ndarray) -> None:
    if not all(find_spec(name) for name in ("torch", "spandrel")):
        pytest.skip("needs the extra torch")
    np.save(tmp_path / "lr.npy", image)
    # PyTorch crashes beside TensorFlow.
    subprocess.run([sys.executable, "-c", TORCH], cwd=tmp_path, check=True)
    path = tmp_path / "theirs.pth"
    method = from_file("theirs", path, SCALE, sha256=content_hash(path))
    assert method.upscale is not None and method.cost is not None
    assert np.abs(method.upscale(image, SCALE) - np.load(tmp_path / "sr.npy")).max() <= 1
    assert method.cost.multiply_adds(20, 30) > 600 * 9 * 8 * 8
