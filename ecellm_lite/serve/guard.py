"""Checks each request's Host header, Origin header and API key before the request is handled.

A server without keys answers only programs on this machine. Requests from web pages of other sites are refused, even if
the browser runs on this machine. Two headers reveal such a request:

- The Origin header names the site of the page that sent the request.
- With DNS rebinding, the host name of a page's site resolves to this machine's address. The page's requests then reach
  this server, but their Host header has the site's host name.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ecellm_lite.serve.errors import RefusedError, error_response
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.inner import TRUSTED
from ecellm_lite.serve.keys import Key, Keys

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
LARGEST_HEAD = 1 << 14  # bytes of a request's line and headers
_PUBLIC = "/health"  # needs no key: it shows only that the process runs


@dataclass(frozen=True, slots=True)
class Access:
    """The host names that requests may use to reach the server, and the web sites that may send requests.

    `hosts`: the allowed host names. None allows any name, for example on a Unix socket.
    `addresses`: whether a request may name an IP address in place of a host name. True if the server listens on all of
      the machine's addresses.
    `origins`: other sites whose pages may send requests.
    """

    hosts: Collection[str] | None = LOOPBACK
    addresses: bool = False
    origins: Collection[str] = ()


class Guard:
    """ASGI middleware that refuses requests without a valid key and requests from web pages of other sites."""

    def __init__(self, app: ASGIApp, keys: Keys, access: Access) -> None:
        self._app = app
        self._keys = keys
        self._hosts = None if access.hosts is None else frozenset(host.lower() for host in access.hosts)
        self._origins = frozenset(access.origins)
        self._addresses = access.addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        if isinstance(key := scope.get(TRUSTED), Key):
            scope["state"]["exchange"].key = key
        if scope["type"] == "http" and TRUSTED not in scope:
            try:
                self._check(Headers(scope=scope), Request(scope))
            except RefusedError as refusal:
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, request: Request) -> None:
        line = len(request.scope["raw_path"]) + len(request.scope["query_string"])
        if line + sum(len(name) + len(value) for name, value in headers.raw) > LARGEST_HEAD:
            message = f"The path and the headers have more than {LARGEST_HEAD:,} bytes"
            raise RefusedError(431, "headers_too_large", message, step="send fewer, or shorter ones")
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy in front may go by the other one, and take part of this body for the next request.
            message = "The body has a Content-Length and a Transfer-Encoding"
            close = {"Connection": "close"}
            raise RefusedError(400, "two_lengths", message, step="send one of them", headers=close)
        hosts = headers.getlist("host")
        if self._hosts is not None and not (len(hosts) == 1 and self._is_ours(hosts[0])):
            raise RefusedError(
                421,
                "foreign_host",
                "The Host header names another server",
                step="use this server's own address, or start the server with this name allowed",
                settings=("allow_host",),
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _same(origin, hosts):
            raise RefusedError(
                403,
                "foreign_origin",
                "The request comes from a page of another site",
                step="start the server with the page's origin allowed",
                settings=("allow_origin",),
            )
        if not self._keys or request.scope["path"] == _PUBLIC:
            return
        key = self._key(headers)
        if key is None:
            page = "text/html" in headers.get("accept", "")
            raise RefusedError(
                401,
                "invalid_api_key",
                "The request has no valid API key",
                step="send it as `Authorization: Bearer KEY`",
                headers={"WWW-Authenticate": 'Basic realm="ecellm-lite"' if page else "Bearer"},
            )
        exchange_of(request).key = key

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if "@" in host or "/" in host:
            return False
        return name in (self._hosts or ()) or (self._addresses and _is_address(name))

    def _key(self, headers: Headers) -> Key | None:
        scheme, _, presented = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._keys.find(presented.strip())
        if scheme.lower() == "basic":  # a browser asks for a name and a password; the password is the key
            try:
                _, _, presented = base64.b64decode(presented, validate=True).decode("utf-8").partition(":")
            except (binascii.Error, ValueError):
                return None
            return self._keys.find(presented)
        return self._keys.find(headers["x-api-key"]) if "x-api-key" in headers else None


def _same(origin: str, hosts: Collection[str]) -> bool:
    return any(origin in (f"http://{host}", f"https://{host}") for host in hosts)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
