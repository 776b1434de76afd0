"""Reads the code blocks of a documentation page, and runs them in order as a reader would.

A comment on the line above a block changes how the block is run:

    <!-- not run: REASON -->      the block is not run
    <!-- needs: NAME, NAME -->    the block is not run if one of these packages or programs is not installed
    <!-- runs until stopped -->   a server, which runs until the next server starts or the page ends
"""

from __future__ import annotations

import http.client
import importlib.util
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

PORT = 8765  # of `ecellm-lite serve`, if it is told no other
PATIENCE = 120  # seconds, for a server to load its model and to stop

_BLOCK = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+)|needs: (?P<needs>[^\n]+)|(?P<server>runs until stopped)) -->\n)?"
    r"```(?P<language>sh|python)\n(?P<code>.*?)^```",
    re.S | re.M,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block in `language` (sh or python). `reason` says why the block is not run, or is None."""

    language: str
    code: str
    reason: str | None = None
    needs: Sequence[str] = ()
    server: bool = False

    @property
    def missing(self) -> Sequence[str]:
        """Return the names of the packages and programs that the block needs, but that are not installed."""
        return [name for name in self.needs if not (_is_package(name) or shutil.which(name))]


def _is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return bool(spec and spec.origin)  # a folder of the name, Ray's own in /tmp say, has no origin


def blocks_of(page: str) -> Sequence[Block]:
    return [
        Block(
            language=block["language"],
            code=block["code"],
            reason=block["reason"],
            needs=re.findall(r"[^, ]+", block["needs"] or ""),
            server=bool(block["server"]),
        )
        for block in _BLOCK.finditer(page)
    ]


def run_blocks(blocks: Sequence[Block], folder: Path, environment: Mapping[str, str]) -> None:
    """Run code blocks in `folder`. Each must end with exit code 0."""
    with ExitStack() as running:
        for block in blocks:
            if block.server:
                running.close()
                running.enter_context(_serving(block, folder, environment))
                continue
            command = [sys.executable, "-c", block.code]
            if block.language == "sh":
                command = ["bash", "-euo", "pipefail", "-c", block.code]
            ended = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, f"{block.code}\n{ended.stdout}\n{ended.stderr}"


@contextmanager
def _serving(block: Block, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Start the server that the block's only command runs, and wait until it answers. Stop it at the end with SIGTERM.

    Only one test process on a machine may do this at a time, because the port is always the same.
    """
    log = folder / "server.log"
    with FileLock(Path(tempfile.gettempdir()) / f"ecellm-lite-{PORT}.lock"), log.open("wb") as output:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                pytest.skip(f"another program listens at port {PORT}")
        command = shlex.split(block.code, comments=True)
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _ready():
                assert server.poll() is None, log.read_text("utf-8")
                assert time.monotonic() < deadline, log.read_text("utf-8")
                time.sleep(0.1)
            yield
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0, log.read_text("utf-8")
            assert not re.search(r'"route": "/v1.*"status": [45]', log.read_text("utf-8")), log.read_text("utf-8")
        finally:
            server.kill()
            server.wait()


def _ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
