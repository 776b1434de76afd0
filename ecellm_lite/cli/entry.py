"""The first step of the command `ecellm-lite`, taken before anything else is imported.

Importing takes longer than a hand on Ctrl-C: an interruption meanwhile ends the process at once, with one sentence. A
standard stream that was closed is taken up with nothing behind it, for the next file that is opened would get its
number, and what llama.cpp prints would be written into that file. `sys.stdin`, `sys.stdout` or `sys.stderr` stays None
then, which is how the commands know.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # importing it would take longer than all else here
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Where interruptions are ignored, as under nohup, they stay so.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, _leave)
    occupy_closed_streams()
    from ecellm_lite.cli.main import main as run

    try:
        if interruptible:
            signal.signal(signal.SIGINT, _interrupt)
        run()
    except KeyboardInterrupt:
        _leave()
    finally:
        if interruptible:
            signal.signal(signal.SIGINT, _leave)


def occupy_closed_streams() -> None:
    """Open nothing in the place of each standard stream that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Let the command end in its own way, unless it is interrupted a second time.

    An exception amid an import would be swallowed, or leave half a module: there the process ends at once.
    """
    signal.signal(signal.SIGINT, _leave)
    if (ggml := sys.modules.get("ecellm_lite.ggml")) and ggml.is_logging(frame):
        return
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def _leave(*_: object) -> NoReturn:
    """End the process as interrupted; what is written by then is whole, or can be gone on with, as after a kill."""
    try:
        os.write(2, b"ecellm-lite: Interrupted.\n")
    finally:
        os._exit(INTERRUPTED)
