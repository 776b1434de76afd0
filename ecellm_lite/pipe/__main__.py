"""A child process that serves its parent.

It is started as `python -m ecellm_lite.pipe SETTINGS`, where SETTINGS is a JSON object.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from ecellm_lite.errors import EcellmError
from ecellm_lite.pipe.serve import load_runtime, serve_standard_streams


def main() -> int:
    """Serve until the parent closes standard input. Return the exit code."""
    settings = json.loads(sys.argv[1])
    try:
        serve_standard_streams(partial(load_runtime, **settings))
    except EcellmError as error:  # the error was sent to the parent
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
