"""A tracking server that answers with nonsense: a bounded number of requests, one line, nothing left behind."""

import contextlib
import gzip
import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking.registry import fetched

Answer = Callable[[str], "dict[str, object] | bytes | str | Iterator[bytes]"]
MODEL = "m-" + "0" * 32
VERSION = {"name": "a", "version": "1", "source": "x", "run_id": "", "creation_timestamp": 0, "status": "READY"}
RUN = {"info": {"run_id": "r", "experiment_id": "1", "status": "FINISHED", "artifact_uri": "mlflow-artifacts:/r"}}


class Compressed(bytes):
    """An answer with `Content-Encoding: gzip`."""


def forever(block: bytes, pause: float = 0.0) -> Iterator[bytes]:
    """Yield a block again and again."""
    while True:
        time.sleep(pause)
        yield block


class Server:
    """A server on 127.0.0.1 whose answers a function chooses: JSON, raw bytes, or a text to redirect to."""

    def __init__(self) -> None:
        self.answer: Answer = lambda path: {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                answer = {"experiment": EXPERIMENT} if "experiments/get" in self.path else outer.answer(self.path)
                self.send_response(302 if isinstance(answer, str) else 200)
                if isinstance(answer, str):
                    self.send_header("Location", answer)
                if isinstance(answer, Compressed):
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Type", "application/json")
                if isinstance(answer, Iterator):  # without a length, until the client has had enough
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        for block in answer:
                            self.wfile.write(block)
                    return
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 (the name that http.server looks for)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


EXPERIMENT = {
    "experiment_id": "1",
    "name": "srlib",
    "artifact_location": "mlflow-artifacts:/1",
    "lifecycle_stage": "active",
}


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "srlib")
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    (folder / "temporary").mkdir()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def located(location: str) -> Answer:
    """Answers that lead to a model's files at `location`."""

    def answer(path: str) -> "dict[str, object] | bytes | str | Iterator[bytes]":
        if "get-download-uri" in path:
            return {"artifact_uri": location}
        if "logged-models/search" in path:
            return {"models": [logged(location)], "next_page_token": "again"}
        if "logged-models" in path:
            return {"model": logged(location)}
        if "runs/get" in path:
            return {"run": RUN}
        if "artifacts" in path and "mlflow-artifacts" in path:
            return {"files": [{"path": "srlib", "is_dir": True}]}
        return {"model_version": VERSION}

    return answer


def logged(location: str) -> dict[str, object]:
    info = {"model_id": MODEL, "experiment_id": "1", "name": "gan", "artifact_uri": location, "status": 2}
    return {"info": info | {"creation_timestamp_ms": 0, "last_updated_timestamp_ms": 0}, "data": {}}


@pytest.mark.parametrize(
    "answer",
    [
        located("models:/a@champion"),
        located(f"models:/{MODEL}"),
        located("runs:/r/gan"),
        located("ftp://127.0.0.1/x"),
        located("dbfs:/x"),
        located("nonsense:/x"),
        located("\0"),
        located("file:///nowhere"),
        located("mlflow-artifacts:/x"),
        located("https://127.0.0.1:1/x"),
        lambda path: b"<html>not JSON</html>",
        lambda path: b"[" * 100_000,
        lambda path: {"model_version": 3, "artifact_uri": [], "run": "x"},
        lambda path: f"{path}x",
        lambda path: "/",
    ],
)
@pytest.mark.parametrize("uri", ["models:/a@champion", "models:/a/1", f"models:/{MODEL}", "runs:/r/gan"])
def test_a_hostile_server_is_one_line(server: Server, folder: Path, answer: Answer, uri: str) -> None:
    server.answer = answer
    with pytest.raises(SrlibError) as error, fetched(uri) as model:
        # What the server sent as files is for the reader of models to refuse.
        raise SrlibError(f"fetched: {sorted(path.name for path in model.iterdir())}")
    assert len(str(error.value).splitlines()) == 1
    assert len(server.requests) <= 20, server.requests
    assert not list((folder / "temporary").iterdir())


class TestEndless:
    """Answers without an end, as fast or as slow as a server likes."""

    @pytest.fixture
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"_LARGEST_ANSWER": 2**20, "_LARGEST_FILE": 2**21, "_PATIENCE": 0.5}.items():
            monkeypatch.setattr(compat, name, value)

    def lines(self, server: Server, uri: str) -> str:
        with pytest.raises(SrlibError) as error, fetched(uri):
            pytest.fail("fetched")
        assert len(str(error.value).splitlines()) == 1
        return str(error.value)

    def test_a_file(self, server: Server, folder: Path, limits: None) -> None:
        server.answer = lambda path: (
            forever(b"0" * 2**16) if path.endswith(".json") else located("mlflow-artifacts:/x")(path)
        )
        assert "the server sent more than 2,097,152 bytes" in self.lines(server, "models:/a/1")
        assert not list((folder / "temporary").iterdir())

    def test_an_answer(self, server: Server, limits: None) -> None:
        server.answer = lambda path: forever(b" " * 2**16)
        assert "the server sent more than 1,048,576 bytes" in self.lines(server, "models:/a/1")

    def test_a_trickle(self, server: Server, limits: None) -> None:
        server.answer = lambda path: forever(b" ", pause=0.1)
        assert re.search(r"the server sent only \d+ bytes in \d s", self.lines(server, "models:/a/1"))

    def test_a_compressed_answer(self, server: Server, limits: None) -> None:
        server.answer = lambda path: Compressed(gzip.compress(b" " * 2**24))
        assert "the server sent more than 1,048,576 bytes" in self.lines(server, "models:/a/1")
