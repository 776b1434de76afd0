"""A feed on a local web server, which supports range requests and can simulate faults.

A feed is a folder of signed models, from which other machines copy models into their stores.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ecellm_lite.bundle.feed import push
from ecellm_lite.bundle.feed_pull import Pulled, pull_feed
from ecellm_lite.bundle.keys import SecretKey
from ecellm_lite.models.store import Store
from tests.support.bundles import Shop
from tests.support.tiny_models import write_tiny_model


class FolderServer:
    """Serves the files in `folder`. It is a context manager. `address` is the address of the folder's index.

    `breaks`: how many responses are cut off after `after` bytes.
    `errors`: how many requests are answered with status 503.
    `ranges`: whether the server supports range requests.
    `redirect`: the address to which all requests are redirected.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.breaks, self.after, self.errors = 0, 1000, 0
        self.ranges = True
        self.redirect = ""
        self.sent: list[tuple[str, int]] = []  # paths and the first byte
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/index.json"

    def __enter__(self) -> FolderServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self) -> list[int]:
        """Return the place in the file at which each download began, for the downloads since the last call.

        The place is 0, or more if an interrupted download was continued.
        """
        sent = [first for path, first in self.sent if path.startswith("/files/")]
        self.sent.clear()
        return sent


@dataclass(frozen=True, slots=True)
class Chain:
    """A shop's feed, a web server for the feed, and the store of another machine."""

    shop: Shop
    folder: Path
    server: FolderServer
    till: Store

    @property
    def downloads(self) -> Path:
        return self.till.root / "models" / ".downloads" / f"{self.shop.key.public.name}-{self.folder.name}"

    def push(self, serial: int, *, seed: int | None = None, name: str = "tiny:F32") -> None:
        if seed is not None:
            if self.shop.store.has(name):
                self.shop.store.remove(name)
            path = write_tiny_model(self.shop.folder / "again.gguf", seed=seed)
            self.shop.store.add(path, name, "alpaca")
        push(self.shop.store.load(name), self.shop.store, self.folder, self.shop.key, serial=serial)

    def pull(self, *keys: SecretKey) -> Pulled:
        return pull_feed(self.server.address, [key.public for key in keys or (self.shop.key,)], self.till)

    def sha256(self) -> str:
        return self.till.load("tiny:F32").manifest.sha256


def _handler(server: FolderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = server.folder / self.path.lstrip("/")
            span = self.headers.get("Range") if server.ranges else None
            first = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
            server.sent.append((self.path, first))
            if server.redirect:
                self._say(302, {"Location": server.redirect})
            elif server.errors:
                server.errors -= 1
                self._say(503, {})
            elif not path.is_file():
                self._say(404, {})
            else:
                self._send(path.read_bytes(), first, bool(span))

        def _send(self, data: bytes, first: int, part: bool) -> None:
            self.send_response(206 if part else 200)
            if part:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            if server.breaks and self.path.startswith("/files/"):
                server.breaks -= 1
                self.wfile.write(data[first : first + server.after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data[first:])

        def _say(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler
