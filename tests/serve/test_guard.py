"""Tests which requests are refused because of their Host header, their Origin header or their API key."""

from __future__ import annotations

import base64
import codecs
import socket
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import InputError, UsageError
from ecellm_lite.serve.guard import Access
from ecellm_lite.serve.keys import Key, Keys, read_keys
from ecellm_lite.serve.listening import listen
from ecellm_lite.serve.server import check_private
from tests.serve.serving import Server, serving

KEY = "a-key-of-enough-characters"
ROUTES = ["/", "/ready", "/metrics", "/v1/tasks", "/v1/models", "/openapi.json", "/nonsense"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8765", "[::1]:1"])
def test_the_servers_own_names_are_accepted(server: Server, host: str) -> None:
    assert server.ask("GET", "/health", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["shop.example", "127.0.0.1.shop.example", "localhost@shop.example", "[", "127.0.0.2", "a:b:c", "localhost/x"],
)
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    for path in ("/health", "/v1/tasks"):
        assert server.ask("GET", path, host=host).status in (400, 421)


def test_a_page_of_another_site_is_refused(server: Server) -> None:
    assert server.get("/v1/tasks", {"Origin": f"http://127.0.0.1:{server.port}"}).status == 200
    for origin in ("https://shop.example", "null", f"http://127.0.0.1:{server.port + 1}"):
        reply = server.get("/v1/tasks", {"Origin": origin})
        assert (reply.status, reply.error["type"]) == (403, "permission_error")
        assert "Access-Control-Allow-Origin" not in reply.headers


def test_an_allowed_origin_may_ask() -> None:
    origin = "https://shop.example"
    with serving(origins=(origin,)) as server:
        reply = server.get("/v1/tasks", {"Origin": origin})
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, origin)
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        assert server.ask("OPTIONS", "/v1/tasks/SA", headers=preflight).status == 200
        assert server.get("/v1/tasks", {"Origin": "https://other.example"}).status == 403


def test_without_a_key_nothing_but_health_answers() -> None:
    with serving(keys=Keys([Key.of("till", KEY)])) as server:
        assert server.get("/health").status == 200
        basic = base64.b64encode(f"me:{KEY}".encode()).decode()
        for path in ROUTES:
            for headers in (
                {},
                {"Authorization": "Bearer wrong-key-of-characters"},
                {"Authorization": f"Basic {basic[:-4]}"},
                {"Authorization": "Basic !"},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": KEY},
                {"X-Api-Key": "x"},
            ):
                reply = server.get(path, headers)
                assert (reply.status, reply.error["type"]) == (401, "authentication_error")
                assert reply.headers["WWW-Authenticate"]
        for headers in ({"Authorization": f"bearer {KEY}"}, {"X-Api-Key": KEY}, {"Authorization": f"Basic {basic}"}):
            assert server.get("/v1/tasks", headers).status == 200
        assert server.log[-1]["key"] == "till"
        assert KEY not in str(server.log)


def test_a_key_may_have_a_limit() -> None:
    with serving(keys=Keys([Key.of("till", KEY, 2), Key.of("other", KEY + "2")])) as server:
        body = {"rows": [{"review": "x"}] * 3}
        limited = server.post("/v1/tasks/SA", body, {"Authorization": f"Bearer {KEY}"})
        assert (limited.status, limited.error["code"]) == (422, "key_rows")
        assert server.post("/v1/tasks/SA", body, {"Authorization": f"Bearer {KEY}2"}).status == 200


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# tills\ntill-1 {KEY}\n\ntill-2 {KEY}2 200\n")
    keys = Keys(read_keys(file))
    first, second = keys.find(KEY), keys.find(KEY + "2")
    assert first
    assert second
    assert (first.name, first.rows, second.name, second.rows) == ("till-1", None, "till-2", 200)
    assert keys.find("") is None
    assert KEY not in repr(first)
    file.write_bytes(codecs.BOM_UTF8 + f"till-1 {KEY}\r\n".encode())  # as Windows's editors write it
    assert [key.name for key in read_keys(file)] == ["till-1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one",
        "a short",
        f"a {KEY} x",
        f"a {KEY} 0",
        f"a {KEY} -1",
        f"a {KEY} 1{'0' * 5000}",
        f"a {KEY} 5\nb {KEY}",
        f"a {KEY}\na {KEY}2",
        f"ä {KEY}",
        "a " + "é" * 20,
    ],
)
def test_an_invalid_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_keys(file)
    assert KEY not in str(error.value)
    with pytest.raises(InputError):
        read_keys(tmp_path / "missing")


def test_a_public_address_needs_keys() -> None:
    listening: Any = listen("0.0.0.0", 0)
    try:
        with pytest.raises(UsageError) as error:
            check_private(listening, Keys())
        assert error.value.settings == ("api_keys",)
        check_private(listening, Keys([Key.of("till", KEY)]))
        access = listening.access(("shop.example",))
        assert access.addresses
        assert "shop.example" in access.hosts
    finally:
        listening.close()
    with pytest.raises(InputError):
        listen("203.0.113.1", 1)


def test_responses_are_sent_without_delay() -> None:
    listening = listen("127.0.0.1", 0)
    with socket.create_connection(listening.socket.getsockname()):
        accepted, _ = listening.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listening.close()


def test_any_address_is_accepted_as_host_when_listening_on_several() -> None:
    with serving(access=Access(addresses=True)) as server:
        assert server.ask("GET", "/health", host="192.0.2.7:80").status == 200
        assert server.ask("GET", "/health", host="shop.example").status == 421


def test_every_response_has_its_headers(server: Server) -> None:
    for path in ("/health", "/nonsense", "/v1/tasks"):
        headers = server.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"]
        assert headers["X-Request-Id"]
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers


def test_a_unix_socket_is_private_to_its_user(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path=path), socket.socket(socket.AF_UNIX) as client:
        assert path.stat().st_mode & 0o777 == 0o600
        client.connect(str(path))
        client.sendall(b"GET /health HTTP/1.1\r\nHost: anything\r\n\r\n")
        assert client.recv(4096).split()[1] == b"200"
    assert not path.exists()
