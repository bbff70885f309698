"""Serves the page of a survey and takes the answers: `srlib survey serve`.

It listens on this machine alone unless told otherwise. It gives out one thing, the page, and takes one thing, answers
that pass every check of `survey_answers`; each is stored under the hash of its content, so that nothing a client sends
ever becomes part of a path, and the same answers sent twice are one file. A browser on a foreign site cannot use it:
names in the Host header are refused unless allowed (which ends DNS rebinding), a foreign Origin too, and no header
grants access across origins. Answers travel unencrypted: beyond a trusted network, put it behind a TLS proxy.
"""

import contextlib
import hashlib
import ipaddress
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from srlib.errors import SrlibError
from srlib.files import write_bytes
from srlib.survey.answers import MAX_ANSWERS_BYTES, Survey, read_page

MAX_STORED = 100_000
MAX_CONNECTIONS = 64
TIMEOUT = 30.0
"""Seconds that a client may stay silent."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def serve(
    page: Path,
    answers: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serves until it is interrupted, and says the address and each answer that was stored.

    Args:
        page: The page made by `srlib survey make`.
        answers: The folder for the answers, made if it is not there.
        host: The address to listen on; "0.0.0.0" is every address of this machine.
        port: 0 lets the system choose.
        names: Host names under which the page may be asked for, besides localhost and plain addresses.
        say: Takes one line at a time.

    Raises:
        SrlibError: The page is none, or the address cannot be listened on.
    """
    with make_server(page, answers, host=host, port=port, names=names, say=say) as server:
        say(f"Survey {server.survey.survey} at {server.address}  (Ctrl-C ends it; answers go to {answers})")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    say(f"{len(list(answers.glob('*.json')))} answers in {answers}")


def make_server(
    page: Path,
    answers: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> "SurveyServer":
    """The listening server of `serve`; the caller runs `serve_forever()` and closes it."""
    survey = read_page(page)
    answers.mkdir(parents=True, exist_ok=True)
    try:
        return SurveyServer((host, port), survey, page.read_bytes(), answers, frozenset(names), say)
    except (OSError, OverflowError) as error:
        raise SrlibError(f"cannot listen on {host}, port {port} ({error}); choose another port or address") from None


class SurveyServer(ThreadingHTTPServer):
    """One thread per connection, at most `MAX_CONNECTIONS` of them; further clients wait."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        survey: Survey,
        page: bytes,
        answers: Path,
        names: frozenset[str],
        say: Callable[[str], None],
    ) -> None:
        self.survey, self.page, self.answers, self.names, self.say = survey, page, answers, names, say
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.writing = threading.Lock()
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Binds without the base class's look-up of the host's full name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def address(self) -> str:
        """The address to open, http://…/."""
        host = self.server_name
        if host == "0.0.0.0":  # noqa: S104  (compared, not listened on)
            host = _own_address()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection once one is free."""
        self.free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handles one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or stays silent is no error of ours; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def store(self, content: bytes) -> None:
        """Checks answers and writes them.

        Raises:
            SrlibError: They do not pass, or there are too many.
        """
        answers = self.survey.check(content)
        # The checked content written anew: nothing of the client's own formatting is kept.
        text = answers.model_dump_json().encode() + b"\n"
        path = self.answers / f"{hashlib.sha256(text).hexdigest()[:32]}.json"
        with self.writing:
            if path.exists():
                return
            if sum(1 for _ in self.answers.glob("*.json")) >= MAX_STORED:
                raise SrlibError(f"there are {MAX_STORED} answers already")
            write_bytes(path, text)
        whole = f"{len(answers.votes)} of {len(self.survey.groups)} votes"
        self.say(f"{path.name}: {whole}, rater {answers.rater}, revision {answers.revision}")


class _Handler(BaseHTTPRequestHandler):
    server: SurveyServer
    timeout = TIMEOUT
    server_version = "srlib"
    sys_version = ""

    def do_GET(self) -> None:
        if self._welcome():
            if self.path.partition("?")[0] in ("/", "/index.html"):
                self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is only the survey at /")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit()) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
            return
        if len(size) > 9 or int(size) > MAX_ANSWERS_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_ANSWERS_BYTES} bytes")
            return
        # Read before any other refusal: closing a connection with unread bytes may lose the reply.
        content = self.rfile.read(int(size))
        if len(content) < int(size) or not self._welcome():
            return
        if self.path != "/answers":
            self._refuse(HTTPStatus.NOT_FOUND, "answers go to /answers")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        else:
            self._take(content)

    def _take(self, content: bytes) -> None:
        try:
            self.server.store(content)
        except SrlibError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self.server.say(f"an answer could not be written: {error}")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the answers could not be written")
        else:
            self._reply(HTTPStatus.OK, b"{}", "application/json")

    def _welcome(self) -> bool:
        """Whether the request names this server: by an address, as localhost, or by an allowed name."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if not _allowed(host, self.server.names):
            self._refuse(HTTPStatus.FORBIDDEN, "this host name is not served; the maker of the survey can allow it")
        elif origin is not None and origin.partition("://")[2] != host:
            self._refuse(HTTPStatus.FORBIDDEN, "answers are taken from the survey's own page only")
        else:
            return True
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._reply(status, json.dumps({"error": reason}).encode(), "application/json")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Who asked for what is nobody's business: no addresses are kept."""


def _own_address() -> str:
    """The address under which others reach this machine: the one that a packet to the outside would carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _allowed(host: str, names: frozenset[str]) -> bool:
    before, _, after = host.lower().rpartition(":")
    name = before if after.isdigit() else host.lower()
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
