"""Bytes of a file at a place: all that were asked for, or a sentence."""

from __future__ import annotations

import os
from pathlib import Path

from ecellm_lite.errors import ModelError


def read_fully(descriptor: int, path: Path, buffer: memoryview, offset: int) -> None:
    """Fill a buffer from an open file, from `offset` on; raises ModelError where it ends before, or cannot be read."""
    done = 0
    while done < len(buffer):
        try:
            read = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror}): check the disk.") from None
        if not read:
            raise ModelError(f"{path} has become shorter while it was read: get it again.")
        done += read
