"""OpenVINO is imported without its telemetry, and changes of a graph change no value."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.inference import runtime
from srlib.inference.exported import read_exported
from srlib.inference.runtime import import_openvino
from srlib.inference.shipped import SHIPPED

ROOT = Path(__file__).parents[2]

WATCH = """
import sys
started = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        started.append((event, arguments[-1]))
sys.addaudithook(watch)
from srlib.inference.runtime import import_openvino
import_openvino()
from srlib.inference.upscaler import open_model
open_model("psnr-x4")
print(started, sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


def test_no_connection_no_file_no_telemetry(tmp_path: Path) -> None:
    known = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", WATCH]
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_openvino_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SrlibError, match=r"upscaling needs OpenVINO \(openvino is missing\): \S+ -m pip install"):
        import_openvino.__wrapped__()


def test_repetition_by_convolution_changes_no_value() -> None:
    model = read_exported(SHIPPED / "fast-x4")
    graph = runtime.import_openvino().Core().read_model(model.graph, model.weights)
    assert "Concat" in {node.get_type_name() for node in graph.get_ops()}
    runtime._repeat_by_convolution(graph)
    assert "Concat" not in {node.get_type_name() for node in graph.get_ops()}
    changed = dataclasses.replace(model, **dict(zip(("graph", "weights"), runtime.serialized(graph), strict=True)))
    lr = np.random.default_rng(0).random((9, 12, 3), np.float32)
    first, second = (runtime.CompiledNetwork(one, precision="float32")(lr) for one in (model, changed))
    np.testing.assert_array_equal(first, second)
