"""Measures how well probabilities fit reality: of the answers with probability 0.8, four in five should be right.

evaluate.cases decides which answers are right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.evaluate.results import Reliability, ReliabilityBin, RiskPoint

BINS = 10
POINTS = 50


def reliability(probabilities: Sequence[float], right: Sequence[bool]) -> Reliability | None:
    """Compare the probabilities of answers with how often the answers are right, in 10 bins of equal width.

    Returns None if there are no probabilities. `ECE` is the expected calibration error (Naeini et al., 2015): the mean
    gap of the bins, weighted by their numbers of answers. A bin's gap is the difference between its share of right
    answers and its mean probability. `Brier` is the mean of (probability - 1)^2 for right answers and probability^2 for
    wrong ones.
    """
    if not probabilities:
        return None
    claimed: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)
    hits = np.asarray(right, dtype=np.float64)
    places = np.minimum((claimed * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    whole = np.maximum(counts, 1)
    means = np.bincount(places, claimed, BINS) / whole
    shares = np.bincount(places, hits, BINS) / whole
    return Reliability(
        bins=[
            ReliabilityBin(place / BINS, (place + 1) / BINS, int(count), float(mean), float(share))
            for place, (count, mean, share) in enumerate(zip(counts, means, shares, strict=True))
        ],
        ece=float((counts * np.abs(shares - means)).sum() / len(claimed)),
        brier=float(np.mean((claimed - hits) ** 2)),
        count=len(claimed),
    )


def risk(probabilities: Sequence[float], right: Sequence[bool], rows: int) -> list[RiskPoint] | None:
    """Return the share of rows that are answered, and the share of right answers among these, for several thresholds.

    The first threshold keeps only the most probable answers, the last one keeps all answers. Returns None if there are
    no probabilities.

    `rows`: the number of all rows.
    """
    if not probabilities:
        return None
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    sorted_probabilities = np.asarray(probabilities, dtype=np.float64)[order]
    hits = np.cumsum(np.asarray(right, dtype=np.float64)[order])
    # The last of each run of equal probabilities, because a threshold cannot separate them.
    ends = np.flatnonzero(np.append(np.diff(sorted_probabilities) != 0, True))
    chosen = np.unique(ends[np.linspace(0, len(ends) - 1, min(len(ends), POINTS)).round().astype(int)])
    return [
        RiskPoint(float(sorted_probabilities[end]), (int(end) + 1) / rows, float(hits[end] / (end + 1)))
        for end in chosen
    ]
