"""The first script of the standalone program.

It is the command `ecellm-lite`. As there is no Python beside it, it also runs this package's modules as
`python -m MODULE` would: so the program starts its own child processes.
"""

from __future__ import annotations

import faulthandler
import runpy
import sys

from ecellm_lite.cli.entry import main

OURS = "ecellm_lite."


def start() -> None:
    """Run a module of this package if the arguments are those of Python for it, else the command line."""
    arguments = sys.argv[1:]
    if arguments[:2] == ["-X", "faulthandler"]:
        faulthandler.enable()
        arguments = arguments[2:]
    if arguments[:1] == ["-m"] and len(arguments) > 1 and arguments[1].startswith(OURS):
        sys.argv[1:] = arguments[2:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        main()


if __name__ == "__main__":
    start()
