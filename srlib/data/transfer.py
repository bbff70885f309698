"""One HTTP transfer: appends to a partial file what it lacks, and says what went wrong and whether to try again."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from threading import Event
from typing import IO, Any, BinaryIO

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1 << 10  # bytes per second over TIMEOUT: less is a stall too
LONGEST_WAIT = 60.0  # seconds that a server may ask to wait
LARGEST_UNSIZED = 64 << 20  # bytes of a file whose size is not known beforehand
FINAL = {400, 401, 403, 404, 405, 407, 410, 451}  # HTTP statuses that another try does not mend; redirects too

Moved = Callable[[int], None]


class UnfinishedError(Exception):
    """The transfer broke off; another one may go on from there, `after` seconds at the earliest."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class RefusedError(Exception):
    """No further transfer can help."""


def transfer(address: str, file: BinaryIO, note: Path, *, size: int | None, moved: Moved, stop: Event) -> None:
    """Fetches the rest of `file`, or all of it where the server has another version or cannot resume.

    With the validator of the earlier response (a strong ETag, else Last-Modified) as If-Range, a file that has changed
    since is sent whole. Without one the rest is asked for all the same: the caller compares the checksum of the whole.

    Args:
        address: `http://…` or `https://…`. Redirects to other schemes are refused.
        file: The partial file, opened to append.
        note: Where the validator is kept between transfers.
        size: How many bytes the whole has, where known.
        moved: Called with the partial file's size whenever it has changed, also downwards.
        stop: Breaks the transfer off at the next bytes.

    Raises:
        UnfinishedError: With the reason; `file` has what came so far.
        RefusedError: With the reason.
    """
    have = file.seek(0, 2)
    request = urllib.request.Request(address, headers={"User-Agent": "srlib", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if validator := _validator(note):
            request.add_header("If-Range", validator)

    def cut(reason: str) -> UnfinishedError:
        file.truncate(0)
        moved(0)
        return UnfinishedError(reason)

    try:
        response = _opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code in FINAL or 300 <= error.code < 400:
            raise RefusedError(reason) from None
        if error.code == 416:  # what we have is no beginning of what is there
            raise cut(reason) from None
        raise UnfinishedError(reason, _retry_after(error.headers)) from None
    except urllib.error.URLError as error:
        raise UnfinishedError(_told(error.reason)) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise RefusedError(f"not an address: {error}") from None
    except (http.client.HTTPException, OSError) as error:
        raise UnfinishedError(_told(error)) from None
    with response:
        start = have if response.status == 206 else 0
        span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and (span is None or int(span[1]) != have):
            raise cut("the server resumed at another place")
        length = response.headers.get("Content-Length", "")
        expected = start + int(length) if length.isdecimal() else None
        limit = size or LARGEST_UNSIZED
        if expected is not None and (expected > limit or expected < (size or 0)):
            raise UnfinishedError(f"the server offers {expected} bytes instead of {size or f'at most {limit}'}")
        if start == 0:
            file.truncate(0)
            moved(0)
            note.write_text(json.dumps({"validator": _strong(response.headers)}), encoding="utf-8")
        position = start
        since, then = time.monotonic(), start
        # Not until the end: a server may keep the connection open.
        while position != (whole := size or expected):
            block = _read(response, CHUNK if whole is None else min(CHUNK, whole - position))
            if stop.is_set():
                raise UnfinishedError("stopped")
            if not block:
                break
            position += len(block)
            if position > limit:
                raise cut(f"the server sent more than {limit} bytes")
            file.write(block)
            file.flush()
            moved(position)
            if (passed := time.monotonic() - since) > TIMEOUT:
                if position - then < SLOWEST * passed and position != whole:
                    raise UnfinishedError(f"only {position - then} bytes came in {passed:.0f} s")
                since, then = time.monotonic(), position
        if whole is not None and position < whole:
            raise UnfinishedError(f"the connection ended after {position} of {whole} bytes")


def _read(response: Any, most: int) -> bytes:
    try:
        return bytes(response.read1(most))
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise UnfinishedError(_told(error)) from None


def _told(error: BaseException | str) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out, {TIMEOUT:g} s without a byte"
    return str(error) or type(error).__name__


def _retry_after(headers: Message) -> float:
    """How many seconds a busy server asks to wait; a date in their place is not read."""
    seconds = headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_WAIT) if seconds.isascii() and seconds.isdecimal() else 0.0


def _strong(headers: Message) -> str | None:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _validator(note: Path) -> str | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    # a line break would start another header
    return found if isinstance(found, str) and found.isprintable() else None


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP and HTTPS only; urllib would follow FTP too."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
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
