"""The entry point of the command `ecellm-lite`, which runs before anything else is imported.

If Ctrl-C is pressed while modules are imported, the process ends at once, with one sentence. A closed standard stream
is replaced by /dev/null. Otherwise the next opened file would get the stream's descriptor, and llama.cpp's output would
be written into that file. `sys.stdin`, `sys.stdout` or `sys.stderr` stays None, so that commands can recognize a closed
stream.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # importing it would take longer than everything else here
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130


def main() -> None:
    """Run the command line, and exit with its exit code."""
    # If interruptions are ignored, as under nohup, they stay ignored.
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
    """Open /dev/null in place of each standard stream that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is `number`


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: let the command clean up and end. A second Ctrl-C ends the process at once.

    If Ctrl-C is pressed during an import, the process ends at once too. Otherwise the import could ignore the
    KeyboardInterrupt, or leave a module half imported.
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
    """End the process at once with exit code 130.

    This is safe for files: each output file is complete, or a later run resumes it.
    """
    try:
        os.write(2, b"ecellm-lite: Interrupted.\n")
    finally:
        os._exit(INTERRUPTED)
