"""Randomly injected network faults: no wrong file, nothing left over, everything fetched in the end.

    python benchmarks/download_faults.py [--faults 200] [--files 40] [--seed 0]

A web server on this machine serves files with deliberate faults; a client process fetches them into a store with
srlib's own `fetch`, and is started again whenever it was killed or gave up. Files with a final name in the store are
compared after every run. Exits with 1 where a file is wrong or missing, or anything is left over. The client's pauses
and its timeout are shortened; nothing else is changed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from srlib.data import fetching, transfer
from srlib.data.fetching import LOCKS
from srlib.data.sources import Source
from srlib.errors import SrlibError

TIMEOUT = 0.5  # seconds without a byte, instead of 30
PATIENCE = (0.01, 0.02, 0.02, 0.05, 0.05, 0.05)  # seconds, instead of 0.5 to 16


class Server(ThreadingHTTPServer):
    """A web server with Range, If-Range and ETag; the next request of a path consumes its next fault.

    Attributes:
        files: Path → content. Any other path is a 404.
        faults: Path → faults in the order of the requests.
        requests: Path and first byte of every request, in order.
        client: The process that a `kill` fault kills.
        over: Ends stalls.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, int]] = []
        self.client = 0
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that disconnects; report anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        faults = self.server.faults.get(self.path, [])
        start = 0
        span = self.headers.get("Range")
        if content is not None and span and self.headers.get("If-Range") in (None, etag(content)):
            start = int(span.removeprefix("bytes=").removesuffix("-"))
        self.server.requests.append((self.path, start))
        self.close_connection = True
        if content and start >= len(content):
            self.send_error(416)
        elif faults:
            faults.pop(0)(self, content or b"", start)
        elif content is None:
            self.send_error(404)
        else:
            self.head(content, start)
            self.wfile.write(content[start:])

    def do_HEAD(self) -> None:
        """Answer a question for the size; it consumes no fault and is not recorded."""
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
        else:
            self.head(content, 0)

    def head(self, content: bytes, start: int, **changes: str | None) -> None:
        """Send status and headers of a correct answer, except for `changes` (None omits a header)."""
        headers = {"ETag": etag(content), "Content_Length": str(len(content) - start)}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for name, value in (headers | changes).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


Fault = Callable[[Handler, bytes, int], None]


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def drop(share: float) -> Fault:
    """Close the connection normally after a share of the content."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        handler.head(content, start)
        handler.wfile.write(content[start : start + int(share * (len(content) - start))])

    return fault


def reset(share: float) -> Fault:
    """Reset the connection after a share of the content."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        drop(share)(handler, content, start)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return fault


def stall(share: float) -> Fault:
    """Stop sending after a share of the content, and leave the connection open."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        drop(share)(handler, content, start)
        handler.server.over.wait(30)

    return fault


def truncate(share: float) -> Fault:
    """Send a share of the content, with a matching Content-Length."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        part = content[start : start + int(share * (len(content) - start))]
        handler.head(content, start, Content_Length=str(len(part)))
        handler.wfile.write(part)

    return fault


def corrupt(share: float) -> Fault:
    """Change one byte."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        body = bytearray(content[start:])
        body[min(int(share * len(body)), len(body) - 1)] ^= 0x10
        handler.head(content, start)
        handler.wfile.write(body)

    return fault


def kill(share: float) -> Fault:
    """Kill the client with SIGKILL after a share of the content."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        drop(share)(handler, content, start)
        handler.wfile.flush()
        time.sleep(0.02)  # so that part of it is written
        with contextlib.suppress(ProcessLookupError):
            os.kill(handler.server.client, signal.SIGKILL)
        handler.server.over.wait(1)

    return fault


KINDS = (drop, reset, stall, truncate, corrupt, kill)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()


def start_client(sources: list[Source], store: Path) -> subprocess.Popen[str]:
    """A process of its own that fetches `sources` into `store`, with short pauses."""
    job = {"sources": [[s.address, s.digest, s.terms, s.mirror, s.size] for s in sources], "store": str(store)}
    command = [sys.executable, __file__, "--client", json.dumps(job)]
    environment = {**os.environ, "no_proxy": "*"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def client(job: dict) -> None:
    transfer.TIMEOUT, fetching.PATIENCE = TIMEOUT, PATIENCE
    try:
        fetching.fetch([Source(*facts) for facts in job["sources"]], Path(job["store"]))
    except SrlibError as error:
        sys.exit(f"error: {error}")


def make_files(server: Server, count: int, rng: random.Random) -> list[Source]:
    """Files of 10 kB to 3 MB; of every second one the size is known beforehand."""
    sources = []
    for number in range(count):
        content = rng.randbytes(int(10 ** rng.uniform(4, 6.5)))
        path = f"/{number:03}.bin"
        server.files[path] = content
        digest = hashlib.sha256(content).hexdigest()
        size = len(content) if number % 2 else None
        sources.append(Source(server.address + path, digest, "made here", mirror=path[1:], size=size))
    return sources


def main() -> None:
    """Spreads the faults over the files, fetches, and accounts for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        return client(json.loads(options.client))
    rng = random.Random(options.seed)
    begun = time.perf_counter()
    ends: Counter[str] = Counter()
    wrong = 0
    with serving() as server, tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        sources = make_files(server, options.files, rng)
        planned: Counter[str] = Counter()
        for number in range(options.faults):
            kind = KINDS[number % len(KINDS)]
            planned[kind.__name__] += 1
            server.faults.setdefault(f"/{rng.randrange(options.files):03}.bin", []).append(kind(rng.random()))
        for faults in server.faults.values():
            rng.shuffle(faults)
        expected = {f"{s.digest}-{s.name}": s.digest for s in sources}
        while ends["finished"] == 0 and sum(ends.values()) < 10 * options.faults:
            process = start_client(sources, store)
            server.client = process.pid
            errors = process.communicate()[1].splitlines()
            match process.returncode:
                case 0:
                    ends["finished"] += 1
                case -9:
                    ends["killed"] += 1
                case 1 if sum("SRLIB_MIRROR" in line for line in errors) == 1 and "Traceback" not in "".join(errors):
                    ends["gave up in one line"] += 1
                case _:
                    sys.exit("\n".join(errors))
            for path in store.iterdir():
                if path.name in expected:
                    wrong += hashlib.sha256(path.read_bytes()).hexdigest() != expected[path.name]
        missing = [name for name in expected if not (store / name).is_file()]
        leftovers = [path.name for path in store.iterdir() if path.name not in {*expected, LOCKS}]
        unused = sum(map(len, server.faults.values()))
        resumed = sum(start > 0 for _, start in server.requests)
        needed = sum(map(len, server.files.values()))
    print(f"{'fault':10} injected")
    for name, count in planned.items():
        print(f"{name:10} {count:8}")
    print(f"{'all':10} {planned.total() - unused:8}")
    print(
        f"{options.files} files, {needed / 1e6:.1f} MB: {len(expected) - len(missing)} fetched, {wrong} wrong, "
        f"{len(leftovers)} left over; {len(server.requests)} requests, {resumed} of them resumed"
    )
    print(
        f"runs of the client: {', '.join(f'{n} {end}' for end, n in ends.items())}; "
        f"{time.perf_counter() - begun:.0f} s, seed {options.seed}"
    )
    if wrong or missing or leftovers or unused or not ends["finished"]:
        sys.exit(f"wrong: {wrong}; missing: {missing}; left over: {leftovers}; faults not reached: {unused}")


if __name__ == "__main__":
    main()
