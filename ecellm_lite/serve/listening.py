"""The socket that the server listens on: loopback, another address, a Unix socket, or a socket passed by systemd."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.errors import InputError
from ecellm_lite.pipe.sockets import bound_socket
from ecellm_lite.serve.guard import LOOPBACK, Access

_FIRST_PASSED = 3  # the first descriptor that systemd passes
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listening:
    """An open socket that the server listens on.

    `name`: the socket's address or path, for messages.
    `private`: whether only this machine or this user can reach the socket.
    `path`: the Unix socket's file, which `close` removes.
    """

    socket: socket.socket
    name: str
    private: bool
    path: Path | None = None

    def access(self, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> Access:
        """Return access rules that allow the socket's own address, these hosts and these origins."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return Access(None, origins=origins)
        address = ipaddress.ip_address(self.socket.getsockname()[0])
        return Access({*LOOPBACK, str(address), *hosts}, address.is_unspecified, origins)

    def close(self) -> None:
        """Close the socket, and remove its file if it has one."""
        self.socket.close()
        if self.path:
            self.path.unlink(missing_ok=True)


def listen(host: str, port: int, path: Path | None = None) -> Listening:
    """Return the socket that the server listens on.

    If systemd passed a socket, return this socket. Otherwise open a Unix socket at `path` or, if `path` is None, a TCP
    socket. Raises InputError if the socket cannot be opened.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return _described(socket.socket(fileno=_FIRST_PASSED))
    if path:
        opened = bound_socket(path)
        return Listening(opened, str(path), private=True, path=path)
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        opened = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        message = f"The server cannot listen on {host}:{port} ({reason})"
        raise InputError(message, step="use another address or port", settings=("host", "port")) from None
    return _described(opened)


def _described(opened: socket.socket) -> Listening:
    if opened.family not in (socket.AF_INET, socket.AF_INET6):
        return Listening(opened, str(opened.getsockname()), private=True)
    # asyncio does this only for sockets that name their protocol. Without it a response's body waits until the client
    # has acknowledged its head, which most do after 40 ms.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = opened.getsockname()[:2]
    name = f"http://[{host}]:{port}" if opened.family == socket.AF_INET6 else f"http://{host}:{port}"
    return Listening(opened, name, private=ipaddress.ip_address(host).is_loopback)
