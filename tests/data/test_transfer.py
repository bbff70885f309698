"""What a transfer says to its caller: how long to wait, and that a trickle is a stall."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from srlib.data import fetching as module
from srlib.data import transfer as transfers
from srlib.data.fetching import fetch
from srlib.data.sources import Source
from srlib.data.transfer import UnfinishedError, transfer
from srlib.errors import SrlibError


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/one.bin"
        finally:
            server.shutdown()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def run(address: str, tmp_path: Path, size: int = 10_000) -> io.BytesIO:
    file = io.BytesIO()
    transfer(address, file, tmp_path / "note", size=size, moved=lambda n: None, stop=threading.Event())
    return file


def test_a_trickle_is_a_stall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "TIMEOUT", 0.3)
    over = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        while not over.wait(0.05):  # never silent for as long as TIMEOUT
            handler.wfile.write(b"a")

    with serving(answer) as address:
        with pytest.raises(UnfinishedError, match=r"^only \d+ bytes arrived in \d+ s$"):
            run(address, tmp_path)
        over.set()


def test_slow_but_steady_transfer_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "TIMEOUT", 1.0)
    pause = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        for _ in range(10):
            handler.wfile.write(b"a" * 1000)
            pause.wait(0.15)  # longer than TIMEOUT in all

    with serving(answer) as address:
        assert run(address, tmp_path).getvalue() == b"a" * 10_000


@pytest.mark.parametrize(
    ("header", "after"), [("7", 7), ("0", 0), ("100000", 60), ("soon", 0), ("-3", 0), ("²", 0), (None, 0)]
)
def test_retry_after_is_honored(header: str | None, after: float, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        if header is not None:
            handler.send_header("Retry-After", header)
        handler.end_headers()

    with serving(answer) as address, pytest.raises(UnfinishedError, match=r"^HTTP 503 ") as caught:
        run(address, tmp_path)
    assert caught.value.after == after


def test_pauses_grow_and_are_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each pause lies between half of its longest and that; where the server asks for more, it is that."""
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    asked = iter(["0", "0", "0", "40", "0", "0", "0"])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", next(asked))
        handler.end_headers()

    with serving(answer) as address:
        source = Source(address, "0" * 64, "made here", mirror="one.bin", size=10_000)
        with pytest.raises(SrlibError, match="HTTP 503"), (tmp_path / "partial").open("ab") as file:
            module._transfer(source, file, tmp_path / "partial", None, lambda n: None, Stop())
    assert len(pauses) == len(module.PATIENCE)
    assert pauses[3] == 40
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(pauses[:3], module.PATIENCE[:3], strict=True))
    assert all(pause != longest for pause, longest in zip(pauses[:3], module.PATIENCE[:3], strict=True))
    assert "retrying in 40 s" in capsys.readouterr().err


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "transfer", full)
    source = Source("http://127.0.0.1:1/one.bin", "0" * 64, "made here", mirror="one.bin", size=10_000)
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetch([source], tmp_path)
    assert str(caught.value.filename).endswith("one.bin.partial")
