"""llama.cpp's own server, with eight clients that ask at the same time.

The number of slots, their context and the number of threads are set. All other settings, such as flash attention and
the prompt cache, have their defaults.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.peers.peer import Pass, PreparedRow

SLOTS = 8
SLOT_CONTEXT = 2048  # tokens per slot
MAX_TOKENS = 100
PATIENCE = 600  # seconds, to load a model or to answer a row


class LlamaServer:
    """A peer that answers with a llama-server on a free port of this machine."""

    def __init__(self, program: Path, model: Path, threads: int, *, slots: int = SLOTS) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [
            str(program), "-m", str(model), "-np", str(slots), "-c", str(slots * SLOT_CONTEXT), "-t", str(threads),
            "-tb", str(threads), "--host", "127.0.0.1", "--port", str(self.port),
        ]  # fmt: skip
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(self.command, stdout=self._log, stderr=subprocess.STDOUT)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def run(self, task: str, rows: Sequence[PreparedRow]) -> Pass:
        """Answer the rows with eight clients at the same time, and return the measurements."""
        waiting: queue.SimpleQueue[PreparedRow] = queue.SimpleQueue()
        for one in rows:
            waiting.put(one)
        written: list[int] = []  # tokens of each answered row
        clients = [threading.Thread(target=self._client, args=(waiting, written)) for _ in range(SLOTS)]
        started = time.perf_counter()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return Pass(time.perf_counter() - started, len(rows) - len(written), sum(written))

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def cpu_seconds(self) -> float | None:
        """Return the processor time of the server's process on Linux, otherwise None.

        The processor time of the clients is not included, because it is short.
        """
        try:
            # proc(5): after the name in parentheses, utime and stime are the 12th and 13th fields, in ticks.
            fields = Path(f"/proc/{self._process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _client(self, waiting: queue.SimpleQueue[PreparedRow], written: list[int]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while True:
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                break
            body: dict[str, Any] = {
                "prompt": one.prompt, "n_predict": MAX_TOKENS, "temperature": 0.0, "cache_prompt": True
            }  # fmt: skip
            if one.grammar:
                body["grammar"] = one.grammar
            try:
                connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
                response = connection.getresponse()
                completion = json.loads(response.read())
                if response.status == 200:
                    written.append(int(completion["tokens_predicted"]))
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                connection.close()  # the next request reopens it
        connection.close()

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                self._log.seek(0)
                message = self._log.read()[-1000:].decode("utf-8", "replace")
                raise click.ClickException(f"{self.command[0]} ended at once: {message}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass  # it is not listening yet
            finally:
                connection.close()
            time.sleep(0.1)
        raise click.ClickException(f"{self.command[0]} was not ready in {PATIENCE} s.")
