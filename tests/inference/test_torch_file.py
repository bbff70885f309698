"""PyTorch weights of other authors: the pixels are PyTorch's own, and no program in a file is run."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srlib
from srlib.errors import SrlibError
from srlib.inference import torch_file

LIBRARIES = ("torch", "spandrel", "safetensors")
MAKE = """
import numpy as np, torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
torch.manual_seed(0)
network = Compact(num_feat=8, num_conv=2, upscale=2).eval()  # untrained: its input repeated twice, and noise
torch.save({"params_ema": network.state_dict()}, "weights.pth")
save_file(network.state_dict(), "weights.safetensors")
lr = np.random.default_rng(0).integers(0, 256, (40, 37, 3), np.uint8)
with torch.no_grad():
    sr = network(torch.tensor(lr / 255, dtype=torch.float32).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
np.savez("images.npz", lr=lr, sr=np.floor(sr.clip(0, 1) * 255 + 0.5).astype(np.uint8))

import os, pickle
class Program:
    def __reduce__(self):
        return os.mkdir, ("made-by-the-file",)
with open("old.pth", "wb") as file:
    pickle.dump({"weights": Program()}, file)
torch.save({"params": torch.zeros(3), "more": Program()}, "new.pth")
torch.save({"layer.weight": torch.zeros(3)}, "unknown.pth")
torch.save([1, 2], "list.pth")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of weights and images, made in a process of its own: PyTorch crashes beside TensorFlow."""
    for library in LIBRARIES:
        if find_spec(library) is None:
            pytest.skip("needs the extra torch")
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_the_pixels_of_pytorch(files: Path, capfd: Any, name: str) -> None:
    upscaler = srlib.open_model(str(files / name), precision="float32", tile=9)
    assert f"{name}: ×2, RGB, values from 0 to 1, any size, tiles overlap by " in capfd.readouterr().err
    images = np.load(files / "images.npz")
    difference = np.abs(upscaler(images["lr"]).astype(int) - images["sr"])
    assert upscaler.tiles(40, 37) > 1 and difference.max() <= 1 and (difference > 0).mean() < 0.001


def test_other_weights_are_refused_in_one_line(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    Path("text.safetensors").write_text("no weights")
    for name, message in (
        ("old.pth", "not a file of weights alone, and nothing else is loaded from it"),
        ("new.pth", "not a file of weights alone, and nothing else is loaded from it"),
        ("unknown.pth", "its network is not one that spandrel"),
        ("list.pth", "expected names and tensors, got list"),
        ("text.safetensors", "not a safetensors file"),
    ):
        with pytest.raises(SrlibError, match=f"^{name}: {message}") as error:
            srlib.open_model(name)
        assert "\n" not in str(error.value)
    assert not Path("made-by-the-file").exists(), "a program in a file was run"


def test_without_pytorch_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "find_spec", lambda name: None)
    Path("a.safetensors").touch()
    with pytest.raises(SrlibError, match=r"^a\.safetensors: needs torch and spandrel: \S+ -m pip install"):
        srlib.open_model("a.safetensors")
