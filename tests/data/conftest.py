"""A web server on this machine that misbehaves, and archives; benchmarks/download_faults.py does so by the hundred."""

import hashlib
import importlib.util
import io
import random
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.data import fetching, transfer
from srlib.data.sources import Source

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "download_faults.py"
spec = importlib.util.spec_from_file_location("download_faults", SCRIPT)
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)

CONTENT = random.Random(1).randbytes(700_000)
OTHER = random.Random(2).randbytes(700_000)
PATH = "/sets/one.bin"


@pytest.fixture
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, little patience where the server stalls, and no proxy between this test and its server."""
    monkeypatch.setattr(transfer, "TIMEOUT", 0.4 if "stall" in request.node.name else 20.0)
    monkeypatch.setattr(fetching, "PATIENCE", (0.01,) * 4)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator["faults.Server"]:
    with faults.serving() as server:
        server.files[PATH] = CONTENT
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def source(server: "faults.Server", path: str = PATH, content: bytes = CONTENT, **changes: object) -> Source:
    facts = {"digest": hashlib.sha256(content).hexdigest(), "size": len(content), "mirror": path[1:]} | changes
    return Source(server.address + path, terms="made here", **facts)


def place(store: Path, origin: Source) -> Path:
    return store / f"{origin.digest}-{origin.name}"


def partial(store: Path, origin: Source) -> Path:
    return store / f"{origin.digest}-{origin.name}.partial"


Call = namedtuple("Call", "total label unit start moves")


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Record the calls of every progress bar."""
    calls: list[Call] = []

    class Bar:
        def __init__(self, total: int, label: str, unit: str, start: int = 0) -> None:
            calls.append(Call(total, label, unit, start, []))
            self.moves = calls[-1].moves

        def __enter__(self) -> Callable:
            return lambda n=1, **_: self.moves.append(n)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(fetching, "progress", Bar)
    return calls


def png(number: int) -> bytes:
    Image.fromarray(np.full((4, 4, 3), number % 256, np.uint8)).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(zipfile.ZipInfo("DIV2K/"), b"")
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()
