"""A child process that speaks the pipe's protocol (docs/pipe.md).

The parent sends lines to the child. A thread in the parent reads the child's messages. This thread calls one
function of the parent for each message, and another one when the child has exited.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.messages import Control, control_line

Message = Mapping[str, Any]

PATIENCE = 5.0  # seconds to wait until a write to a dead process has ended


class Child:
    """A process started from a command.

    `received`: called with each message from the process. If it raises an error, the process is killed, and
      `misunderstood` has the start of the message.
    `ended`: called once, after the process has exited. Both functions are called in a separate thread.
    `errors`: the file to which the process writes its standard error; by default, the parent's standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        received: Callable[[Child, Message], None],
        ended: Callable[[Child], None],
        *,
        errors: IO[bytes] | None = None,
    ) -> None:
        # Only the parent handles an interrupt from the terminal.
        separate: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            separate = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._process = subprocess.Popen(  # noqa: S603 - the command comes from this package
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0, **separate
        )
        self.misunderstood = b""
        assert self._process.stdin
        assert self._process.stdout
        self._source = self._process.stdout.fileno()
        self._target = self._process.stdin.fileno()
        self._received, self._ended = received, ended
        self._output = Output(self._write)
        self._thread = threading.Thread(target=self._read, name="ecellm-lite child", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """The exit code of the process, negative if a signal ended it. Waits until the process has ended."""
        return self._process.wait()

    def send(self, line: bytes) -> None:
        """Send a line to the process. If the process has exited, the line is lost."""
        self._output.take_room(0)
        self._output.put(lambda: line, 0)

    def abort(self) -> None:
        """Send the process SIGABRT (SIGTERM on Windows).

        If the process runs with `-X faulthandler`, it prints a stack trace before it ends.
        """
        # Windows defines SIGABRT, but no process can be sent it.
        self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGABRT)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def end(self, *, gently: bool, seconds: float) -> None:
        """End the process, and wait until it has exited.

        If `gently` is true, the process first gets `seconds` seconds to exit by itself.
        """
        self.send(control_line(Control(0, "close")))
        if not gently or not self.wait(seconds):
            self.kill()
            self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` until the process has exited and the function `ended` has returned.

        Return True if both have happened in time. If this is called in the thread that calls `ended`, return False at
        once.
        """
        if threading.current_thread() is self._thread:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._target, view) :]

    def _read(self) -> None:
        line = b""
        try:
            for line in read_lines(lambda size: os.read(self._source, size)):
                message = json.loads(line)
                self._received(self, message)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self.misunderstood = line[:60]  # not a message of the protocol: the child cannot be trusted any more
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin
            assert self._process.stdout
            if self._output.close(PATIENCE):  # else the write could reach another file that got the descriptor
                self._process.stdin.close()
            self._process.stdout.close()
            self._ended(self)
