"""The pipe's protocol (docs/pipe.md) over a Unix socket, for several host programs that share one engine."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ecellm_lite.answerer import Answerer
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.session import Progress, Session

MOST_HOSTS = 64

_LOOK = 0.2  # seconds between checks whether to end, where accepting hosts is not possible


class SocketServer:
    """Serves an Answerer to every process that connects to a Unix socket.

    Only the user who runs this process may connect (file mode 0600).
    """

    def __init__(self, path: Path, answerer: Answerer, progress: Progress | None = None) -> None:
        self._answerer = answerer
        self._progress = progress
        self._path = path
        self._places = threading.Semaphore(MOST_HOSTS)
        self._socket = bound_socket(path)
        self._identity = _identity(path)
        self._closing = False  # not an Event: `close` may run in a signal handler, within a method of the same Event

    def run(self) -> None:
        """Accept connections until `close` is called."""
        while not self._closing:
            if not self._places.acquire(timeout=_LOOK):
                continue
            try:
                host, _ = self._socket.accept()
            except OSError:  # `close` was called, the host has gone again, or this process has too many files open
                self._places.release()
                time.sleep(0 if self._closing else _LOOK)
                continue
            threading.Thread(target=self._serve, args=(host,), name="ecellm-lite host", daemon=True).start()

    def close(self) -> None:
        """Accept no more connections, and remove the socket's file, unless another server has replaced this file."""
        self._closing = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._identity and _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        self._identity = None

    def _serve(self, host: socket.socket) -> None:
        try:
            with host:
                output = Output(host.sendall, host.fileno())
                Session(self._answerer, output, self._progress).run(read_lines(_reader(host)))
                output.close()
        finally:
            self._places.release()


def _reader(host: socket.socket) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        try:
            return host.recv(size)
        except OSError:  # the host is gone
            return b""

    return read


def bound_socket(path: Path) -> socket.socket:
    """Return a Unix socket that listens at `path` and accepts only this user. Raises InputError if that fails."""
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("This system has no Unix sockets", step="use standard input and output")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        umask = os.umask(0o177)
        try:
            server.bind(os.fspath(path))
        finally:
            os.umask(umask)
        server.listen(MOST_HOSTS)
    except OSError as error:
        server.close()
        reason = error.strerror or error
        raise InputError(f"The socket {path} cannot be created ({reason})", step="use another path") from None
    except BaseException:
        server.close()
        raise
    return server


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode numbers of a file, or None if there is no file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: Path) -> None:
    """Remove the file of a socket that no process listens on.

    Raises InputError if a process listens, or if the file is not a socket.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise InputError(f"{path} is a file, not a socket", step="use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise InputError(f"Another process serves {path}", step="use another path, or end that process")
