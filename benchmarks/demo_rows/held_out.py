"""Splits labelled rows into rows that the demo's adapter learns from and held-out rows."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ecellm_lite.training.rows import Row, read_rows, split_rows

SEED = 7  # the seed of the demo's training, which draws the held-out rows


def divided(folder: Path) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Split a folder's rows into rows to learn and held-out rows, by task. Every call gives the same split.

    For the folder DATA, `ecellm-lite train lessons` makes the same split if it reads DATA alone with the seed SEED.
    """
    return split_rows(read_rows(folder), Random(SEED))
