"""Reserves standard input and output for the protocol, so that no other code can read from or write to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ecellm_lite.errors import InputError


def take_standard_streams() -> tuple[Callable[[int], bytes], Callable[[bytes], None], int]:
    """Return functions that read from the original standard input and write to the original standard output.

    The third part of the result is the file descriptor of the original standard output.

    After this call, text printed to standard output goes to standard error, even if native code prints it. Standard
    input is empty. Child processes do not inherit the original streams. Raises InputError if standard input or output
    is closed.
    """
    # If a stream was closed when Python started, another file may have its descriptor by now.
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if stream is None:
            raise _closed(name)
    source, target = _moved(0, "input"), _moved(1, "output")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    os.close(nowhere)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]

    return lambda size: os.read(source, size), write, target


def _moved(descriptor: int, name: str) -> int:
    try:
        copy = os.dup(descriptor)  # child processes do not inherit it
    except OSError:
        raise _closed(name) from None
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(copy, os.O_BINARY)
    return copy


def _closed(name: str) -> InputError:
    return InputError(f"Standard {name} is closed", step="connect it to a pipe when you start the command")
