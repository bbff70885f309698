"""Against a real web server on this machine that misbehaves."""

import errno
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srlib.data import fetching as module
from srlib.data import transfer
from srlib.data.fetching import fetch
from srlib.data.sources import Source
from srlib.errors import SrlibError

from .conftest import CONTENT, OTHER, PATH, faults, partial, place, source

pytestmark = pytest.mark.usefixtures("short")


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
def test_temporary_fault_ends_in_correct_bytes(
    kind: str, known: bool, server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, starts = MENDED[kind]
    if "stall" in kind:  # the other requests must not time out, on a busy machine either
        monkeypatch.setattr(transfer, "TIMEOUT", 0.8)
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
    barrier = threading.Barrier(4, timeout=60)

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
        message = client.communicate(timeout=300)[1]
    assert message.rstrip().endswith("KeyboardInterrupt")
    assert path.read_bytes() == CONTENT[:350_000]


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
