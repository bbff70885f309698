"""Against a real web server on this machine that misbehaves; benchmarks/download_faults.py does so by the hundred."""

import errno
import hashlib
import importlib.util
import io
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.data import archive, sources, transfer
from srlib.data import fetching as module
from srlib.data.download import download
from srlib.data.fetching import fetch
from srlib.data.sources import Source
from srlib.errors import SrlibError
from srlib.params import Download

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "download_faults.py"
spec = importlib.util.spec_from_file_location("download_faults", SCRIPT)
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)

CONTENT = random.Random(1).randbytes(700_000)
OTHER = random.Random(2).randbytes(700_000)
PATH = "/sets/one.bin"


@pytest.fixture(autouse=True)
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, little patience where the server stalls, and no proxy between this test and its server."""
    monkeypatch.setattr(transfer, "TIMEOUT", 0.4 if "stall" in request.node.name else 20.0)
    monkeypatch.setattr(module, "PATIENCE", (0.01,) * 4)
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


def assert_only(store: Path, *origin: Source) -> None:
    assert sorted(path.name for path in store.iterdir() if path.name != ".locks") == sorted(
        place(store, s).name for s in origin
    )


def assert_one_line(error: SrlibError, origin: Source, *words: str, address: str | None = None) -> None:
    line = str(error)
    assert line.isprintable()
    for word in (origin.name, address or origin.address, "SRLIB_MIRROR", origin.mirror, *words):
        assert word in line


def answer(**changes: str | None) -> Callable:
    """A fault: honest content under dishonest headers."""

    def fault(handler, content: bytes, start: int) -> None:
        handler.head(content, start, **changes)
        handler.wfile.write(content[start:])

    return fault


def status(code: int, **headers: str) -> Callable:
    def fault(handler, content: bytes, start: int) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def without_length(handler, content: bytes, start: int) -> None:
    handler.head(content, start, Content_Length=None)
    handler.wfile.write(content[start:])


def no_ranges(handler, content: bytes, start: int) -> None:
    faults.drop(0.5)(handler, content, 0)


def wrong_place(handler, content: bytes, start: int) -> None:
    handler.head(content, start, Content_Range=f"bytes {start + 9}-{len(content) - 1}/{len(content)}")
    handler.wfile.write(content[start:])


def open_ended(handler, content: bytes, start: int) -> None:
    """The whole content, and a connection that stays open."""
    handler.head(content, start)
    handler.wfile.write(content[start:])
    handler.server.over.wait(30)


def garbage(handler, content: bytes, start: int) -> None:
    handler.wfile.write(random.Random(3).randbytes(5000))


def longer(handler, content: bytes, start: int) -> None:
    handler.head(content, start, Content_Length=None)
    handler.wfile.write(content[start:] + b"more")


# Fault → the first bytes that the requests asked for.
MENDED = {
    "drop": ([faults.drop(0.5)], [0, 350_000]),
    "drop, drop": ([faults.drop(0.5), faults.drop(0.5)], [0, 350_000, 525_000]),
    "reset": ([faults.reset(0.0)], [0, 0]),
    "stall": ([faults.stall(0.5)], [0, 350_000]),
    "stall before the headers": ([lambda handler, *_: handler.server.over.wait(30)], [0, 0]),
    "truncation": ([faults.truncate(0.5)], [0, 0]),
    "corruption": ([faults.corrupt(0.5)], [0, 0]),
    "corruption before a drop": ([lambda h, c, s: faults.drop(0.5)(h, OTHER, s)], [0, 0]),
    "corruption without validator": (
        [lambda h, c, s: h.head(OTHER, s, ETag=None) or h.wfile.write(OTHER[:9])],
        [0, 9, 0],
    ),
    "garbage instead of HTTP": ([garbage], [0, 0]),
    "garbage instead of the file": ([lambda h, c, s: faults.drop(1)(h, b"<html>Log in</html>", s)], [0, 0]),
    "garbage of the right size": ([lambda h, c, s: faults.drop(1)(h, OTHER, s)], [0, 0]),
    "a length that is too large": ([answer(Content_Length="900000")], [0, 0]),
    "a length that is too small": ([answer(Content_Length="100")], [0, 0]),
    "a length that is no number": ([answer(Content_Length="many")], [0]),
    "no length": ([without_length], [0]),
    "more than there is": ([longer], [0]),
    "a connection that stays open": ([open_ended], [0]),
    "500": ([status(500)], [0, 0]),
    "503 after a drop": ([faults.drop(0.5), status(503)], [0, 350_000, 350_000]),
    "416": ([faults.drop(0.5), status(416)], [0, 350_000, 0]),
    "resumed at another place": ([faults.drop(0.5), wrong_place], [0, 350_000, 0]),
    "a server that cannot resume": ([no_ranges, lambda h, c, s: faults.drop(1)(h, c, 0)], [0, 350_000]),
}


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize("kind", MENDED)
def test_temporary_fault_ends_in_correct_bytes(kind: str, known: bool, server, store: Path) -> None:
    planned, starts = MENDED[kind]
    server.faults[PATH] = list(planned)
    origin = source(server) if known else source(server, size=None)
    paths = fetch([origin], store)
    assert paths == {origin: place(store, origin)}
    assert paths[origin].read_bytes() == CONTENT
    assert_only(store, origin)
    if known:
        assert [start for _, start in server.requests] == starts


# Fault → words of the line, requests until then.
LASTING = {
    "drop": (faults.drop(0.0), "the connection ended after 0 of 700000 bytes", 5),
    "reset": (faults.reset(0.0), "", 5),
    "stall": (faults.stall(0.0), "timed out, 0.4 s without a byte", 5),
    "truncation": (faults.truncate(0.5), "the server offers 350000 bytes instead of 700000", 5),
    "corruption": (faults.corrupt(0.5), "wrong sha256", 3),
    "garbage instead of HTTP": (garbage, "", 5),
    "an escape sequence": (lambda h, c, s: h.wfile.write(b"HTTP/1.1 403 \x1b[2J\r\n\r\n"), "HTTP 403 ?[2J", 1),
    "404": (status(404), "HTTP 404", 1),
    "403": (status(403), "HTTP 403", 1),
    "500": (status(500), "HTTP 500", 5),
    "416": (status(416), "HTTP 416", 5),
    "redirect to a file": (status(302, Location="file:///etc/hostname"), "file:///etc/hostname", 1),
    "redirect to FTP": (status(301, Location="ftp://127.0.0.1/one.bin"), "ftp://127.0.0.1/one.bin", 1),
    "redirect to itself": (status(302, Location=PATH), "HTTP 302", 5),
}


@pytest.mark.parametrize("kind", LASTING)
def test_a_lasting_fault_ends_in_one_line(kind: str, server, store: Path) -> None:
    fault, words, requests = LASTING[kind]
    server.faults[PATH] = [fault] * 30
    with pytest.raises(SrlibError) as caught:
        fetch([source(server)], store)
    assert_one_line(caught.value, source(server), words)
    assert len(server.requests) == requests
    assert not place(store, source(server)).exists()
    server.faults.clear()
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    assert_only(store, source(server))


def test_endless_response_is_cut_off(server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "LARGEST_UNSIZED", 100_000)
    server.faults[PATH] = [without_length] * 9
    with pytest.raises(SrlibError, match="sent more than 100000 bytes"):
        fetch([source(server, size=None)], store)
    assert_only(store)


def test_web_redirect_is_followed_and_resumed(server, store: Path) -> None:
    server.files = {"/moved.bin": CONTENT}
    server.faults = {PATH: [status(302, Location="/moved.bin")] * 2, "/moved.bin": [faults.drop(0.5)]}
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    assert server.requests[-1] == ("/moved.bin", 350_000)


def test_file_changed_midway_is_fetched_again(server, store: Path) -> None:
    def change(handler, content: bytes, start: int) -> None:
        faults.drop(0.5)(handler, OTHER, start)

    server.faults[PATH] = [change]
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    # asked to go on at 350000 if it were the same, the server began anew: one transfer, no wrong checksum
    assert len(server.requests) == 2


def test_permanently_changed_file_fails_its_checksum(server, store: Path) -> None:
    server.faults[PATH] = [faults.drop(0.5)]
    server.files[PATH] = OTHER
    with pytest.raises(SrlibError) as caught:
        fetch([source(server)], store)
    assert_one_line(caught.value, source(server), "wrong sha256", source(server).digest)
    assert_only(store)


def test_offline(store: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    origin = Source(f"http://127.0.0.1:{port}/one.bin", "0" * 64, "", mirror="sets/one.bin", size=9)
    with pytest.raises(SrlibError) as caught:
        fetch([origin], store)
    assert_one_line(caught.value, origin, "refused")
    assert_only(store)


def test_md5_is_verified(server, store: Path) -> None:
    origin = source(server, digest=hashlib.md5(CONTENT).hexdigest())
    server.faults[PATH] = [faults.corrupt(0.1)]
    assert fetch([origin], store)[origin].read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_stored_file_is_not_fetched_again(server, store: Path) -> None:
    fetch([source(server)], store)
    fetch([source(server)], store)
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["a byte", "the end"])
def test_damaged_stored_file_is_fetched_again(damage: str, server, store: Path) -> None:
    path = fetch([source(server)], store)[source(server)]
    path.write_bytes(b"x" + CONTENT[1:] if damage == "a byte" else CONTENT[:-1])
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    assert_only(store, source(server))


@pytest.mark.parametrize("begun", [CONTENT[:1000], OTHER[:1000], CONTENT, CONTENT + b"x", OTHER])
@pytest.mark.parametrize("note", [None, '{"validator": "a\\r\\nHost: b"}'])
def test_partial_file_is_continued_or_discarded(note, begun: bytes, server, store: Path) -> None:
    store.mkdir()
    path = partial(store, source(server))
    path.write_bytes(begun)
    if note is not None:
        path.with_name(f"{path.name}.json").write_text(note)
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    assert_only(store, source(server))
    if begun == CONTENT:
        assert server.requests == []
    elif len(begun) == 1000:
        assert server.requests[0] == (PATH, 1000)


@pytest.mark.parametrize("note", ["", "[]", '{"validator": 3}', '{"valid', "[" * 100_000])
def test_a_damaged_note_is_passed_over(note: str, server, store: Path) -> None:
    store.mkdir()
    partial(store, source(server)).write_bytes(CONTENT[:1000])
    partial(store, source(server)).with_suffix(".partial.json").write_text(note)
    assert fetch([source(server)], store)[source(server)].read_bytes() == CONTENT
    assert server.requests == [(PATH, 1000)]
    assert_only(store, source(server))


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir], ids=["FIFO", "folder"])
def test_partial_of_wrong_kind_is_named(kind, server, store: Path) -> None:
    store.mkdir()
    kind(partial(store, source(server)))
    with pytest.raises(SrlibError, match="expected a regular file; delete it"):
        fetch([source(server)], store)


def test_killed_client_resumes(server, store: Path) -> None:
    server.files[PATH] = content = random.Random(4).randbytes(5_000_000)
    origin = source(server, content=content)
    server.faults[PATH] = [faults.stall(0.6)]
    with faults.start_client([origin], store) as client:
        path = partial(store, origin)
        while not path.exists() or path.stat().st_size < 3_000_000:
            assert client.poll() is None
            time.sleep(0.005)
        client.send_signal(signal.SIGKILL)
    assert client.returncode == -signal.SIGKILL
    assert not place(store, origin).exists()
    assert fetch([origin], store)[origin].read_bytes() == content
    assert server.requests == [(PATH, 0), (PATH, 3_000_000)]
    assert_only(store, origin)


def test_two_processes_fetch_a_file_once(server, store: Path) -> None:
    server.faults[PATH] = [lambda h, c, s: h.head(c, s) or (time.sleep(0.2), h.wfile.write(c))]
    with faults.start_client([source(server)], store) as one, faults.start_client([source(server)], store) as two:
        errors = [process.communicate()[1] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), errors
    assert len(server.requests) == 1
    assert place(store, source(server)).read_bytes() == CONTENT
    assert_only(store, source(server))


def test_threads_fetch_each_file_once(server, store: Path) -> None:
    many = {f"/{number}.bin": random.Random(number).randbytes(30_000) for number in range(12)}
    server.files |= many
    origin = [source(server, path, content) for path, content in many.items()]
    threads = [threading.Thread(target=fetch, args=(origin[::step], store)) for step in (1, -1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for path, _ in server.requests) == sorted(many)
    assert_only(store, *origin)


def test_several_files_come_at_once(server, store: Path) -> None:
    """Each of four answers waits until all four were asked for."""
    barrier = threading.Barrier(4, timeout=20)

    def together(handler, content: bytes, start: int) -> None:
        barrier.wait()
        faults.drop(1)(handler, content, start)

    origin = [source(server, f"/{n}.bin") for n in range(4)]
    server.files |= {f"/{n}.bin": CONTENT for n in range(4)}
    server.faults = {f"/{n}.bin": [together] for n in range(4)}
    fetch(origin, store)
    assert_only(store, *origin)
    assert not barrier.broken


def test_error_stops_other_transfers_and_keeps_partials(server, store: Path) -> None:
    server.files |= {"/big.bin": OTHER}
    big = source(server, "/big.bin", OTHER)

    def late(handler, content: bytes, start: int) -> None:
        while not partial(store, big).exists() or partial(store, big).stat().st_size < 350_000:
            time.sleep(0.005)
        status(404)(handler, content, start)

    server.faults = {PATH: [late], "/big.bin": [faults.stall(0.5)]}
    waiting = [source(server, f"/{n}.bin") for n in range(20)]  # a queue that must not be worked off any more
    server.faults |= {f"/{n}.bin": [lambda h, c, s: h.server.over.wait(20)] for n in range(20)}
    with pytest.raises(SrlibError, match=r"one.bin.*HTTP 404"):
        fetch([source(server), big, *waiting], store)
    assert partial(store, big).read_bytes() == OTHER[:350_000]
    assert len(server.requests) <= module.PARALLEL
    server.over.set()


def test_ctrl_c_stops_and_keeps_partial_file(server, store: Path, tmp_path: Path) -> None:
    server.faults[PATH] = [faults.stall(0.5)]
    code = (
        "import sys; from pathlib import Path; from srlib.data.fetching import fetch\n"
        "from srlib.data.sources import Source; store, *facts, size = sys.argv[1:]\n"
        "fetch([Source(*facts, size=int(size))], Path(store))"
    )
    origin = source(server)
    facts = [origin.address, origin.digest, origin.terms, origin.mirror, str(origin.size)]
    command = [sys.executable, "-c", code, str(store), *facts]  # with the true TIMEOUT of 30 s
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
        path = partial(store, origin)
        while not path.exists() or path.stat().st_size < 350_000:
            assert client.poll() is None
            time.sleep(0.005)
        client.send_signal(signal.SIGINT)
        message = client.communicate(timeout=15)[1]
    assert message.rstrip().endswith("KeyboardInterrupt")
    assert path.read_bytes() == CONTENT[:350_000]


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

    monkeypatch.setattr(module, "progress", Bar)
    return calls


@pytest.mark.parametrize("kind", ["drop, drop", "corruption", "garbage of the right size", "416", "more than there is"])
def test_byte_progress_stays_in_range(kind: str, bars, server, store: Path) -> None:
    server.faults[PATH] = list(MENDED[kind][0])
    store.mkdir()
    partial(store, source(server)).write_bytes(CONTENT[:70_000])
    fetch([source(server)], store)
    (bar,) = bars
    assert (bar.total, bar.unit, bar.start) == (700_000, "B", 70_000)
    at = np.cumsum([bar.start, *bar.moves])
    assert at.min() >= 0 and at.max() <= 700_000 and at[-1] == 700_000


def test_files_of_unknown_size_are_counted(bars, server, store: Path) -> None:
    server.files["/two.bin"] = OTHER
    fetch([source(server, size=None), source(server, "/two.bin", OTHER)], store)
    assert [(bar.total, bar.unit, sum(bar.moves)) for bar in bars] == [(1, "files", 1), (700_000, "B", 700_000)]


def test_disk_space_check_counts_partial_files(server, store: Path, monkeypatch) -> None:
    free = 600_000
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free))
    with pytest.raises(SrlibError, match=r"needs 0.00 GB, but only 0.00 GB are free") as caught:
        fetch([source(server)], store)
    assert str(store) in str(caught.value) and server.requests == []
    partial(store, source(server)).write_bytes(CONTENT[:200_000])
    with pytest.raises(SrlibError, match="are free"):
        fetch([source(server)], store, out=store.parent / "out")  # a copy needs space, too
    assert server.requests == []
    fetch([source(server)], store)
    assert_only(store, source(server))


def test_full_disk_is_not_retried(server, store: Path, monkeypatch) -> None:
    def full(self, source, file, *rest: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "transfer", full)
    with pytest.raises(OSError, match="No space left"):
        fetch([source(server)], store)


def mirror_with(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "a mirror" / PATH[1:]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return tmp_path / "a mirror"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_that_is_a_folder(slash: str, server, store: Path, tmp_path: Path) -> None:
    store.mkdir()
    partial(store, source(server)).write_bytes(OTHER[:1000])
    mirror = mirror_with(tmp_path, CONTENT)
    paths = fetch([source(server)], store, mirror=f"{mirror}{slash}")
    assert paths[source(server)].read_bytes() == CONTENT
    assert server.requests == []
    assert_only(store, source(server))


@pytest.mark.parametrize(
    ("content", "words"),
    [(OTHER, "instead of"), (CONTENT[:9], "has 9 bytes instead of 700000"), (None, "no such file")],
)
def test_a_mirror_with_a_wrong_file(content: bytes | None, words: str, server, store: Path, tmp_path: Path) -> None:
    mirror = mirror_with(tmp_path, content or b"")
    if content is None:
        (mirror / PATH[1:]).unlink()
    with pytest.raises(SrlibError) as caught:
        fetch([source(server)], store, mirror=str(mirror))
    assert_one_line(caught.value, source(server), words, address=str(mirror / PATH[1:]))
    assert_only(store)


def test_a_mirror_that_is_an_address(server, store: Path) -> None:
    server.files = {f"/mirror{PATH}": CONTENT}
    server.faults[f"/mirror{PATH}"] = [faults.drop(0.5)]
    origin = Source("https://nowhere.invalid/one.bin", source(server).digest, "", mirror=PATH[1:], size=700_000)
    assert fetch([origin], store, mirror=f"{server.address}/mirror/")[origin].read_bytes() == CONTENT
    assert server.requests == [(f"/mirror{PATH}", 0), (f"/mirror{PATH}", 350_000)]
    server.files[f"/mirror{PATH}"] = OTHER
    shutil.rmtree(store)
    with pytest.raises(SrlibError) as caught:
        fetch([origin], store, mirror=f"{server.address}/mirror")
    assert_one_line(caught.value, origin, "wrong sha256", address=f"{server.address}/mirror{PATH}")


@pytest.mark.parametrize(
    "mirror",
    ["/nowhere/at/all", "ftp://127.0.0.1/x", "file:///etc", "https://", "https://me:secret@host/x", "http://[x/"],
)
def test_a_mirror_that_cannot_be_one(mirror: str, server, store: Path) -> None:
    with pytest.raises(SrlibError, match=r"^SRLIB_MIRROR: ") as caught:
        fetch([source(server)], store, mirror=mirror)
    assert "secret" not in str(caught.value) and server.requests == []


# The folders of the roles, and unpacking


def png(number: int) -> bytes:
    Image.fromarray(np.full((4, 4, 3), number % 256, np.uint8)).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(zipfile.ZipInfo("DIV2K/"), b"")
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def div2k(server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Archives with DIV2K's own names and tiny images, on this machine's server: part → content."""
    made = {}
    real = sources.div2k_members
    for part in ("train_HR", "train_LR_bicubic_X4", "valid_HR"):
        made[part] = zipped({name: png(number) for number, name in enumerate(real(part))})
        server.files[f"/DIV2K_{part}.zip"] = made[part]

    def small(part: str) -> Source:
        return source(server, f"/DIV2K_{part}.zip", made[part])

    monkeypatch.setattr(sources, "div2k", small)
    return made


def recipe(**changes: object) -> Download:
    return Download.model_validate({"train": "none", "test": ["sample"], "features": "none"} | changes)


def test_div2k_is_unpacked_into_folders(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    params = recipe(train="div2k-bicubic", test=["sample", "DIV2K"])
    out = tmp_path / "raw" / "train"
    download("train", out, params, scale=4, store=store)
    assert sorted(path.name for path in out.iterdir()) == ["HR", "LR", "SOURCES.json"]
    assert sorted(path.name for path in (out / "HR").iterdir()) == [f"{n:04}.png" for n in range(1, 801)]
    assert sorted(path.name for path in (out / "LR").iterdir()) == [f"{n:04}x4.png" for n in range(1, 801)]
    assert (out / "LR" / "0800x4.png").read_bytes() == png(799)
    facts = json.loads((out / "SOURCES.json").read_text())
    assert facts["train"] == "div2k-bicubic"
    assert [fact["sha256"] for fact in facts["files"]] == [
        hashlib.sha256(div2k[part]).hexdigest() for part in ("train_HR", "train_LR_bicubic_X4")
    ]
    before = len(server.requests)
    shutil.rmtree(out)  # as DVC does before a stage runs again
    download("train", out, params, scale=4, store=store)
    assert len(server.requests) == before and len(list((out / "HR").iterdir())) == 800
    download("test", tmp_path / "raw" / "test", params, scale=4, store=store)
    assert len(list((tmp_path / "raw/test/DIV2K/HR").iterdir())) == 100
    assert server.requests[before:] == [("/DIV2K_valid_HR.zip", 0)]


def test_partial_file_survives_cleared_outputs(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    server.faults["/DIV2K_valid_HR.zip"] = [faults.drop(0.5), *[faults.drop(0.0)] * 9]
    out = tmp_path / "raw" / "test"
    with pytest.raises(SrlibError, match=r"DIV2K_valid_HR.zip"):
        download("test", out, recipe(test=["DIV2K"]), scale=4, store=store)
    assert not out.exists()
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
    server.faults.clear()
    server.requests.clear()
    download("test", out, recipe(test=["DIV2K"]), scale=4, store=store)
    assert server.requests == [("/DIV2K_valid_HR.zip", len(div2k["valid_HR"]) // 2)]


def test_the_sample_needs_no_network(store: Path, tmp_path: Path) -> None:
    for role, folder, names in (
        ("train", "HR", sources.SAMPLE_TRAIN),
        ("test", "sample/HR", sources.SAMPLE_TEST),
        ("features", ".", {"SOURCES.json": ()}),
    ):
        download(role, tmp_path / role, recipe(train="sample"), scale=4, store=store, mirror="/nowhere")
        assert {path.name for path in (tmp_path / role / folder).iterdir()} == set(names)
        for name, facts in names.items():
            assert not facts or hashlib.sha256((tmp_path / role / folder / name).read_bytes()).hexdigest() == facts[1]
    assert list(store.iterdir()) == []


def test_adding_a_set_fetches_that_set_only(shared: Path, store: Path, tmp_path: Path, bars) -> None:
    mirror = str(shared / "mirror")
    out = tmp_path / "test"
    download("test", out, recipe(test=["Set5"]), scale=3, store=store, mirror=mirror)
    assert sorted(path.name for path in (out / "Set5/HR").iterdir()) == [
        f"{name}.png" for name in ("baby", "bird", "butterfly", "head", "woman")
    ]
    first = (out / "Set5/HR/baby.png").read_bytes()
    assert first == (shared / "mirror/SelfExSR/data/Set5/image_SRF_3/img_001_SRF_3_HR.png").read_bytes()
    download("test", out, recipe(test=["Set5", "Set14"]), scale=3, store=store, mirror=mirror)
    assert sorted(path.name for path in out.iterdir()) == ["SOURCES.json", "Set14", "Set5"]
    assert [bar.total for bar in bars] == [5, 14]


def test_feature_weights_of_ones_own(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "my weights.h5"
    own.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    params = recipe(features={"file": str(own), "sha256": digest})
    download("features", tmp_path / "out", params, scale=4, store=store)
    assert (tmp_path / "out/my weights.h5").read_bytes() == b"weights"
    own.write_bytes(b"changed")
    with pytest.raises(SrlibError, match=f"my weights.h5: expected the sha256 {digest}, got "):
        download("features", tmp_path / "out", params, scale=4, store=store)
    assert (tmp_path / "out/my weights.h5").read_bytes() == b"weights"
    own.unlink()
    with pytest.raises(SrlibError, match=r"my weights.h5: no such file"):
        download("features", tmp_path / "out", params, scale=4, store=store)


def test_feature_weights_out_of_reach_name_the_choices(server, store: Path, tmp_path: Path, monkeypatch) -> None:
    gone = replace(sources.VGG19, address=f"{server.address}/gone/vgg19.h5")
    monkeypatch.setitem(sources.FEATURE_WEIGHTS, "vgg19", gone)
    with pytest.raises(SrlibError, match=r"vgg19\.h5: could not be fetched from .*: HTTP 404") as caught:
        download("features", tmp_path / "out", recipe(features="vgg19"), scale=4, store=store)
    line = str(caught.value)
    assert "\n" not in line and "; or set download.features to squeezenet, or to {file: ..., sha256: ...}" in line
    assert (Path(__file__).parents[2] / line.split(": ")[-1]).is_file(), "the page that explains the choices"


def test_changed_output_does_not_reach_the_store(server, store: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sources.FEATURE_WEIGHTS, "vgg19", source(server))
    download("features", tmp_path / "out", recipe(features="vgg19"), scale=4, store=store)
    with (tmp_path / "out/one.bin").open("r+b") as file:
        file.write(b"scribble")
    assert place(store, source(server)).read_bytes() == CONTENT


NAMES = [f"set/{n}.png" for n in range(3)]
IMAGES = {name: png(number) for number, name in enumerate(NAMES)}


def refused(tmp_path: Path, content: bytes) -> str:
    """Return the error for an archive; nothing may have been written outside its folder."""
    path = tmp_path / "abc-set.zip"
    path.write_bytes(content)
    with pytest.raises(SrlibError) as caught:
        archive.unpack(path, NAMES, tmp_path / "in" / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted({"abc-set.zip", "in", "out"} | left(tmp_path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "in/out").iterdir()} & {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({name: IMAGES[name] for name in NAMES[:2]}, "set/2.png"),
        (IMAGES | {"set/3.png": b""}, "set/3.png"),
        (IMAGES | {"../evil.png": b""}, "../evil.png"),
        (IMAGES | {"/etc/evil.png": b""}, "/etc/evil.png"),
        (IMAGES | {"other/0.png": b""}, "other/0.png"),
        ({"set/0.png": b"", "set/1.png": b"", "set/../set/2.png": b""}, "set/../set/2.png"),
        ({}, "set/0.png"),
    ],
)
def test_unexpected_names_are_refused(members: dict, named: str, tmp_path: Path) -> None:
    assert named in refused(tmp_path, zipped(members))
    assert left(tmp_path) == set()


def test_duplicate_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name in [*NAMES, "set/1.png"]:
            if name in opened.namelist():
                with pytest.warns(UserWarning, match="Duplicate"):
                    opened.writestr(name, b"another")
            else:
                opened.writestr(name, IMAGES[name])
    assert "set/1.png" in refused(tmp_path, buffer.getvalue())


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name in NAMES[:2]:
            opened.writestr(name, IMAGES[name])
        opened.writestr(link, "/etc/passwd")
    assert "links: set/2.png" in refused(tmp_path, buffer.getvalue())


def test_oversized_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 1 << 20)
    bomb = zipped(IMAGES | {"set/1.png": bytes((1 << 20) + 1)})
    assert len(bomb) < 5000
    assert "images larger than the limit of 1 MiB: set/1.png" in refused(tmp_path, bomb)


def test_oversized_total_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_TOTAL", sum(map(len, IMAGES.values())) - 1)
    assert "its images have" in refused(tmp_path, zipped(IMAGES))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, (99).to_bytes(2, "little")), (8, (0x0820).to_bytes(2, "little")), (46, b"\xff\xfe")],
    ids=["version 9.9", "patched data", "name that is not UTF-8"],
)
def test_odd_headers_are_one_line(tmp_path: Path, offset: int, value: bytes) -> None:
    content = bytearray(zipped(IMAGES))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + offset : entry + offset + len(value)] = value
    if offset == 46:
        content[entry + 8 : entry + 10] = (0x0800).to_bytes(2, "little")
    refused(tmp_path, bytes(content))


def test_member_larger_than_stated_is_refused(tmp_path: Path) -> None:
    """The central directory says 10 bytes where a million come out."""
    content = bytearray(zipped(IMAGES | {"set/2.png": bytes(1_000_000)}))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    assert "damaged or unsupported archive" in refused(tmp_path, bytes(content))
    assert (tmp_path / "in/out/2.png").stat().st_size <= 10


@pytest.mark.parametrize("flag", [1, None], ids=["encrypted", "of another compression"])
def test_encrypted_or_uncommon_members_are_refused(flag: int | None, tmp_path: Path) -> None:
    content = bytearray(zipped(IMAGES))
    entry = content.rindex(b"PK\x01\x02")
    if flag:
        content[entry + 8] |= flag
    else:
        content[entry + 10] = 12  # bzip2
    assert "expected stored or deflated members, got others: set/2.png" in refused(tmp_path, bytes(content))


def test_damaged_member_data_is_noticed(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name, content in IMAGES.items():
            opened.writestr(name, content)
    content = bytearray(buffer.getvalue())
    content[content.index(b"IDAT") + 5] ^= 1
    assert "damaged or unsupported archive (Bad CRC-32" in refused(tmp_path, bytes(content))


@pytest.mark.parametrize("content", [b"", b"<html>", zipped(IMAGES)[:-30], zipped(IMAGES)[40:]])
def test_incomplete_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "damaged or unsupported archive" in refused(tmp_path, content)


def test_a_bad_archive_leaves_no_output(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    div2k["valid_HR"] = server.files["/DIV2K_valid_HR.zip"] = zipped(IMAGES)
    with pytest.raises(SrlibError, match="expected 100 images"):
        download("test", tmp_path / "raw" / "test", recipe(test=["DIV2K"]), scale=4, store=store)
    assert list((tmp_path / "raw").iterdir()) == []
