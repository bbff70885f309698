"""`srlib survey serve` against real sockets: what it gives out, what it takes, and whom it refuses."""

import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srlib.errors import SrlibError
from srlib.survey import server as survey_server
from srlib.survey.server import SurveyServer, is_own_host, make_server, serve

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server(made: Any, tmp_path: Path) -> Iterator[SurveyServer]:
    with make_server(
        made.page, tmp_path / "answers", names=["survey.example.org", "192.168.7.9"], report=lambda line: None
    ) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: SurveyServer, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    result = reply.status, reply.read(), reply.headers
    connection.close()
    return result


def stored(server: SurveyServer) -> list[Path]:
    return sorted(server.answers.iterdir())


def test_gives_out_the_page_and_nothing_else(server: SurveyServer, made: Any) -> None:
    status, body, headers = ask(server, "GET", "/")
    assert status == 200 and body == made.page.read_bytes()
    assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers
    for path in ("/key.json", "/../key.json", "/%2e%2e/key.json", "/answers", "//etc/passwd"):
        assert ask(server, "GET", path)[0] == 404
    assert ask(server, "HEAD", "/")[1] == b""
    assert ask(server, "PUT", "/answers", b"{}", JSON)[0] == 501


def test_listens_on_this_machine_alone(server: SurveyServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_stores_checked_answers_once(server: SurveyServer, made: Any) -> None:
    content = made.answers("anna")
    assert ask(server, "POST", "/answers", content, JSON)[:2] == (200, b"{}")
    assert ask(server, "POST", "/answers", json.dumps(json.loads(content), indent=3).encode(), JSON)[0] == 200
    [file] = stored(server)
    assert json.loads(file.read_bytes()) == json.loads(content)
    assert made.survey.check(file.read_bytes()).rater == "anna"


def test_many_at_once_are_all_stored_whole(server: SurveyServer, made: Any) -> None:
    sent = [made.answers(f"rater-{n % 40}") for n in range(80)]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda c=c: statuses.append(ask(server, "POST", "/answers", c, JSON)[0])) for c in sent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
    assert {made.survey.check(file.read_bytes()).rater for file in stored(server)} == {f"rater-{n}" for n in range(40)}
    assert len(stored(server)) == 40


def test_no_part_of_a_path_comes_from_the_client(server: SurveyServer, made: Any) -> None:
    content = json.loads(made.answers("anna")) | {"rater": "../../evil"}
    status, body, _ = ask(server, "POST", "/answers", json.dumps(content).encode(), JSON)
    assert status == 400 and b"rater" in body and not stored(server)
    assert ask(server, "POST", "/answers/../x.json", made.answers("anna"), JSON)[0] == 404
    assert not stored(server)


def test_refused_answers_get_the_reason(server: SurveyServer, made: Any) -> None:
    content = json.loads(made.answers("anna"))
    content["votes"][0][1] = 1 if content["votes"][0][1] == 5 else 5
    status, body, _ = ask(server, "POST", "/answers", json.dumps(content).encode(), JSON)
    assert status == 400 and "tampered" in json.loads(body)["error"] and not stored(server)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:{port}", "LOCALHOST", "192.168.7.9:80", "Survey.example.org", "survey.example.org"]
)
def test_own_names_are_served(server: SurveyServer, host: str) -> None:
    assert ask(server, "GET", "/", headers={"Host": host.format(port=server.server_port)})[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "localhost.evil", "[::1]:{port}", "10.0.0.1"],
)
def test_foreign_names_are_refused(server: SurveyServer, made: Any, host: str) -> None:
    named = {"Host": host.format(port=server.server_port)}
    assert ask(server, "GET", "/", headers=named)[0] == 403
    assert ask(server, "POST", "/answers", made.answers("anna"), JSON | named)[0] == 403
    assert not stored(server)


def test_answers_come_from_the_own_page_only(server: SurveyServer, made: Any) -> None:
    content = made.answers("anna")
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{server.server_port + 1}"):
        assert ask(server, "POST", "/answers", content, JSON | {"Origin": origin})[0] == 403
    # What a foreign page may send without asking first.
    assert ask(server, "POST", "/answers", content, {"Content-Type": "text/plain"})[0] == 415
    assert not stored(server)
    own = f"http://127.0.0.1:{server.server_port}"
    assert ask(server, "POST", "/answers", content, JSON | {"Origin": own})[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Length: 99999999999", 413),
        (f"Content-Length: {survey_server.MAX_ANSWERS_BYTES + 1}", 413),
        ("Content-Length: -1", 411),
        ("Content-Length: ٣", 411),
        ("Transfer-Encoding: chunked", 411),
        ("X: y", 411),
    ],
)
def test_sizes_are_known_and_limited_before_anything_is_read(server: SurveyServer, head: str, status: int) -> None:
    request = f"POST /answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        client.sendall(request.encode("utf-8"))
        assert int(client.makefile("rb").readline().split()[1]) == status
    assert not stored(server)


def test_half_a_request_stores_nothing_and_blocks_nobody(server: SurveyServer, made: Any) -> None:
    content = made.answers("anna")
    lines = ["POST /answers HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""])
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        client.sendall(head.encode() + content[:50])
        assert ask(server, "POST", "/answers", made.answers("badr"), JSON)[0] == 200
    assert len(stored(server)) == 1


def test_silent_clients_are_let_go(server: SurveyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_server._Handler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        assert client.recv(1) == b""


def test_a_client_of_single_bytes_is_let_go(server: SurveyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_server._Handler, "timeout", 0.5)
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        client.settimeout(0.05)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                client.sendall(b"a")
                assert client.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("still connected")


def test_full_server_refuses_and_serves_on(server: SurveyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_server, "PATIENCE", 0.05)
    monkeypatch.setattr(server, "free", threading.BoundedSemaphore(1))
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as holder:
        holder.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
                assert client.recv(1) == b""
        holder.sendall(b"Host: localhost\r\n\r\n")
        assert holder.makefile("rb").read().startswith(b"HTTP/1.0 200 ")
    assert ask(server, "GET", "/")[0] == 200


def test_a_slow_line_gets_the_whole_page(server: SurveyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_server._Handler, "timeout", 0.2)
    monkeypatch.setattr(survey_server, "SLOWEST", 10**6)
    monkeypatch.setattr(server, "page", bytes(30 * 10**6))
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", "/")
    reply = connection.getresponse()
    time.sleep(1)
    assert len(reply.read()) == len(server.page)
    connection.close()


def test_deep_or_broken_json_is_refused(server: SurveyServer) -> None:
    for content in (b"[" * 200_000, b"\xff\xfe", b"", b"null", b'{"votes": NaN}'):
        assert ask(server, "POST", "/answers", content, JSON)[0] == 400
    assert not stored(server)


def test_number_of_answers_is_limited(server: SurveyServer, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_server, "MAX_STORED", 2)
    assert [ask(server, "POST", "/answers", made.answers(f"r{n}"), JSON)[0] for n in range(3)] == [200, 200, 400]
    assert len(stored(server)) == 2


def test_says_where_it_is_and_ends_on_interrupt(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: SurveyServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SurveyServer, "serve_forever", interrupted)
    lines: list[str] = []
    serve(made.page, tmp_path / "answers", port=0, report=lines.append)
    assert made.survey.survey in lines[0] and "http://127.0.0.1:" in lines[0]
    assert lines[1].startswith("0 answers")


def test_taken_port_and_wrong_page_are_named(server: SurveyServer, made: Any, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="choose another port"):
        make_server(made.page, tmp_path / "a", port=server.server_port)
    with pytest.raises(SrlibError, match="expected a file of the format"):
        make_server(made.key, tmp_path / "a")


@pytest.mark.parametrize(
    ("host", "local", "is_own"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("[::1]:8000", "::1", True),
        ("localhost", "::1", True),
        ("localhost", "192.168.7.9", False),
        ("192.168.7.9", "192.168.7.9", True),
        ("192.168.7.8", "192.168.7.9", False),
        ("192.168.7.9:80", "::ffff:192.168.7.9", True),
        ("2130706433", "127.0.0.1", False),  # 127.0.0.1 as a number
        ("127.1", "127.0.0.1", False),
    ],
)
def test_hosts_by_the_address_of_the_connection(host: str, local: str, is_own: bool) -> None:
    assert is_own_host(host, local, ()) == is_own


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_refused(made: Any, tmp_path: Path, host: str) -> None:
    with pytest.raises(SrlibError, match=r"--host: expected an address such as 127\.0\.0\.1"):
        make_server(made.page, tmp_path / "answers", host=host)
    assert not (tmp_path / "answers").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_address_of_all_addresses_can_be_opened(made: Any, tmp_path: Path, host: str) -> None:
    try:
        server = make_server(made.page, tmp_path / "answers", host=host, report=lambda line: None)
    except SrlibError:
        pytest.skip("needs IPv6")
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            assert opener.open(server.address, timeout=120).status == 200
        finally:
            server.shutdown()
            thread.join()


def test_listening_on_all_addresses_is_reported(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SurveyServer, "serve_forever", lambda self: None)
    lines: list[str] = []
    serve(made.page, tmp_path / "answers", host="0.0.0.0", port=0, report=lines.append)
    assert "not encrypted" in lines[1]
