"""Tests that the server withstands hostile requests and connections.

It must send the documented status or close the connection. Afterwards, nothing of the request may remain.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from ecellm_lite import Runtime
from ecellm_lite.serve.keys import Key, Keys
from ecellm_lite.serve.limits import Limits
from tests.serve.serving import Server, serving, until
from tests.support.gated import Gated

PATH = "/v1/tasks/sentiment_analysis"
ROW = b'{"row": {"review": "It works."}}'
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"
TOO_LARGE = {431: {431, 400, 0}}  # a head that comes in pieces is refused before it is whole
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ROW), ROW)


def head(*headers: bytes, method: bytes = b"POST", path: bytes = PATH.encode()) -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""])


def status_of(server: Server, sent: bytes) -> int:
    """Send bytes, and return the status of the response.

    Return 0 if the server closes the connection without a response.
    """
    with server.connect() as connection:
        try:
            connection.sendall(sent)
            return int(connection.recv(4096).split()[1])
        except ConnectionError:
            return 0


@pytest.fixture
def impatient() -> Iterator[Server]:
    with serving(limits=replace(Limits(), body_seconds=0.2, idle_seconds=1)) as server:
        yield server


def test_a_chunked_body_is_read(server: Server) -> None:
    assert status_of(server, head(JSON, CHUNKED) + CHUNKS) == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(*[b"X-%d: 1" % number for number in range(10_000)], method=b"GET", path=b"/health"), 431),
        (head(*[b"X-%d: %s" % (n, b"x" * 100) for n in range(160)], method=b"GET", path=b"/health"), 431),
        (head(JSON, b"Content-Length: %d" % len(ROW), CHUNKED) + CHUNKS, 400),
        (head(JSON, CHUNKED, CHUNKED) + CHUNKS, 400),
        (head(JSON, b"Transfer-Encoding: chunked, chunked") + CHUNKS, 400),
        (head(JSON, CHUNKED) + b"-5\r\nabc", 400),
        (head(JSON, b"Content-Length: +5") + b"12345", 400),
        (head(JSON, b"Content-Length: 0x5") + b"12345", 400),
        (head(JSON, b"Content-Length: ") + b"12345", 400),
        (head(JSON, b"Content-Length: 5 5") + b"12345", 400),
        (head(JSON, b"Content-Length: 1_0") + b"1234567890", 400),
        (head(b"X : a", method=b"GET", path=b"/health"), 400),
        (head(b"X: a\0b", method=b"GET", path=b"/health"), 400),
        (head(b"X-Forwarded-Host: shop.example", method=b"GET", path=b"/health"), 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421),
    ],
    ids=range(15),
)
def test_malformed_headers_are_refused(server: Server, sent: bytes, status: int) -> None:
    assert status_of(server, sent) in TOO_LARGE.get(status, {status})
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"//v1/tasks", 404),
        (b"/v1//tasks", 404),
        (b"/v1/tasks/", 404),
        (b"/v1/tasks/%00", 404),
        (b"/v1/tasks/%2e%2e", 404),
        (b"/v1/tasks/SA%2f..%2f..%2fhealth", 404),
        (b"/v1/tasks/%ff%fe", 404),
        (b"/v1/tasks/%zz", 404),
        (b"/v1/models/../../etc/passwd", 404),
        (b"/v1/files/..%2f..%2fetc%2fpasswd/content", 404),
        (b"/page/%2e%2e%2fapp.py", 404),
        (b"/page/..\\app.py", 404),
        (b"/v1/tasks/\x00", 400),
        (b"/v1/tasks/\xff", 400),
        (b"/v1/tasks/a b", 400),
        (b"http://shop.example/health", 404),
        (b"*", 404),
        (b"/" + b"a" * 100_000, 431),
    ],
    ids=range(18),
)
def test_paths_do_not_lead_out_of_the_page_folder(server: Server, path: bytes, status: int) -> None:
    assert status_of(server, head(method=b"GET", path=path)) in TOO_LARGE.get(status, {status})
    assert server.get("/health").status == 200


def test_a_client_that_stops_halfway_is_disconnected(server: Server) -> None:
    halves = [
        b"",
        b"GET /health HT",
        head(JSON, b"Content-Length: 100") + ROW,
        head(JSON, CHUNKED) + b"5\r\nab",
        head(b"Content-Type: multipart/form-data; boundary=x", b"Content-Length: 100", path=b"/v1/files") + b"--x\r\n",
    ]
    before = len(server.log)
    for sent in halves:
        with server.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    # The client is gone, which is no fault of ours. A line of an earlier test may still come in.
    until(lambda: [line["status"] for line in server.log[before:]].count(499) >= 3)
    assert all(line["status"] < 500 for line in server.log[before:])


def test_the_rows_of_a_client_that_closes_its_side_are_dropped() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        with server.connect() as connection:
            connection.sendall(head(JSON, b"Content-Length: %d" % len(ROW)) + ROW)
            until(lambda: server.service.admission.waiting == 1)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(4096) == b""
        until(lambda: server.service.admission.waiting == 0)
        backend.gate.set()


def test_slow_clients_do_not_delay_others(impatient: Server) -> None:
    descriptors = psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else None
    sends = [b"GET /health HTTP/1.1\r\nHost: loc", head(JSON, b"Content-Length: 1000") + b'{"row"']
    connections = [impatient.connect() for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(sends[number % 2])
    assert impatient.post(PATH, ROW).status == 200
    for number, connection in enumerate(connections):
        connection.settimeout(30)
        data = b""
        while piece := connection.recv(4096):
            data += piece
        assert data.split()[1:2] == ([b"408"] if number % 2 else [])
        connection.close()
    if descriptors is not None:
        until(lambda: psutil.Process().num_fds() <= descriptors)


def test_a_slow_body_has_the_same_time_limit_as_a_stopped_one(impatient: Server) -> None:
    with impatient.connect() as connection:
        ended = threading.Event()

        def drip() -> None:
            connection.sendall(head(JSON, b"Content-Length: 100000"))
            while not ended.wait(0.01):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert connection.recv(4096).split()[1] == b"408"
        ended.set()
        thread.join()


def test_a_client_that_reads_nothing_is_disconnected(impatient: Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", impatient.port))
        requests = head(method=b"GET", path=b"/openapi.json") * 200
        with pytest.raises(ConnectionError):  # more than fits into what the system keeps for both sides
            connection.sendall(requests * 2000)
    assert impatient.get("/health").status == 200


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(method=b"GET", path=b"/health") * 300)
        data = b""
        while data.count(b'"ok"') < 300:
            piece = connection.recv(1 << 16)
            assert piece
            data += piece
    assert data.count(b"HTTP/1.1 200") == 300


@pytest.mark.parametrize(
    "row",
    [
        {"review": -1},
        {"review": None},
        {"review": {"a": "b"}},
        {"review": ["x"] * 10_000},
        {"review": "x" * 3_000_000},
        {"review": "\n" * 100_000},
        {"review": "x", "id": -1e300},
        {"review": "x", "id": "i" * 1_000_000},
        {f"k{number}": number for number in range(50_000)},
        {"review": "́" * 50_000},
    ],
    ids=range(10),
)
def test_huge_and_odd_rows_are_answered_or_refused(server: Server, row: Any) -> None:
    reply = server.post(PATH, {"row": row})
    assert reply.status in (200, 422), reply.body[:300]
    assert len(reply.body) < 10_000 + len(str(row.get("id")))  # no other value of the client's is sent back whole


def test_hostile_requests_leak_no_threads_or_memory() -> None:
    with serving() as server:
        server.post(PATH, ROW)
        process = psutil.Process()
        threads = process.num_threads()
        bodies = [b"[" * 100_000, b'{"row": {"review": NaN}}', b'{"row": 1, "row": 2}', b"\xff", b'{"rows": [-1]}']
        for _ in range(40):
            for body in bodies:
                assert server.post(PATH, body).status in (200, 400, 422)
        assert server.service.admission.waiting == len(server.service.in_flight) == 0
        assert process.num_threads() <= threads + 8  # the pool that compiles schemas


def test_from_another_address_nothing_but_health_answers_without_a_key() -> None:
    key = {"Authorization": f"Bearer {'k' * 20}"}
    with serving(host="0.0.0.0", keys=Keys([Key.of("till", "k" * 20)])) as server:
        server.address = "127.0.0.2"
        try:
            assert server.get("/health").status == 200
        except OSError:
            pytest.skip("only Linux has more than one loopback address")
        document = server.get("/openapi.json", key).json
        routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
        assert len(routes) > 20
        routes += [("GET", "/"), ("GET", "/page/app.js"), ("GET", "/openapi.json"), ("GET", "/nonsense")]
        for method, path in routes:
            for name in ("task", "model", "file_id", "batch_id"):
                path = path.replace(f"{{{name}}}", "SA")
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": ""}):
                reply = server.ask(method, path, {} if method == "POST" else None, headers)
                assert reply.status == (200 if path == "/health" else 401), (method, path)
            assert server.ask(method, path, {} if method == "POST" else None, key).status != 401
        for path in ("/health/", "/health/../v1/tasks", "//health", "/v1/tasks?/health", "/HEALTH"):
            assert server.get(path).status == 401, path


def test_a_foreign_name_that_resolves_to_this_server_is_refused() -> None:
    with serving(host="0.0.0.0", keys=Keys([Key.of("till", "k" * 20)])) as server:
        reply = server.ask("GET", "/v1/tasks", headers={"X-Api-Key": "k" * 20}, host="rebound.shop.example")
        assert (reply.status, reply.error["code"]) == (421, "foreign_host")
