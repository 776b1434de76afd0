"""A local simulation of the Hugging Face hub, with one repository and simulated network faults."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A server that simulates the hub with one `repository` that has `files`. It is a context manager.

    `endpoint`: the server's address.
    `breaks`: for some files, the number of bytes after which the connection breaks. Only the first `times` downloads of
      the file break.
    `lies`: for some files, a false size that the hub reports.
    `hashes`: for some files, the SHA-256 that the hub reports, which may also be false.
    `meanwhile`: a function that is called with a file's name before the file is sent.
    `stall`: a file and a number of bytes. A download of the file stops after these bytes, and the event `stalled` is
      set. The download continues when `stall` is changed.
    `piece` and `pause`: the server sends `piece` bytes, then waits for `pause` seconds, and so on.
    """

    def __init__(
        self, repository: str, files: Mapping[str, bytes], *, breaks: Mapping[str, int] | None = None, times: int = 1
    ) -> None:
        self.repository, self.files = repository, dict(files)
        self.breaks = {name: [after, times] for name, after in (breaks or {}).items()}
        self.lies: dict[str, int] = {}
        self.hashes: dict[str, str] = {}
        self.stall: tuple[str, int] | None = None
        self.stalled = threading.Event()
        self.piece, self.pause = 1 << 30, 0.0
        self.meanwhile: Callable[[str], None] = lambda _: None
        self.sent: list[tuple[str, str | None]] = []  # files and the ranges that were asked for
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def size(self, name: str) -> int:
        return self.lies.get(name, len(self.files[name]))

    def stored_apart(self, name: str) -> dict[str, Any]:
        """Return what the hub reports about a large file (Git LFS). This includes the file's SHA-256."""
        if name not in self.hashes:
            self.hashes[name] = hashlib.sha256(self.files[name]).hexdigest()
        return {"sha256": self.hashes[name], "size": self.size(name), "pointerSize": 134}


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Ignore the errors that clients cause by closing the connection."""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            api = f"/api/models/{hub.repository}"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                siblings = [
                    {"rfilename": name, "size": hub.size(name), "blobId": "0" * 40}
                    | ({"lfs": hub.stored_apart(name)} if name.endswith(".safetensors") else {})
                    for name in hub.files
                ]
                self._json({"id": hub.repository, "sha": COMMIT, "siblings": siblings}, body)
            elif path.startswith(f"{api}/tree/"):
                self._json(
                    [
                        {"type": "file", "path": name, "size": hub.size(name), "oid": _oid(data)}
                        for name, data in hub.files.items()
                    ],
                    body,
                )
            elif path.startswith(f"/{hub.repository}/resolve/"):
                self._file(path.split("/", 5)[5], body)
            else:
                self._json({"error": "Repository not found"}, body, 404, {"X-Error-Code": "RepoNotFound"})

        def _file(self, name: str, body: bool) -> None:
            if name not in hub.files:
                self._json({"error": "Entry not found"}, body, 404, {"X-Error-Code": "EntryNotFound"})
                return
            data, span = hub.files[name], self.headers.get("Range")
            first, last = _range(span, len(data))
            if body:
                hub.sent.append((name, span))
            self.send_response(206 if span else 200)
            etag = hub.stored_apart(name)["sha256"] if name.endswith(".safetensors") else _oid(data)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            if span:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            if not body:
                return
            hub.meanwhile(name)
            fault = hub.breaks.get(name)
            if fault and fault[1] and last + 1 == len(data):
                fault[1] -= 1
                self.wfile.write(data[first : first + fault[0]])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            stall = hub.stall
            if stall and stall[0] == name and last + 1 == len(data):
                self.wfile.write(data[first : max(first, stall[1])])
                hub.stalled.set()
                while hub.stall is stall:
                    time.sleep(0.01)
                self.close_connection = True
                return
            for start in range(first, last + 1, hub.piece):
                self.wfile.write(data[start : min(start + hub.piece, last + 1)])
                time.sleep(hub.pause)

        def _json(self, value: Any, body: bool, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for key, text in (headers or {}).items():
                self.send_header(key, text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    return Handler


def _range(span: str | None, size: int) -> tuple[int, int]:
    """Return the positions of the first and the last byte that a Range header requests."""
    first, _, last = (span or "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) if last else size - 1


def _oid(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
