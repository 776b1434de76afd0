"""Finds files so old that no running server can still be writing them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

OLD = 3600  # seconds; every upload, table and record takes less


def leftovers(folder: Path, *patterns: str) -> Iterator[Path]:
    """Yield the paths in a folder that match a pattern and were last written more than an hour ago."""
    oldest = time.time() - OLD
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.stat().st_mtime < oldest:
                yield path
