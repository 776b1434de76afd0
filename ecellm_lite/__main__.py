"""`python -m ecellm_lite` is the command `ecellm-lite`."""

from __future__ import annotations

from ecellm_lite.cli.entry import main

if __name__ == "__main__":
    main()
