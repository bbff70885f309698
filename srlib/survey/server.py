"""Serve the page of a survey and collect the answers: `srlib survey serve`.

By default it listens on this machine only. It serves one file, the page, and accepts one thing, answers that pass every
check of `srlib.survey.answers`. Each is stored under the hash of its content: nothing that a client sends becomes part
of a path, and the same answers sent twice are one file. Pages of other sites cannot use the server: the Host header
must be the address on which the request arrived or an allowed name (which prevents DNS rebinding), an Origin must be
this server, and no header grants access across origins. Answers are not encrypted: outside a trusted network, use a TLS
proxy.
"""

import contextlib
import hashlib
import ipaddress
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from srlib.errors import SrlibError
from srlib.files import check_output_folder, write_bytes
from srlib.signals import Stopped
from srlib.survey.answers import MAX_ANSWERS_BYTES, Survey, read_page

Request = socket.socket | tuple[bytes, socket.socket]
ClientAddress = tuple[str, int]

MAX_STORED = 100_000
MAX_CONNECTIONS = 64
TIMEOUT = 30.0
"""Seconds in which a whole request must arrive."""
SLOWEST = 125_000
"""Bytes per second (1 Mbit/s) that a client must take of a reply, after the first `TIMEOUT` seconds."""
PATIENCE = 1.0
"""Seconds that a client waits while all connections are in use; then it is disconnected."""
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
    report: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted, and report the address and each answer that was stored.

    Args:
        page: Page made by `srlib survey make`.
        answers: Folder for the answers; created if it is missing.
        host: Address to listen on; "0.0.0.0" means every address of this machine.
        port: Port to listen on; 0 for any free one.
        names: Host names or addresses by which browsers may also reach the server, such as a proxy's name.
        report: Function that is called with one line at a time.

    Raises:
        SrlibError: Not a page of a survey, or an address that cannot be listened on.
    """
    with make_server(page, answers, host=host, port=port, names=names, report=report) as server:
        report(f"Survey {server.survey.survey} at {server.address}  (Ctrl-C to stop; answers go to {answers})")
        if server.is_open_to_others:
            report("Other machines can reach this server; their answers are not encrypted.")
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            server.serve_forever()
    report(f"{len(list(answers.glob('*.json')))} answers in {answers}")


def make_server(
    page: Path,
    answers: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> "SurveyServer":
    """Return the listening server of `serve`; the caller runs `serve_forever()` and closes it."""
    if not host.strip():
        raise SrlibError("--host: expected an address such as 127.0.0.1, or 0.0.0.0 for all addresses, got ''")
    survey = read_page(page)
    check_output_folder(answers)
    answers.mkdir(parents=True, exist_ok=True)
    try:
        return SurveyServer((host, port), survey, page.read_bytes(), answers, frozenset(names), report)
    except (OSError, OverflowError) as error:
        raise SrlibError(f"cannot listen on {host}, port {port} ({error}); choose another port or address") from None


class SurveyServer(ThreadingHTTPServer):
    """An HTTP server with one thread per connection, at most `MAX_CONNECTIONS`; further clients wait briefly."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        survey: Survey,
        page: bytes,
        answers: Path,
        names: frozenset[str],
        report: Callable[[str], None],
    ) -> None:
        self.survey = survey
        self.page = page
        self.answers = answers
        self.names = frozenset(name.lower() for name in names)
        self.report = report
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.writing = threading.Lock()
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host's full name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def address(self) -> str:
        """The URL to open, http://…/."""
        host = self.server_name
        if ipaddress.ip_address(host).is_unspecified:
            host = _own_address(self.address_family)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines may reach the server."""
        return not ipaddress.ip_address(self.server_name).is_loopback

    def process_request(self, request: Request, client_address: ClientAddress) -> None:
        """Start a thread for a connection, or close it where none becomes free: this is the loop that serves all."""
        if self.free.acquire(timeout=PATIENCE):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Request, client_address: ClientAddress) -> None:
        """Handle one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Request, client_address: ClientAddress) -> None:
        """Ignore clients that disconnect or stay silent; print any other error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def store(self, content: bytes) -> None:
        """Check answers and write them.

        Raises:
            SrlibError: They do not pass the checks, or there are too many.
        """
        answers = self.survey.check(content)
        # The checked content is serialized again, so that nothing of the client's own formatting is stored.
        text = answers.model_dump_json(exclude_none=True).encode() + b"\n"
        path = self.answers / f"{hashlib.sha256(text).hexdigest()[:32]}.json"
        with self.writing:
            if path.exists():
                return
            if sum(1 for _ in self.answers.glob("*.json")) >= MAX_STORED:
                raise SrlibError(f"there are {MAX_STORED} answers already")
            write_bytes(path, text)
        votes = f"{len(answers.votes)} of {len(self.survey.groups)} votes"
        self.report(f"{path.name}: {votes}, rater {answers.rater}, revision {answers.revision}")


class _Handler(BaseHTTPRequestHandler):
    server: SurveyServer
    timeout = TIMEOUT
    server_version = "srlib"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        # The timeout of a socket is that of one read: a client that sends a byte before each would stay for ever.
        self.deadline = threading.Timer(self.timeout, _disconnect, [self.connection])
        self.deadline.daemon = True
        self.deadline.start()

    def finish(self) -> None:
        self.deadline.cancel()
        super().finish()

    def do_GET(self) -> None:
        if self._is_allowed():
            if self.path.partition("?")[0] in ("/", "/index.html"):
                self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "only the survey at / is served")

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
        if len(content) < int(size) or not self._is_allowed():
            return
        if self.path != "/answers":
            self._refuse(HTTPStatus.NOT_FOUND, "expected answers at /answers")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        else:
            self._store(content)

    def _store(self, content: bytes) -> None:
        try:
            self.server.store(content)
        except SrlibError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self.server.report(f"an answer could not be written: {error}")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the answers could not be written")
        else:
            self._reply(HTTPStatus.OK, b"{}", "application/json")

    def _is_allowed(self) -> bool:
        """Refuse a request unless its Host is this server and its Origin, if any, is this server's page."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if not is_own_host(host, str(self.connection.getsockname()[0]), self.server.names):
            self._refuse(HTTPStatus.FORBIDDEN, "unknown host name; the maker of the survey can allow it with --name")
        elif origin is not None and origin.partition("://")[2] != host:
            self._refuse(HTTPStatus.FORBIDDEN, "answers are accepted from the survey's own page only")
        else:
            return True
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._reply(status, json.dumps({"error": reason}).encode(), "application/json")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.deadline.cancel()
        self.connection.settimeout(self.timeout + len(body) / SLOWEST)  # when sending, that of the whole body
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: raters' addresses are not recorded."""


def _disconnect(connection: socket.socket) -> None:
    """End a connection on which another thread reads: the read returns."""
    with contextlib.suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


def _own_address(family: socket.AddressFamily | int) -> str:
    """Return the address by which others reach this machine: the source address of a packet to the outside."""
    outside, own = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("192.0.2.1", "127.0.0.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))  # nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return own


def is_own_host(host: str, local_address: str, names: Collection[str]) -> bool:
    """Return whether a Host header names this server: an allowed name, or the address on which the request arrived.

    Args:
        host: The header, with or without a port.
        local_address: Local address of the connection. `localhost` is accepted if it is a loopback address.
        names: Further names, in lower case.

    Example:
        >>> is_own_host("localhost:8000", "127.0.0.1", ()), is_own_host("192.168.7.9", "127.0.0.1", ())
        (True, False)
    """
    before, _, after = host.lower().rpartition(":")
    name = (before if after.isdigit() else host.lower()).strip("[]")
    local = _plain_address(local_address)
    if name in names or (name == "localhost" and local.is_loopback):
        return True
    try:
        return _plain_address(name) == local
    except ValueError:
        return False


def _plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address; an IPv4 address that IPv6 carries becomes the IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
