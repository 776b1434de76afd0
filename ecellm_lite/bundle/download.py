"""Downloads files over HTTPS, and continues a download that was interrupted.

A file's size and sha256 are known in advance. The received bytes are used only if their sha256 is right, so the server
need not be trusted. Plain HTTP is allowed only for an address of this machine.
"""

from __future__ import annotations

import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import sha256_of

TRIES = 5  # without any progress
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 0.5  # seconds before the second try, twice as long before each next one

_BLOCK = 1 << 18
_FAULTS = (OSError, http.client.HTTPException)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only if `check_address` accepts the new address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_NoDowngrade)


def check_address(address: str) -> None:
    """Raise UsageError for an address that is not HTTPS.

    Plain HTTP is accepted for an address of this machine.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:  # a bracket that is not closed, for example
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise UsageError(f"{address[:200]!r} is not the address of a web server", step="give https://…/index.json")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(f"{address[:200]} is not encrypted", step="use https")


def fetch_small(address: str, largest: int) -> bytes:
    """Return the bytes at an address. Raises ModelError if they exceed `largest` bytes, or if the server fails."""

    def read() -> bytes:
        with _open(address, {}) as answer:
            data: bytes = answer.read(largest + 1)
            if len(data) > largest:
                raise ModelError(f"{address} has more than {largest:,} bytes", step="check the address")
            missing = getattr(answer, "length", 0)
            if missing:
                raise http.client.IncompleteRead(data, missing)
            return data

    data: bytes = _repeated(address, lambda: 0, read)
    return data


def fetch(address: str, target: Path, size: int, sha256: str, advance: Callable[[int], None] | None = None) -> None:
    """Fetch a file of a known size and sha256 to `target`. If `target` exists, fetch only the bytes that it lacks.

    `advance` is called with the number of new bytes. After a network error, the bytes in `target` are kept for the next
    call. Raises ModelError if the server fails, or if the sha256 is wrong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    present = _size(target)
    if present > size:
        target.unlink()
        present = 0
    for attempt in (1, 2):
        _repeated(address, lambda: _size(target), lambda: _resume(address, target, size, advance))
        if _size(target) == size and sha256_of(target) == sha256:
            return
        target.unlink(missing_ok=True)
        if not present or attempt == 2:  # the beginning may have been of another file
            break
    raise ModelError(
        f"The file at {address} is not the one that the feed's index names",
        step="ask whoever runs the feed to push it again",
    )


def _resume(address: str, target: Path, size: int, advance: Callable[[int], None] | None) -> None:
    """Append the missing bytes to `target`. If the server can only send the whole file, write all of it again."""
    done = _size(target)
    if done == size and size:
        return
    with _open(address, {"Range": f"bytes={done}-"} if done else {}) as answer:
        goes_on = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {done}-")
        if not goes_on:
            done = 0
        with target.open("ab" if goes_on else "wb") as file:
            while block := answer.read(min(_BLOCK, size - done + 1)):
                done += len(block)
                if done > size:
                    break  # the sha256 will be wrong
                with _naming(target):
                    file.write(block)
                    file.flush()
                if advance:
                    advance(len(block))
    if done < size:
        raise http.client.IncompleteRead(b"", size - done)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's path to an OSError that a write raises.

    Network errors have no path. So `_repeated` can tell a failed write from a network error.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _open(address: str, headers: dict[str, str]) -> Any:
    check_address(address)
    # Compressed, the bytes would not be those of the file.
    request = urllib.request.Request(address, headers={"Accept-Encoding": "identity", **headers})  # noqa: S310 - checked
    return _OPENER.open(request, timeout=TIMEOUT)


def _repeated(address: str, progress: Callable[[], int], step: Callable[[], Any]) -> Any:
    """Call `step` and return its result. Call it again after a network error or a temporary error of the server.

    `progress` returns the number of bytes received so far. Raises ModelError after TRIES failures in a row without new
    bytes, or after an error of the server that is not temporary.
    """
    fruitless, before = 0, progress()
    while True:
        try:
            return step()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in {408, 416, 429}:
                message = f"The server has no {address} ({error.code} {error.reason})"
                raise ModelError(message, step="check the address") from None
            fault: Exception = error
        except _FAULTS as error:
            if isinstance(error, OSError) and (error.filename or error.errno in _DISK):
                raise
            fault = error
        now = progress()
        fruitless, before = (fruitless + 1, now) if now <= before else (1, now)
        if fruitless >= TRIES:
            reason = " ".join(str(getattr(fault, "reason", fault)).split())[:200] or type(fault).__name__
            raise ModelError(
                f"{address} could not be fetched ({reason})", step="check the connection, then pull again to continue"
            ) from None
        time.sleep(PAUSE * 2 ** (fruitless - 1))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
