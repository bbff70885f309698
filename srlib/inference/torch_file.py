"""Open PyTorch weights of other authors as OpenVINO graphs: spandrel knows the network, OpenVINO converts it.

A `.pth` file is a pickle, which can hold any program. PyTorch's loader for weights alone reads it here: it builds
tensors and plain containers, and refuses everything else. A `.safetensors` file holds nothing but numbers.
"""

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError, one_line, pip_install
from srlib.files import read_regular
from srlib.inference.exported import BIN, LARGEST_FILE, XML
from srlib.inference.process import run_module
from srlib.inference.runtime import OPENVINO_ERRORS, import_openvino

if TYPE_CHECKING:
    import openvino
    import torch

    State = Mapping[str, torch.Tensor]

TRIAL_SIDE = 128
"""Side of the image with which the network is traced; the only one that some networks take afterwards."""


def read_torch_file(path: Path) -> "openvino.Model":
    """Return the network of a file of weights, NCHW, for images of `TRIAL_SIDE`, others to be tried.

    PyTorch runs in a process of its own: it needs a gigabyte of memory once, and crashes beside TensorFlow.

    Args:
        path: `.pth`, `.pt`, `.ckpt` or `.safetensors`.

    Raises:
        SrlibError: PyTorch or spandrel is missing, the file holds something else than weights, or its network is not
            known.
    """
    missing = [name for name in ("torch", "spandrel") if find_spec(name) is None]
    if missing:
        raise SrlibError(f"{path}: needs {' and '.join(missing)}: {pip_install('srlib[torch]')}; or convert it to ONNX")
    with tempfile.TemporaryDirectory() as folder:
        done = run_module("srlib.inference.torch_file", str(path), folder)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise SrlibError(last if done.returncode == 1 and last.startswith(str(path)) else f"{path}: {last[:200]}")
        return import_openvino().Core().read_model(Path(folder, XML).read_bytes(), Path(folder, BIN).read_bytes())


def convert(path: Path, folder: Path) -> None:
    """Convert a file of weights in this process; see `read_torch_file`.

    Args:
        path: The file.
        folder: Where `model.xml` and `model.bin` are written.

    Raises:
        SrlibError: See `read_torch_file`.
    """
    import spandrel
    import torch

    content = read_regular(path, limit=LARGEST_FILE[BIN])
    state = _LOADERS[path.suffix.lower()](path, content)
    try:
        known = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise SrlibError(f"{path}: its network is not one that spandrel {version('spandrel')} knows") from None
    except Exception as error:  # whatever a network's code makes of odd weights
        raise SrlibError(f"{path}: spandrel cannot build its network ({one_line(error, 200)})") from None
    if not isinstance(known, spandrel.ImageModelDescriptor):
        raise SrlibError(f"{path}: expected a network from an image to an image, got one that needs a mask too")
    trial = torch.zeros(1, known.input_channels, TRIAL_SIDE, TRIAL_SIDE)
    openvino = import_openvino()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # what tracing fixes is found out afterwards
            graph = openvino.convert_model(known.model.eval(), example_input=trial)
            graph.reshape(list(trial.shape))
        openvino.serialize(graph, folder / XML, folder / BIN)
    except OPENVINO_ERRORS as error:
        raise SrlibError(f"{path}: OpenVINO cannot convert it ({one_line(error, 200)})") from None


def _pickled_weights(path: Path, content: bytes) -> "State":
    import torch

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zipfile, torch
        raise SrlibError(
            f"{path}: not a file of weights alone, and nothing else is loaded from it ({one_line(error, 120)})"
        ) from None
    return _mapping(path, state)


def _safe_weights(path: Path, content: bytes) -> "State":
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return _mapping(path, load(content))
    except SafetensorError as error:
        raise SrlibError(f"{path}: not a safetensors file ({one_line(error, 120)})") from None


def _mapping(path: Path, state: object) -> "State":
    if not isinstance(state, Mapping) or not state:
        raise SrlibError(f"{path}: expected names and tensors, got {type(state).__name__}")
    return state


_LOADERS: "dict[str, Callable[[Path, bytes], State]]" = {
    ".pth": _pickled_weights,
    ".pt": _pickled_weights,
    ".ckpt": _pickled_weights,
    ".safetensors": _safe_weights,
}
SUFFIXES = tuple(_LOADERS)

if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except SrlibError as error:
        sys.exit(str(error))
