"""Runs the prompt kernels' trial in a separate process, so that a broken library cannot crash the program.

The arguments are the library's path and the variant's name. The output says why the kernels cannot be used. If they can
be used, there is no output.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.prompt import library, trial


def main() -> None:
    """Register the kernels and check their results. If they cannot be used, print the reason."""
    place, variant = Path(sys.argv[1]), sys.argv[2]
    try:
        native = library.library(place)
        library.register(native, place)
        trial.check(native, variant)
    except EcellmError as error:
        sys.stdout.write(error.message)


main()
