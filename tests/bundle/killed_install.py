"""A program that installs a bundle, and kills itself at its N-th file operation.

Its arguments are FILE PUBLIC-KEY BASE N. If N is 0, it installs everything and prints the number of file operations.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.keys import read_public_key

EVENTS = ("open", "os.", "shutil.", "subprocess.", "fcntl.")


def main() -> None:
    path, key, base = (Path(argument) for argument in sys.argv[1:4])
    last, count = int(sys.argv[4]), 0

    def watch(event: str, _: Any) -> None:
        nonlocal count
        if event.startswith(EVENTS):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    trusted = [read_public_key(key)]
    sys.addaudithook(watch)
    install(path, trusted, base=base)
    os.write(1, str(count).encode())
    os._exit(0)  # what Python does at its end is no part of it


if __name__ == "__main__":
    main()
