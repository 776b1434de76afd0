"""How often a test tries what comes by chance: a little in every run, and more where `make fuzz` asks for it."""

from __future__ import annotations

import os

_CALLS = int(os.environ.get("ECELLM_FUZZ_CALLS", "0"))


def times(usual: int, most: int) -> int:
    """Return `usual`, or what ECELLM_FUZZ_CALLS asks for, up to `most`."""
    return min(most, max(usual, _CALLS))
