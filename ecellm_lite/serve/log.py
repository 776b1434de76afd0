"""The server's log: standard error."""

from __future__ import annotations

import sys
from contextlib import suppress


def log(text: str) -> None:
    """Print a text to the log. If the log cannot be written, for example on a full disk, the text is lost."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the log is standard error
