"""The number of random trials in a test: a few in ordinary runs, and more for `make fuzz`."""

from __future__ import annotations

import os

_CALLS = int(os.environ.get("ECELLM_FUZZ_CALLS", "0"))


def times(usual: int, most: int) -> int:
    """Return the number of trials: `usual`, or ECELLM_FUZZ_CALLS if that is larger, but at most `most`."""
    return min(most, max(usual, _CALLS))
