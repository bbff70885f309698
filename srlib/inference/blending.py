"""Blend two exported networks for `--fidelity`: weight by weight where they are related, else by their images."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.inference.exported import BIN, XML, ExportedModel
from srlib.inference.runtime import OPENVINO_ERRORS, import_openvino, serialized

_RELATED = 0.5
"""Cosine between the kernels of two networks, median of the layers, from which they count as related: of networks of
which one was trained from the other it was .86 and more, of others .1 and less (measured:
docs/experiments/2026-11-29-more-scenes.md). Below it, blending takes longer, and is right for related ones too."""

_FLOATS: dict[str, np.dtype[np.floating]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


def blend(psnr: ExportedModel, gan: ExportedModel, fidelity: float) -> ExportedModel:
    """Interpolate between two networks: gan + fidelity · (psnr − gan).

    A network and its fine-tuned successor are interpolated weight by weight, which moves smoothly from one to the other
    (Wang et al. 2018, ESRGAN, section 3.4). Networks of other layers, and those that were trained independently, are
    interpolated by their images: the result takes the time of both.

    Args:
        psnr: The PSNR-oriented network, returned whole at fidelity 1.
        gan: A network from adversarial training, returned whole at fidelity 0.
        fidelity: 0 to 1.

    Returns:
        The blended network.

    Raises:
        SrlibError: `fidelity` is outside of [0, 1], or the networks differ in scale or channels.
    """
    if not 0 <= fidelity <= 1:
        raise SrlibError(f"fidelity: expected a number from 0 (GAN weights) to 1 (PSNR weights), got {fidelity}")
    if fidelity in (0, 1):
        return psnr if fidelity else gan
    if not (psnr.weights and gan.weights):
        raise SrlibError("fidelity: expected two models in OpenVINO's format; other formats cannot be blended")
    if not psnr.config.arithmetic == gan.config.arithmetic == "float32":
        raise SrlibError("fidelity: expected two models in float32; int8 ones cannot be blended")
    for key in ("scale", "channels"):
        if (one := getattr(psnr.config, key)) != (another := getattr(gan.config, key)):
            raise SrlibError(f"fidelity: expected two models of one {key}, got {one} and {another}")
    return _blended_weights(psnr, gan, fidelity) or _blended_images(psnr, gan, fidelity)


def _blended_weights(psnr: ExportedModel, gan: ExportedModel, fidelity: float) -> ExportedModel | None:
    """Interpolate weight by weight; None where the layers differ or the networks are not related."""
    graph, other = _parsed(psnr), _parsed(gan)
    pairs = _paired_layers(graph, other)
    if pairs is None:
        return None
    both = [(layer, _constants(psnr, layer), _constants(gan, twin)) for layer, twin in pairs]
    constants = [(layer, *cast(tuple[bytes, bytes], values)) for layer, *values in both if None not in values]
    if not _are_related(constants):
        return None
    # Equal constants are stored once, so that each file has its own offsets: the blend is written anew.
    weights = bytearray()
    for layer, faithful, sharp in constants:
        blended = _blended(layer, faithful, sharp, fidelity)
        if blended is None:
            return None
        weights += bytes(-len(weights) % 8)
        cast(ElementTree.Element, layer.find("data")).set("offset", str(len(weights)))
        weights += blended
    return ExportedModel(
        replace(psnr.config, bfloat16=_worse_loss(psnr, gan), int8=None), ElementTree.tostring(graph), bytes(weights)
    )


def _are_related(constants: Sequence[tuple[ElementTree.Element, bytes, bytes]]) -> bool:
    """Return whether one network was trained from the other, or both from a third: their kernels are alike.

    The weights of two independent trainings do not correspond: the second channel of one may do what the seventh of the
    other does, and what lies between them is worse than either.
    """
    cosines = []
    for layer, *raw in constants:
        kind = _floats(layer)
        long_sides = [side for side in _data(layer, "shape").split(",") if side.strip() not in ("", "1")]
        if kind is None or len(long_sides) < 2 or len(raw[0]) % kind.itemsize:
            continue  # a bias, a factor, a shape
        one, other = (np.frombuffer(values, kind).astype(np.float64) for values in raw)
        if lengths := np.linalg.norm(one) * np.linalg.norm(other):
            cosines.append(one @ other / lengths)
    return not cosines or bool(np.median(cosines) >= _RELATED)


def _worse_loss(*models: ExportedModel) -> float | None:
    losses = [model.config.bfloat16 for model in models]
    return None if None in losses else max(losses, key=lambda loss: abs(loss or 0.0))


def _blended_images(psnr: ExportedModel, gan: ExportedModel, fidelity: float) -> ExportedModel:
    """Return one graph that runs both networks and interpolates their images."""
    openvino = import_openvino()
    from openvino import opset13

    try:
        core = openvino.Core()
        first, second = (core.read_model(model.graph, model.weights) for model in (psnr, gan))
        for target in second.input(0).get_target_inputs():
            target.replace_source_output(first.input(0))
        faithful, sharp = (graph.get_results()[0].input_value(0) for graph in (first, second))
        difference = opset13.multiply(opset13.subtract(faithful, sharp), np.float32(fidelity))
        blend = openvino.Model([opset13.result(opset13.add(sharp, difference))], first.get_parameters(), "blend")
        content = serialized(blend)
    except OPENVINO_ERRORS as error:
        raise SrlibError(
            f"fidelity: {psnr.config.title} and {gan.config.title} cannot be blended ({one_line(error, 200)})"
        ) from None
    config = replace(
        psnr.config,
        receptive_field=max(psnr.config.receptive_field, gan.config.receptive_field),
        bytes_per_pixel=psnr.config.bytes_per_pixel + gan.config.bytes_per_pixel,
        bfloat16=_worse_loss(psnr, gan),
        int8=None,
    )
    return ExportedModel(config, *content)


def _parsed(model: ExportedModel) -> ElementTree.Element:
    """Parse the graph; a document type, which could define entities, is refused."""
    if b"<!DOCTYPE" in model.graph:
        raise SrlibError(f"{model.config.title}: {XML} is not a network's graph")
    try:
        return ElementTree.fromstring(model.graph)  # noqa: S314 no document type, hence no entities
    except (ElementTree.ParseError, RecursionError) as error:
        raise SrlibError(f"{model.config.title}: {XML} is not valid XML ({error})") from None


def _paired_layers(
    graph: ElementTree.Element, other: ElementTree.Element
) -> list[tuple[ElementTree.Element, ElementTree.Element]] | None:
    """Pair the layers of two graphs, or return None where the graphs differ in more than the constants' places."""
    if [edge.attrib for edge in graph.findall("edges/edge")] != [edge.attrib for edge in other.findall("edges/edge")]:
        return None
    layers, twins = graph.findall("layers/layer"), other.findall("layers/layer")
    if len(layers) != len(twins):
        return None
    pairs = list(zip(layers, twins, strict=True))
    return pairs if all(_without_names(layer) == _without_names(twin) for layer, twin in pairs) else None


def _constants(model: ExportedModel, layer: ElementTree.Element) -> bytes | None:
    """Return the bytes of a constant layer, None for any other layer."""
    data = layer.find("data")
    if layer.get("type") != "Const" or data is None:
        return None
    offset, size = data.get("offset", ""), data.get("size", "")
    if not (offset.isdecimal() and size.isdecimal() and int(offset) + int(size) <= len(model.weights)):
        raise SrlibError(f"{model.config.title}: {XML} names constants outside of {BIN}; export the model again")
    return model.weights[int(offset) : int(offset) + int(size)]


def _blended(layer: ElementTree.Element, psnr: bytes, gan: bytes, fidelity: float) -> bytes | None:
    """Blend two constants of one size; None where they differ and are not floats."""
    kind = _floats(layer)
    if kind is None or len(psnr) % kind.itemsize:
        return psnr if psnr == gan else None
    start, end = (np.frombuffer(raw, kind) for raw in (gan, psnr))
    return bytes((start + kind.type(fidelity) * (end - start)).tobytes())


def _floats(layer: ElementTree.Element) -> np.dtype[np.floating] | None:
    """Return the type of a constant's floats, None for other constants."""
    return _FLOATS.get(_data(layer, "element_type"))


def _data(layer: ElementTree.Element, name: str) -> str:
    data = layer.find("data")
    return "" if data is None else data.get(name, "")


def _without_names(layer: ElementTree.Element) -> list[tuple[str, list[tuple[str, str]], str]]:
    """Return what must agree between two layers: everything but names and the places of constants."""
    ignored = {"name", "names"} | ({"offset"} if layer.get("type") == "Const" else set())
    return [
        (part.tag, sorted((key, value) for key, value in part.attrib.items() if key not in ignored), part.text or "")
        for part in layer.iter()
    ]
