"""One HTTP transfer: append the missing bytes to a partial file; errors tell whether a retry can help."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from threading import Event
from typing import IO, BinaryIO

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1 << 10  # bytes per second; a slower average over TIMEOUT counts as a stall
LONGEST_WAIT = 60.0  # longest Retry-After in seconds that is honored
LARGEST_UNSIZED = 64 << 20  # largest file in bytes if its size is not known in advance
FINAL = {400, 401, 403, 404, 405, 407, 410, 451}  # HTTP statuses that a retry does not change

Moved = Callable[[int], None]


class UnfinishedError(Exception):
    """The transfer was interrupted; a retry may continue it, `after` seconds from now at the earliest."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class RefusedError(Exception):
    """The transfer failed for good; a retry cannot help."""


def transfer(
    address: str, file: BinaryIO, note: Path, *, size: int | None, moved: Moved, stop: Event, limit: int | None = None
) -> None:
    """Fetch the rest of `file`, or the whole file if the server has a new version or cannot resume.

    The validator of the earlier response (a strong ETag, else Last-Modified) is sent as If-Range, so that a changed
    file is sent completely. Without a validator the rest is requested anyway; the caller verifies the checksum.

    Args:
        address: `http://…` or `https://…`. Redirects to other schemes are refused.
        file: The partial file, open for appending.
        note: File that keeps the validator between transfers.
        size: Size of the complete file in bytes, if known.
        moved: Callback that receives the size of the partial file after every change, also when it shrinks.
        stop: Event that interrupts the transfer.
        limit: Largest size in bytes if `size` is not known; None: LARGEST_UNSIZED.

    Raises:
        UnfinishedError: The transfer was interrupted; `file` keeps the bytes received so far.
        RefusedError: A retry cannot help.
    """
    have = file.seek(0, 2)

    def discard(reason: str) -> UnfinishedError:
        file.truncate(0)
        moved(0)
        return UnfinishedError(reason)

    response = _request(address, have, note, discard)
    with response:
        start = have if response.status == 206 else 0
        span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and (span is None or int(span[1]) != have):
            raise discard("the server resumed at the wrong position")
        length = response.headers.get("Content-Length", "")
        expected = start + int(length) if length.isdecimal() else None
        most = size or limit or LARGEST_UNSIZED
        if expected is not None and (expected > most or expected < (size or 0)):
            raise UnfinishedError(f"the server offers {expected} bytes instead of {size or f'at most {most}'}")
        if start == 0:
            file.truncate(0)
            moved(0)
            note.write_text(json.dumps({"validator": _strong(response.headers)}), encoding="utf-8")
        whole = size or expected
        position = start
        # Stop at the expected size: a server may keep the connection open.
        for block in _blocks(response, None if whole is None else whole - start, stop):
            position += len(block)
            if position > most:
                raise discard(f"the server sent more than {most} bytes")
            file.write(block)
            file.flush()
            moved(position)
        if whole is not None and position < whole:
            raise UnfinishedError(f"the connection ended after {position} of {whole} bytes")


def offered_size(address: str) -> int | None:
    """Return the size of a file in bytes as its server states it, or None where it does not answer or state it."""
    try:
        request = urllib.request.Request(
            address, method="HEAD", headers={"User-Agent": "srlib", "Accept-Encoding": "identity"}
        )
        with _opener().open(request, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length", "")
    except (http.client.HTTPException, OSError, ValueError):
        return None  # the transfer itself reports what is wrong
    return int(length) if length.isdecimal() and int(length) > 0 else None


def _request(
    address: str, have: int, note: Path, discard: Callable[[str], UnfinishedError]
) -> http.client.HTTPResponse:
    """Send the request for the bytes from `have` on, and turn every failure into one of this module's errors."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "srlib", "Accept-Encoding": "identity"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            if validator := _validator(note):
                request.add_header("If-Range", validator)
        response: http.client.HTTPResponse = _opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code in FINAL or 300 <= error.code < 400:
            raise RefusedError(reason) from None
        if error.code == 416:  # the partial file is longer than the remote file
            raise discard(reason) from None
        raise UnfinishedError(reason, _retry_after(error.headers)) from None
    except urllib.error.URLError as error:
        raise UnfinishedError(_reason(error.reason)) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise RefusedError(f"not an address: {error}") from None
    except (http.client.HTTPException, OSError) as error:
        raise UnfinishedError(_reason(error)) from None
    return response


def _blocks(response: http.client.HTTPResponse, count: int | None, stop: Event) -> Iterator[bytes]:
    """Yield the next `count` bytes in blocks, or all bytes; raise UnfinishedError if they stop or come too slowly."""
    received = 0
    since, then = time.monotonic(), 0
    while received != count:
        block = _read(response, CHUNK if count is None else min(CHUNK, count - received))
        if stop.is_set():
            raise UnfinishedError("stopped")
        if not block:
            return
        received += len(block)
        yield block
        if (passed := time.monotonic() - since) > TIMEOUT:
            if received - then < SLOWEST * passed and received != count:
                raise UnfinishedError(f"only {received - then} bytes arrived in {passed:.0f} s")
            since, then = time.monotonic(), received


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    try:
        return response.read1(most)
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise UnfinishedError(_reason(error)) from None


def _reason(error: BaseException | str) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out, {TIMEOUT:g} s without a byte"
    return str(error) or type(error).__name__


def _retry_after(headers: Message) -> float:
    """Return the seconds that a busy server asks to wait; dates are ignored."""
    seconds = headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_WAIT) if seconds.isascii() and seconds.isdecimal() else 0.0


def _strong(headers: Message) -> str | None:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _validator(note: Path) -> str | None:
    if not note.is_file():
        return None
    try:
        validator = json.loads(note.read_text(encoding="utf-8"))["validator"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A line break would start another header.
    return validator if isinstance(validator, str) and validator.isprintable() else None


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to HTTP and HTTPS only; urllib would follow FTP too."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.HTTPError(req.full_url, code, f"it redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebOnly(),
    ):
        opener.add_handler(handler)
    return opener
