"""How often a test repeats random trials: a few in every run, more for `make fuzz`."""

from __future__ import annotations

import os

_CALLS = int(os.environ.get("ECELLM_FUZZ_CALLS", "0"))


def times(usual: int, most: int) -> int:
    """Return `usual`, or ECELLM_FUZZ_CALLS if set, up to `most`."""
    return min(most, max(usual, _CALLS))
