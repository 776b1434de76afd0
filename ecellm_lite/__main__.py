"""Makes `python -m ecellm_lite` the same as the command `ecellm-lite`."""

from __future__ import annotations

from ecellm_lite.cli.entry import main

if __name__ == "__main__":
    main()
