"""The entry point of the standalone program: the command `ecellm-lite` in one file, for machines without Python.

The command starts child processes that run modules of this package. Therefore the program also accepts `-m MODULE`, as
Python does.
"""

from __future__ import annotations

import faulthandler
import runpy
import sys

from ecellm_lite.cli.entry import main

OURS = "ecellm_lite."


def start() -> None:
    """If the arguments are `-m MODULE`, run that module of this package. Otherwise run the command `ecellm-lite`."""
    arguments = sys.argv[1:]
    # Python's options for a child process; the program finds its modules in its own folder in any case.
    while arguments[:1] in (["-X"], ["-P"]):
        if arguments[:2] == ["-X", "faulthandler"]:
            faulthandler.enable()
        del arguments[: 2 if arguments[0] == "-X" else 1]
    if arguments[:1] == ["-m"] and len(arguments) > 1 and arguments[1].startswith(OURS):
        sys.argv[1:] = arguments[2:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        main()


if __name__ == "__main__":
    start()
