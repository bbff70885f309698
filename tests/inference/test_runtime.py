"""OpenVINO is imported without its telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.inference.runtime import import_openvino

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
    with pytest.raises(SrlibError, match=r"upscaling needs OpenVINO \(openvino is missing\): pip install openvino"):
        import_openvino.__wrapped__()
