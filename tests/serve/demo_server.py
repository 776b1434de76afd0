"""Runs `ecellm-lite serve` with the demo model in a separate process, as a user does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serve.serving import PATIENCE


@contextmanager
def demo_server(*options: str) -> Iterator[tuple[str, int]]:
    """Yield the server's address and process id. At the end, check that the server exits with code 0."""
    program = "from ecellm_lite.cli.entry import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--model", "demo", *options]
    environment = {**os.environ, "ECELLM_API_KEY": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stderr)))
        log = threading.Thread(target=server.stderr.read)  # a full pipe would stop the server
        log.start()
        try:
            yield address[0], server.pid
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
            log.join(PATIENCE)
