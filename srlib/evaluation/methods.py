"""Methods from networks: those that the recipe trained, and networks or finished images from files."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, Cost, Method, Metric, check_method_names, interpolation
from srlib.evaluation.foreign import Graph
from srlib.evaluation.graphs import load_graph
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import lpips, verified
from srlib.evaluation.probed import needs_probing, probed_graph
from srlib.files import tree_hash
from srlib.imaging.color import Channels, network_input, rgb_from_output
from srlib.imaging.ensemble import mean_over_views
from srlib.imaging.folders import list_images
from srlib.imaging.metrics import to_uint8
from srlib.models import CONFIG, load_model, multiply_adds, super_resolve
from srlib.params import Evaluate


def recipe_methods(section: Evaluate, scale: int, pretrained: Path, gan: Path) -> list[Method]:
    """Return the methods of a recipe in the order of the table: interpolations, `methods`, the trained networks.

    Args:
        section: `evaluate` of the recipe.
        scale: Upscaling factor.
        pretrained: Folder of the pre-trained network.
        gan: Folder of the SRGAN's generator.

    Raises:
        SrlibError: A name that cannot be used, a file that differs from its SHA-256, or a model for another scale.
    """
    check_method_names([item.name for item in section.methods])
    methods = [interpolation(name) for name in section.interpolations]
    methods += [
        from_file(
            item.name,
            Path(item.file),
            scale,
            sha256=item.sha256,
            channels=item.channels,
            value_range=item.value_range,
        )
        for item in section.methods
    ]
    network = dataclasses.replace(from_model(pretrained, scale), role="pretrained")
    methods += [network, *([self_ensemble(network)] if section.self_ensemble else [])]
    methods.append(dataclasses.replace(from_model(gan, scale), role="gan"))
    names = [method.name for method in methods]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise SrlibError(
            f"evaluate.methods: {', '.join(duplicates)}: the recipe's own network already has this name; choose another"
        )
    return methods


def recipe_metrics(section: Evaluate) -> dict[str, Metric]:
    """Return the metrics of a recipe: all of `METRICS`, and LPIPS if the recipe names its weights."""
    if section.lpips is None:
        return METRICS
    backbone, linear = (
        verified(Path(file.file), file.sha256, f"evaluate.lpips.{key}")
        for key, file in (("backbone", section.lpips.backbone), ("linear", section.lpips.linear))
    )
    return {**METRICS, LPIPS: lpips(backbone, linear)}


def from_model(folder: Path, scale: int, name: str | None = None) -> Method:
    """Return the model in `folder` as a method, by default named by its architecture and training (EDSR, SRGAN).

    Raises:
        SrlibError: No usable model, or a model for another scale.
    """
    model, config = load_model(folder, scale=scale)
    cost = Cost(model.count_params(), lambda height, width: multiply_adds(model, height, width))
    upscale = upscale_function(model)
    return Method(name or config.title, lambda lr, scale: upscale(lr), cost=cost)


def upscale_function(model: keras.Model) -> Callable[[Image], Image]:
    """Return a function that upscales whole images with a Keras model of `srlib.models`, in float32: the reference.

    Returns:
        Function uint8 RGB [h, w, 3] → uint8 RGB [scale·h, scale·w, 3], clamped and rounded as the protocol requires.
    """
    return lambda lr: to_uint8(super_resolve(model, lr[np.newaxis])[0])


def from_file(
    name: str, path: Path, scale: int, *, sha256: str, channels: Channels = "rgb", value_range: float = 1.0
) -> Method:
    """Return a method from a model folder, a network's file, or a folder of finished images.

    Args:
        name: Name of the method.
        path: The file (`.pb`, `.onnx`, `.xml`, or weights of PyTorch: `.pth`, `.safetensors`) or folder.
        scale: Upscaling factor.
        sha256: Expected `content_hash` of `path`.
        channels: Input and output of a network from a file. The chroma of a luma network is upscaled by bicubic.
        value_range: White level of such a network: 1 or 255. It is found out for weights of PyTorch and for networks
            that take images of one size only.

    Raises:
        SrlibError: No such file, content that does not match `sha256`, or a network that cannot be used.
    """
    where = f"evaluate.methods, {name}: {path}"
    if not path.exists():
        raise SrlibError(f"{where}: no such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise SrlibError(f"{where}: expected a regular file or a folder, found a pipe or device")
    if (actual := content_hash(path)) != sha256:
        raise SrlibError(
            f"{where}: expected the SHA-256 {sha256}, found {actual}; "
            "write this SHA-256 into the recipe if it is the file you mean"
        )
    if (path / CONFIG).is_file():
        return from_model(path, scale, name)
    if path.is_dir():
        if not list_images(path):
            raise SrlibError(f"{where}: expected a model or images, found neither")
        return Method(name, folder=path)
    count = 3 if channels == "rgb" else 1
    if needs_probing(path):
        graph, value_range = probed_graph(path, count, scale), 1.0
    else:
        graph = load_graph(path, count, scale)
    return Method(name, lambda lr, scale: _run(graph, lr, channels, value_range), cost=graph.cost)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file or folder for `evaluate.methods`; for OpenVINO, of `.xml` and `.bin` together."""
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and weights.is_file():
        return hashlib.sha256(f"{tree_hash(path)}{tree_hash(weights)}".encode()).hexdigest()
    return tree_hash(path)


def self_ensemble(method: Method) -> Method:
    """Return the geometric self-ensemble (Lim et al. 2017, section 3.4), marked + as there: the mean over eight views.

    Each view is the LR image flipped or rotated (D4); the output is transformed back. The mean is over rounded images,
    so that any method can be used. Compared with a mean of unrounded ones, nine images changed by 0.013 dB at most, in
    either direction, and their mean by 0.001 dB.
    """
    assert method.upscale is not None, "a folder of finished images has no views"
    single, cost = method.upscale, method.cost

    def upscale(lr: Image, scale: int) -> Image:
        return to_uint8(mean_over_views(lr, lambda view: single(view, scale), scale) / 255)

    eight = cost and Cost(cost.parameters, lambda height, width: 8 * cost.multiply_adds(height, width))
    return dataclasses.replace(method, name=f"{method.name}+", upscale=upscale, cost=eight, role="")


def _run(graph: Graph, lr: Image, channels: Channels, value_range: float) -> Image:
    """Upscale an image by a network from a file whose white level is `value_range`."""
    batch = network_input(lr, channels)[np.newaxis] * np.float32(value_range)
    return to_uint8(rgb_from_output(np.asarray(graph.run(batch)[0], np.float64) / value_range, lr, channels))
