"""Tests of request bodies: only JSON is accepted, plain or compressed with zstd. Size and time are limited."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from ecellm_lite.serve.limits import Limits
from tests.serve.serving import Server, serving

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PATH = "/v1/tasks/sentiment_analysis"
ROW = b'{"row": {"review": "It works."}}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"row": {"review": NaN}}',
        b'{"row": {"review": Infinity}}',
        b'{"row": {"review": "a"}, "row": {"review": "b"}}',
        b'{"row": {"review": "a", "review": "b"}}',
        b'{"row": {"review": "\xff"}}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"row": {"review": ' + b"9" * 5000 + b"}}",
        ROW + ROW,
        b"\xef\xbb\xbf" + ROW,
    ],
    ids=range(11),
)
def test_a_body_that_is_not_strict_json_is_refused(server: Server, body: bytes) -> None:
    reply = server.post(PATH, body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_another_content_type_is_refused(server: Server, kind: str) -> None:
    assert server.post(PATH, ROW, {"Content-Type": kind}).status == 415


def test_a_charset_may_be_named(server: Server) -> None:
    assert server.post(PATH, ROW, {"Content-Type": "application/json; charset=utf-8"}).status == 200


def test_zstd_is_unpacked(server: Server) -> None:
    plain, packed = server.post(PATH, ROW), server.post(PATH, zstd.compress(ROW), {"Content-Encoding": "zstd"})
    assert packed.json["probabilities"] == plain.json["probabilities"]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (ROW, "zstd", 400),
        (zstd.compress(ROW)[:-3], "zstd", 400),
        (zstd.compress(ROW) + b"x", "zstd", 400),
        (zstd.compress(b" " * (64 << 20)), "zstd", 413),
        (ROW, "gzip", 415),
        (ROW, "zstd, zstd", 415),
    ],
    ids=range(6),
)
def test_a_damaged_or_huge_packed_body_is_refused(server: Server, body: bytes, encoding: str, status: int) -> None:
    assert server.post(PATH, body, {"Content-Encoding": encoding}).status == status


def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    with serving(limits=replace(Limits(), body_bytes=1000)) as server:
        assert server.post(PATH, json.dumps({"row": {"review": "x" * 2000}}).encode()).status == 413
        with server.connect() as connection:
            connection.sendall(_head("Content-Length: 99999999999999999999"))
            assert connection.recv(4096).split()[1] in (b"400", b"413")
        with server.connect() as connection:
            connection.sendall(_head("Transfer-Encoding: chunked"))
            connection.sendall(b"".join(b"400\r\n" + b" " * 1024 + b"\r\n" for _ in range(4)))
            assert connection.recv(4096).split()[1] == b"413"


def test_slow_senders_are_disconnected() -> None:
    with serving(limits=replace(Limits(), body_seconds=0.2, idle_seconds=1)) as server:
        with server.connect() as connection:  # a body that stops
            connection.sendall(_head("Content-Length: 50") + b'{"row"')
            assert connection.recv(4096).split()[1] == b"408"
        for begun in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"):  # a head that stops
            with server.connect() as connection:
                connection.sendall(begun)
                assert connection.recv(4096) == b""
        with server.connect() as connection:  # a second head that stops
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = b""
            while not data.endswith(b'"ok"}'):
                data += connection.recv(4096)
            connection.sendall(b"GET /hea")
            assert connection.recv(4096) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=range(8),
)
def test_malformed_requests_are_refused(server: Server, sent: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        reply = connection.recv(4096)
    assert reply.split()[1] in (b"400", b"421", b"431", b"501")
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nonsense", 404),
        ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("DELETE", "/v1/tasks", 405),
        ("GET", "/docs", 404),
        ("TRACE", "/health", 405),
    ],
)
def test_unknown_paths_and_methods_get_an_error(server: Server, method: str, path: str, status: int) -> None:
    reply = server.ask(method, path)
    assert reply.status == status
    assert reply.error["type"] == "invalid_request_error"


def _head(*headers: str) -> bytes:
    lines: list[Any] = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "body",
    [
        f'{{"row": {{"review": {DEEP}}}}}',
        f'{{"row": {{"review": "x", "id": {DEEP}}}}}',
        f'{{"rows": [{DEEP}, {{"review": "x"}}]}}',
        f'{{"row": {{"review": "x"}}, "options": {{"schema": {{"const": {DEEP}}}}}}}',
        '{"row": {"review": "\\ud800", "id": "\\udfff"}}',
        '{"row": {"\\ud800": 1}}',
        '{"row": {"review": 1e400}}',
        '{"row": {"review": "x", "id": 123456789012345678901234567890}}',
        '{"row": {"review": "\\u0000\\u001b[2J"}}',
        '{"row": {"review": "x"}, "options": {"grammar": "' + "(" * 5000 + '"}}',
        '{"row": {"review": "x"}, "options": {"deadline_ms": 1e-300}}',
    ],
    ids=range(11),
)
def test_hostile_rows_have_an_answer_or_an_error(server: Server, body: str) -> None:
    reply = server.post(PATH, body.encode())
    assert reply.status in (200, 400, 422, 504), reply.body
    assert reply.json


def test_hostile_decisions_have_an_error(server: Server) -> None:
    question = {"type": "predicate", "instructions": "?"}
    body: dict[str, Any]
    for state in ("\ud800", "x" * 300_000, "\0", " " * 10):
        body = {"model": "fake", "input": state, "questions": [question]}
        assert server.post("/v1/decisions", body).status in (200, 422), state[:10]
    for deep in (json.loads(DEEP), {"a": json.loads("[" * 31 + "]" * 31)}):
        body = {"model": "fake", "state": deep, "questions": {"\ud800": {"type": "noul"}}}
        assert server.post("/v1/systemone", body).status in (200, 422)
    many = {"model": "fake", "input": "x" * 300_000, "questions": [question] * 400}
    assert server.post("/v1/decisions", many).status == 413
