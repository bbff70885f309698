"""A recorded model is loaded without this project, and served as the documentation says."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.models import ModelConfig, build, save_model
from srlib.pipeline.dependencies import imported_files
from srlib.tracking import connect
from srlib.tracking.model import _NOT_NEEDED, LOADER, record_model
from srlib.tracking.registry import register

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "serve-a-model.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```\n(.*?)```", PAGE.partition("## As a server")[2], re.DOTALL)
pytestmark = pytest.mark.slow


@pytest.fixture
def champion(folder: Path, own_store: str) -> Path:
    """The working folder, whose store has a small model as the champion of srlib-x4; the loading code is a copy."""
    config = ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})
    save_model(build(config), config, Path("model"))
    store = connect(folder)
    run = store.client.create_run(store.experiment).info.run_id
    model = record_model(store, run, "pretrained", Path("model"), {})
    register(store, "srlib-x4", model, run, "weights")
    store.client.set_registered_model_alias("srlib-x4", "champion", "1")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)).save("photo.png")
    return folder


def environment(port: int) -> dict[str, str]:
    """The environment of a user, without this project on the path, for servers on this port."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "PYTHONPATH": "", "PORT": str(port)}


@contextlib.contextmanager
def running(commands: str, port: int) -> Iterator[None]:
    """Run the commands of a shell until the block ends; begin once the server answers."""
    command = ["bash", "-c", re.sub(r"^mlflow", "exec mlflow", commands, flags=re.MULTILINE)]
    with subprocess.Popen(command, env=environment(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, server.stderr and server.stderr.read()
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                time.sleep(0.2)
            yield
        finally:
            server.terminate()


def answer(port: int, rows: list[object]) -> object:
    """What the server makes of an image that is sent as its rows."""
    content = json.dumps({"inputs": rows}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", content, headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["predictions"]


def test_a_model_loads_with_its_own_code(champion: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shows = "import srlib\nprint(srlib.__file__)\nassert sr.shape == (96, 128, 3)\nopen('big.png', 'wb').write(png)\n"
    command = [sys.executable, "-c", example + shows]
    done = subprocess.run(command, env=environment(0), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "/artifacts/code/srlib/" in done.stdout
    with Image.open("big.png") as image:
        assert image.size == (36, 28)


def test_a_served_model_answers_curl_with_an_image(champion: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve, ask = (block.replace("5001", str(port)) for block in SHELL)
    with running(serve, port):
        done = subprocess.run(["bash", "-ec", ask], env=environment(port), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with Image.open("big.png") as image:
            assert image.size == (36, 28)
        assert np.array(answer(port, [[[255, 0, 128]]])).dtype.kind == "i"
        floats = np.array(answer(port, [[[0.5, 0, 1]]]))
        assert floats.shape == (4, 4, 3) and floats.min() >= 0 and floats.max() <= 1 and floats.dtype.kind == "f"
        Path("photo.png").write_text("no image")
        subprocess.run(["bash", "-c", ask], env=environment(port), capture_output=True, check=False)
    assert "image 0: image: not an image" in Path("answer.json").read_text()


def test_a_recorded_model_has_the_code_that_it_needs_only() -> None:
    files = imported_files(f"{LOADER.replace('.', '/')}.py", ROOT, _NOT_NEEDED)
    packages = {file.split("/")[1] for file in files}
    assert not packages & {"cli", "training", "tracking", "pipeline", "evaluation", "report", "data", "params"}
