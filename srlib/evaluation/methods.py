"""Rows of the table that come from networks: those that the recipe trained, and any file given."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, Cost, Method, Metric, interpolation
from srlib.evaluation.graphs import Graph, load_graph
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import checked, lpips
from srlib.files import tree_hash
from srlib.imaging.arrays import Image
from srlib.imaging.color import Channels, network_input, rgb_from_output
from srlib.imaging.folders import list_images
from srlib.imaging.metrics import to_uint8
from srlib.models import CONFIG, enlarge, load_model, multiply_adds
from srlib.params import Evaluate


def rows(section: Evaluate, scale: int, pretrained: Path, gan: Path) -> list[Method]:
    """The methods of a recipe in the order of the table: interpolations, given ones, the trained networks.

    Raises:
        SrlibError: A given file that is not what the recipe says, a model for another scale, or two rows of one name.
    """
    methods = [interpolation(name) for name in section.interpolations]
    for item in section.methods:
        path, white = Path(item.file), item.value_range
        methods.append(given(item.name, path, scale, sha256=item.sha256, channels=item.channels, value_range=white))
    network = trained(pretrained, scale)
    methods += [network, *([ensemble(network)] if section.self_ensemble else []), trained(gan, scale)]
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SrlibError(f"evaluate.methods: {', '.join(twice)}: the recipe's own networks have a row of that name")
    return methods


def measures(section: Evaluate) -> dict[str, Metric]:
    """The columns of a recipe: all of `METRICS`, and LPIPS where it names the weights."""
    if section.lpips is None:
        return METRICS
    backbone, linear = (
        checked(Path(file.file), file.sha256, f"evaluate.lpips.{key}")
        for key, file in (("backbone", section.lpips.backbone), ("linear", section.lpips.linear))
    )
    return {**METRICS, LPIPS: lpips(backbone, linear)}


def trained(folder: Path, scale: int, name: str | None = None) -> Method:
    """The model in `folder` as a method, named by its architecture and training (EDSR, SRGAN) unless `name` is given.

    Raises:
        SrlibError: No usable model there, or one for another scale.
    """
    model, config = load_model(folder, scale=scale)
    cost = Cost(model.count_params(), lambda height, width: multiply_adds(model, height, width))
    upscale = upscaler(model)
    return Method(name or config.title, lambda lr, scale: upscale(lr), cost=cost)


def upscaler(model: Any) -> Callable[[Image], Image]:
    """A function that enlarges whole pictures with a Keras model of `srlib.models`, in float32: the reference.

    Returns:
        uint8 RGB [h, w, 3] → uint8 RGB [scale·h, scale·w, 3], clamped and rounded as the protocol says.
    """

    def upscale(lr: Image) -> Image:
        return to_uint8(enlarge(model, lr[np.newaxis])[0])

    return upscale


def given(
    name: str, path: Path, scale: int, *, sha256: str, channels: Channels = "rgb", value_range: float = 1.0
) -> Method:
    """A row from a file: a model folder of ours, `.pb`, `.onnx`, `.xml` with its `.bin`, or a folder of pictures.

    Args:
        name: Of the row.
        path: The file or folder.
        scale: The factor of enlargement.
        sha256: Of the file; of a folder, and of `.xml` and `.bin` together, as `srlib.files.tree_hash` makes it.
        channels: What a foreign network takes and gives. The chroma of a luma network is enlarged by bicubic.
        value_range: The network's white: 1 or 255.

    Raises:
        SrlibError: Nothing there, other content than `sha256` says, or something that cannot be used.
    """
    if not path.exists():
        raise SrlibError(f"evaluate.methods, {name}: {path}: no such file or folder")
    if (found := content_hash(path)) != sha256:
        raise SrlibError(
            f"evaluate.methods, {name}: {path}: expected the SHA-256 {sha256}, found {found}; "
            "write that into the recipe if this is the file you mean"
        )
    if (path / CONFIG).is_file():
        return trained(path, scale, name)
    if path.is_dir():
        if not list_images(path):
            raise SrlibError(f"evaluate.methods, {name}: {path}: expected a model or pictures, found neither")
        return Method(name, folder=path)
    graph = load_graph(path, 3 if channels == "rgb" else 1, scale)
    return Method(name, lambda lr, scale: _run(graph, lr, channels, value_range), cost=graph.cost)


def content_hash(path: Path) -> str:
    """The SHA-256 of a file or folder as a recipe names it; an OpenVINO model is its `.xml` and `.bin` together."""
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and weights.is_file():
        return hashlib.sha256(f"{tree_hash(path)}{tree_hash(weights)}".encode()).hexdigest()
    return tree_hash(path)


def ensemble(method: Method) -> Method:
    """The geometric self-ensemble (Lim et al. 2017, section 3.4), marked + as there: the mean over eight views.

    Each view is the LR picture flipped and turned; what the method makes of it is turned back. The mean is of rounded
    pictures, so that any method can be turned; against a mean of unrounded ones it moved nine pictures by 0.013 dB at
    most, either way, and their mean by 0.001 dB.
    """
    assert method.upscale is not None, "a folder of pictures has nothing to turn"
    single, cost = method.upscale, method.cost

    def upscale(lr: Image, scale: int) -> Image:
        total = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float64)
        for turns in range(4):
            for flipped in (False, True):
                view = np.rot90(lr[:, ::-1] if flipped else lr, turns)
                sr = np.rot90(single(np.ascontiguousarray(view), scale), -turns)
                total += sr[:, ::-1] if flipped else sr
        return to_uint8(total / (8 * 255))

    eight = cost and Cost(cost.parameters, lambda height, width: 8 * cost.multiply_adds(height, width))
    return dataclasses.replace(method, name=f"{method.name}+", upscale=upscale, cost=eight)


def _run(graph: Graph, lr: Image, channels: Channels, value_range: float) -> Image:
    """Enlarges a picture by a foreign network, whose white is `value_range`."""
    batch = network_input(lr, channels)[np.newaxis] * np.float32(value_range)
    return to_uint8(rgb_from_output(np.asarray(graph.run(batch)[0], np.float64) / value_range, lr, channels))
