"""Networks from files of unknown origin: what is refused before anything runs."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf

from srlib.errors import SrlibError
from srlib.evaluation.frozen_graph import ALLOWED
from srlib.evaluation.graphs import load_graph

DANGEROUS = """ReadFile WriteFile MergeV2Checkpoints RestoreV2 SaveV2 PyFunc EagerPyFunc MatchingFiles WholeFileReader
TFRecordReader LookupTableImport InitializeTableFromTextFileV2 PrintV2 ShardedFilename LoadLibrary LoopCond Enter While
If PartitionedCall StatefulPartitionedCall SymbolicGradient RemoteCall Send Recv VarHandleOp Assert DebugIdentity
RandomUniform XlaLaunch"""

GraphDef = tf.compat.v1.GraphDef


def saved(path: Path, build: Callable[[tf.Tensor], object], edit: Callable[[GraphDef], object] | None = None) -> Path:
    """A graph file with a placeholder of one channel; `edit` changes the graph before it is written."""
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder(tf.float32, [1, None, None, 1], name="lr"))
    definition = graph.as_graph_def()
    if edit:
        edit(definition)
    path.write_bytes(definition.SerializeToString())
    return path


def refused(path: Path, message: str) -> None:
    """Assert that a file is refused with one line that names it."""
    with pytest.raises(SrlibError, match=message) as error:
        load_graph(path, 1, 4).run(np.zeros((1, 8, 8, 1), np.float32))
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


class TestOperations:
    def test_a_file_is_not_written(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"

        def build(lr: tf.Tensor) -> None:
            with tf.control_dependencies([tf.io.write_file(str(victim), "owned")]):
                tf.identity(tf.nn.depth_to_space(tf.tile(lr, [1, 1, 1, 16]), 4), name="sr")

        refused(saved(tmp_path / "net.pb", build), "'WriteFile' operation, which is not allowed")
        assert not victim.exists()

    def test_a_file_is_not_read(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"x" * 256)

        def build(lr: tf.Tensor) -> None:
            content = tf.io.decode_raw(tf.io.read_file(str(secret)), tf.uint8)
            tf.identity(tf.reshape(tf.cast(content, tf.float32), [1, 16, 16, 1]) + tf.reduce_sum(lr), name="sr")

        refused(saved(tmp_path / "net.pb", build), "'(ReadFile|DecodeRaw)' operation, which is not allowed")

    def test_what_reaches_beyond_the_graph_is_not_allowed(self) -> None:
        assert not ALLOWED & set(DANGEROUS.split())

    def test_no_allowed_operation_has_state_or_effects(self) -> None:
        from tensorflow.python.framework import op_def_registry

        for name in ALLOWED:
            operation = op_def_registry.get(name)
            assert operation is not None, name
            assert not operation.is_stateful, name

    def test_an_unknown_operation(self, tmp_path: Path) -> None:
        def edit(graph: GraphDef) -> None:
            graph.node[-1].op = "EvilOp"

        refused(
            saved(tmp_path / "net.pb", lambda lr: tf.identity(lr, name="sr"), edit), "node 'sr' is a 'EvilOp' operation"
        )

    def test_a_function_named_like_an_operation(self, tmp_path: Path) -> None:
        def edit(graph: GraphDef) -> None:
            function = graph.library.function.add()
            function.signature.name = "Identity"

        refused(
            saved(tmp_path / "net.pb", lambda lr: tf.identity(lr, name="sr"), edit), "defines the function 'Identity'"
        )

    @pytest.mark.parametrize("name", ["nowhere", "nowhere:1", "^nowhere"])
    def test_an_input_that_does_not_exist(self, tmp_path: Path, name: str) -> None:
        def edit(graph: GraphDef) -> None:
            graph.node[-1].input.append(name)

        path = saved(tmp_path / "net.pb", lambda lr: tf.identity(lr, name="sr"), edit)
        refused(path, r"node 'sr' reads '\^?nowhere(:1)?', which is not in the graph")

    def test_a_constant_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        def edit(graph: GraphDef) -> None:
            for node in graph.node:
                if node.op == "Const":
                    shape = node.attr["value"].tensor.tensor_shape
                    del shape.dim[:]
                    for size in (2**20, 2**20):
                        shape.dim.add(size=size)

        path = saved(tmp_path / "net.pb", lambda lr: tf.add(lr, tf.constant([1.0]), name="sr"), edit)
        refused(path, "has 1,099,511,627,776 elements")

    @pytest.mark.parametrize(
        "edit",
        [
            lambda graph: graph.node[-1].input.append("sr"),  # a cycle
            lambda graph: graph.node.extend([graph.node[-1]]),  # one name twice
            lambda graph: graph.node[-1].input.append("lr:7"),  # an output that the node does not have
            lambda graph: graph.node[-1].attr["T"].CopyFrom(tf.compat.v1.AttrValue(type=1000)),
            lambda graph: graph.node[0].attr.clear(),
        ],
    )
    def test_a_graph_that_does_not_fit_together(self, tmp_path: Path, edit: Callable[[GraphDef], object]) -> None:
        refused(
            saved(tmp_path / "net.pb", lambda lr: tf.identity(lr, name="sr"), edit), "cannot run this graph|expected"
        )

    def test_truncated_files(self, tmp_path: Path) -> None:
        kernel = np.zeros((3, 3, 1, 16), np.float32)
        whole = saved(tmp_path / "whole.pb", lambda lr: tf.nn.depth_to_space(tf.nn.conv2d(lr, kernel, 1, "SAME"), 4))
        content = whole.read_bytes()
        for length in range(0, len(content), 7):
            path = tmp_path / "cut.pb"
            path.write_bytes(content[:length])
            refused(path, "cut.pb")


def test_pipes_and_devices_are_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pb")
    refused(tmp_path / "net.pb", "expected a regular file")
    (tmp_path / "net.onnx").symlink_to("/dev/zero")
    refused(tmp_path / "net.onnx", "expected a regular file")


def onnx_model(location: str | None) -> onnx.ModelProto:
    """A nearest-neighbor ×4 network whose kernel lies in the file `location`, if any."""
    make = onnx.helper
    kernel = onnx.numpy_helper.from_array(np.ones((16, 1, 1, 1), np.float32), "kernel")
    if location is not None:
        onnx.external_data_helper.set_external_data(kernel, location)
        kernel.ClearField("raw_data")
    nodes = [
        make.make_node("Conv", ["lr", "kernel"], ["x"]),
        make.make_node("DepthToSpace", ["x"], ["sr"], blocksize=4),
    ]
    lr, sr = (
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, f"{name}h", f"{name}w"])
        for name in ("lr", "sr")
    )
    graph = make.make_graph(nodes, "net", [lr], [sr], [kernel])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])


class TestOnnx:
    def test_weights_in_the_file_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "net.onnx"
        path.write_bytes(onnx_model(None).SerializeToString())
        out = load_graph(path, 1, 4).run(np.ones((1, 3, 5, 1), np.float32))
        np.testing.assert_array_equal(out, np.ones((1, 12, 20, 1)))

    @pytest.mark.parametrize("location", ["weights.bin", "../../etc/hostname"])
    def test_weights_in_another_file(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "weights.bin").write_bytes(np.ones(16, np.float32).tobytes())
        path = tmp_path / "net.onnx"
        path.write_bytes(onnx_model(location).SerializeToString())
        refused(path, r"its weights are in other files \('.*'\), which the SHA-256 of the recipe does not cover")

    def test_tensors_in_attributes_are_looked_at(self, tmp_path: Path) -> None:
        model = onnx_model(None)
        hidden = onnx.numpy_helper.from_array(np.ones(1, np.float32))
        onnx.external_data_helper.set_external_data(hidden, "weights.bin")
        constant = onnx.helper.make_node("Constant", [], ["c"], value=hidden)
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        model.graph.node.add().attribute.append(onnx.helper.make_attribute("then_branch", branch))
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        refused(path, "weights.bin")

    @pytest.mark.parametrize("content", [b"\xff\xff", b"", b"<net/>"])
    def test_another_content(self, tmp_path: Path, content: bytes) -> None:
        for suffix in (".onnx", ".xml"):
            path = tmp_path / f"net{suffix}"
            path.write_bytes(content)
            refused(path, "not an ONNX model|cannot read it|expected one input")
