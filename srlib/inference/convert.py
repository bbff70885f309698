"""Convert Keras networks to ONNX, OpenVINO and LiteRT files: the same weights give the same bytes.

Keras writes ONNX (through tf2onnx); OpenVINO's files are made from it, since OpenVINO's own reader of TensorFlow graphs
leaves transpositions around some activations, which cost half of the speed. Names, versions and metadata are removed.
"""

import logging
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.inference.exported import ONNX, XML
from srlib.inference.process import run_module
from srlib.inference.runtime import import_openvino

if TYPE_CHECKING:
    import keras
    import onnx
    import openvino


def from_keras(folder: Path, path: Path) -> None:
    """Convert a Keras model in a process of its own: tf2onnx's result depends on its earlier conversions.

    Args:
        folder: A model folder of the pipeline.
        path: The file to write: `.onnx` or `.tflite`.

    Raises:
        SrlibError: The model cannot be converted.
    """
    done = run_module("srlib.inference.convert", str(folder), str(path))
    if done.returncode or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SrlibError(f"{folder}: cannot be converted to {path.suffix}: {one_line(last)}")


def convert(folder: Path, path: Path) -> None:
    """Convert a Keras model in this process; see `from_keras`."""
    from srlib.engine import pin_threads

    pin_threads()
    from srlib.models import load_model

    model, _ = load_model(folder)
    # Keras exports only models that have been called once.
    model(np.zeros((1, 8, 8, model.input.shape[-1]), np.float32), training=False)
    if path.suffix == ".tflite":
        model.export(path, format="litert", verbose=False)
    else:
        _write_onnx(model, path)


def _write_onnx(model: "keras.Model", path: Path) -> None:
    import onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it reports an optimization that it gives up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(path, format="onnx", verbose=False)
    content = onnx.load(path)
    _normalize(content)
    onnx.checker.check_model(content, full_check=True)
    path.write_bytes(content.SerializeToString(deterministic=True))


def _normalize(content: "onnx.ModelProto") -> None:
    """Name input and output, number everything else, and remove the producer and its version."""
    graph = content.graph
    _remove_fifth_axis(graph)
    names = {graph.input[0].name: "lr", graph.output[0].name: "sr", "": ""}

    def rename(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for node in graph.node:
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        node.doc_string = ""
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = rename(value.name)
        value.doc_string = ""
    order = sorted(graph.initializer, key=lambda value: int(value.name[1:]))
    del graph.initializer[:]
    del graph.value_info[:]
    del content.metadata_props[:]
    graph.initializer.extend(order)
    for text in ("domain", "doc_string", "producer_version"):
        setattr(content, text, "")
    graph.doc_string = ""
    graph.name = "network"
    content.producer_name = "srlib"
    for side, prefix in ((graph.input[0], ""), (graph.output[0], "sr_")):
        axes = side.type.tensor_type.shape.dim
        axes[0].dim_param = "batch"
        axes[1].dim_param = f"{prefix}height"
        axes[2].dim_param = f"{prefix}width"


def _remove_fifth_axis(graph: "onnx.GraphProto") -> None:
    """Remove the leading axis of length 1 that tf2onnx sometimes leaves on a network of one channel."""
    from onnx import helper, numpy_helper

    axes = graph.output[0].type.tensor_type.shape.dim
    if len(axes) != 5:
        return
    del axes[0]
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{name}_5d" if name == output else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
    graph.node.append(helper.make_node("Squeeze", [f"{output}_5d", "first_axis"], [output]))


def to_openvino(folder: Path) -> "openvino.Model":
    """Write OpenVINO's files beside `model.onnx` and return the network as it was written.

    Args:
        folder: Holds `model.onnx`; `model.xml` and `model.bin` are added.

    Returns:
        The network.
    """
    openvino = import_openvino()
    save_openvino(openvino.convert_model(folder / ONNX), folder / XML)
    return openvino.Core().read_model(folder / XML)


def save_openvino(graph: "openvino.Model", path: Path) -> None:
    """Write a .xml and its .bin without the names, versions and metadata that differ from run to run."""
    path.with_suffix(".bin").unlink(missing_ok=True)  # networks that were read from it map the old file
    import_openvino().save_model(graph, path, compress_to_fp16=False)
    tree = ElementTree.parse(path)  # noqa: S314 written in the line before
    net = tree.getroot()
    net.set("name", "network")
    for parent in list(net.iter()):
        for child in list(parent):
            if child.tag in ("rt_info", "meta_data"):
                parent.remove(child)
    for layer in net.iter("layer"):
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
    for port in net.iter("port"):
        port.attrib.pop("names", None)
    tree.write(path, encoding="utf-8")


def to_float16(path: Path) -> None:
    """Convert an ONNX file's weights and operations to float16; its input and output stay float32.

    Args:
        path: The file to replace.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    content = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    # The converter appends the cast of the input, which other nodes read.
    nodes = sorted(content.graph.node, key=lambda node: "lr" not in node.input)
    del content.graph.node[:]
    content.graph.node.extend(nodes)
    onnx.checker.check_model(content, full_check=True)
    path.write_bytes(content.SerializeToString(deterministic=True))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
