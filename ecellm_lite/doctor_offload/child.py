"""Runs a process that may crash, hang or be killed, and tells how the process ended."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from ecellm_lite.exit_codes import ending

# The most that is kept of standard output (bytes), and of the end of standard error (bytes, lines, characters per
# line). The lines include the stack traces of faulthandler, of Python and (from 3.14 on) of C.
_OUTPUT = 1 << 16
_TAIL = 1 << 15
_LINES = 80
_LINE = 300

# A process is stopped when it has written this many bytes to either stream, as it would otherwise fill the disk.
_MOST = 1 << 26

# Seconds between two checks of how much it has written.
_LOOK = 0.1

# Seconds to wait for a killed process to end; one that hangs inside a driver may never end.
_GRACE = 10.0


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a process ended: its standard output, the last lines of its standard error, and what went wrong.

    `trouble` completes a sentence that begins with "the process"; it is empty after exit code 0.
    """

    output: str
    last_lines: tuple[str, ...]
    trouble: str


def watch(command: Sequence[str], seconds: float) -> ProcessResult:
    """Run a command and return its result; kill it after `seconds`, or if it writes far too much.

    A failure is part of the result, never an exception.
    """
    # Files, not pipes: a process that cannot be killed keeps a pipe open, and one that never stops writing fills the
    # reader's memory.
    try:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            return _watched(command, seconds, output, errors)
    except OSError as error:
        return ProcessResult("", (), f"could not be started ({error.strerror or error})")


def _watched(command: Sequence[str], seconds: float, output: IO[bytes], errors: IO[bytes]) -> ProcessResult:
    # Otherwise Python would look for our modules in the current folder first, where anybody may have put files.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(  # noqa: S603 - this package's own module
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment
    )
    try:
        trouble = _wait(process, seconds, (output, errors))
    finally:
        if process.returncode is None:
            process.kill()
    output.seek(0)
    return ProcessResult(output.read(_OUTPUT).decode("utf-8", "replace"), _last_lines(errors), trouble)


def _wait(process: subprocess.Popen[bytes], seconds: float, files: Sequence[IO[bytes]]) -> str:
    """Wait for a process that writes to these files, or kill it; return the `trouble` of its ProcessResult."""
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0:
        try:
            return ending(process.wait(min(remaining, _LOOK)))
        except subprocess.TimeoutExpired:
            if any(os.fstat(file.fileno()).st_size > _MOST for file in files):
                failure = f"wrote more than {_MOST >> 20} MiB"
                break
    else:
        failure = f"did not end within {seconds:g} s"
    was_killed = _kill(process)
    return f"{failure} and " + (
        "was stopped" if was_killed else "cannot be killed: it hangs inside a driver, and only a restart ends it"
    )


def _kill(process: subprocess.Popen[bytes]) -> bool:
    process.kill()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_lines(errors: IO[bytes]) -> tuple[str, ...]:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - _TAIL, 0))
    lines = errors.read().decode("utf-8", "replace").splitlines()
    return tuple(line[:_LINE] for line in lines if line.strip())[-_LINES:]
