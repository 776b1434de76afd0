"""A process that may crash, hang or be killed: it is waited for, and how it ended is said in words."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

# What is kept of standard output, and of the end of standard error: bytes, lines, characters of a line. The lines hold
# the stacks that faulthandler writes, of Python and (from 3.14 on) of C.
_OUTPUT = 1 << 16
_TAIL = 1 << 15
_LINES = 80
_LINE = 300

# Bytes that a process may write to either before it is stopped: one that never ends would fill the disk meanwhile.
_MOST = 1 << 26

# Seconds between two looks at how much it has written.
_LOOK = 0.1

# Seconds that a killed process gets to be gone: one that hangs inside a driver may never be.
_GRACE = 10.0

# By name, for Python knows on each system only that system's own.
_SIGNALS = {
    "SIGABRT": "llama.cpp or a driver gave up",
    "SIGBUS": "a crash in native code",
    "SIGFPE": "a crash in native code",
    "SIGILL": "an instruction that this processor does not have",
    "SIGKILL": "the system does that where memory runs out",
    "SIGSEGV": "a crash in native code",
}

# Windows has no signals: it tells of a crash by the exit code, an NTSTATUS of ntstatus.h.
_STATUSES = {
    0xC0000005: "an access violation, a crash in native code",
    0xC000001D: "an instruction that this processor does not have",
    0xC00000FD: "a stack overflow, a crash in native code",
    0xC0000409: "llama.cpp or a driver gave up",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its standard output, the last lines of its standard error, and what went wrong.

    `trouble` goes on after "the process", and is empty for one that left with exit code 0.
    """

    output: str
    last_lines: tuple[str, ...]
    trouble: str


def watch(command: Sequence[str], seconds: float) -> Ended:
    """Run a command until it ends, or kill it after so many seconds or much too much output.

    Whatever becomes of it, nothing is raised.
    """
    # Files and no pipes: a process that cannot be killed keeps a pipe open, and one that never stops writing fills
    # the reader's memory.
    try:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            return _watched(command, seconds, output, errors)
    except OSError as error:
        return Ended("", (), f"could not be started ({error.strerror or error})")


def _watched(command: Sequence[str], seconds: float, output: IO[bytes], errors: IO[bytes]) -> Ended:
    # Python would look for our modules in the current folder first, whoever put things there.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(  # noqa: S603 - this package's own module
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment
    )
    try:
        trouble = _ended(process, seconds, (output, errors))
    finally:
        if process.returncode is None:
            process.kill()
    output.seek(0)
    return Ended(output.read(_OUTPUT).decode("utf-8", "replace"), _last_lines(errors), trouble)


def _ended(process: subprocess.Popen[bytes], seconds: float, files: Sequence[IO[bytes]]) -> str:
    """Wait for a process that writes to these files, or kill it; returns what went wrong."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            return _trouble(process.wait(min(left, _LOOK)))
        except subprocess.TimeoutExpired:
            if any(os.fstat(file.fileno()).st_size > _MOST for file in files):
                did = f"wrote more than {_MOST >> 20} MiB"
                break
    else:
        did = f"did not end within {seconds:g} s"
    gone = _killed(process)
    return f"{did} and " + (
        "was stopped" if gone else "cannot be killed: it hangs inside a driver, and only a restart ends it"
    )


def _killed(process: subprocess.Popen[bytes]) -> bool:
    process.kill()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _trouble(code: int) -> str:
    """Return what an exit code of subprocess says: negative for a signal, an NTSTATUS where Windows stopped it."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        meaning = _SIGNALS.get(name)
        return f"was killed by {name}" + (f" ({meaning})" if meaning else "")
    if code in _STATUSES:
        return f"ended with exit code 0x{code:08X} ({_STATUSES[code]})"
    return f"ended with exit code {code}" if code else ""


def _last_lines(errors: IO[bytes]) -> tuple[str, ...]:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - _TAIL, 0))
    lines = errors.read().decode("utf-8", "replace").splitlines()
    return tuple(line[:_LINE] for line in lines if line.strip())[-_LINES:]
