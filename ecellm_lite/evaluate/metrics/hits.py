"""HR@1, the metric of sequential recommendation (SR): the share of rows whose answer is the right letter."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ecellm_lite.evaluate.metrics.measured import Measured, Numbers, Pair, mean, ratio

_LETTER = re.compile(r"[A-Z]")


def measure_hits(pairs: Sequence[Pair]) -> Measured:
    """Measure answers that are single letters.

    The result's `columns` has three numbers for each row: whether its answer is right, 1 (to count the rows), and
    whether its answer is a letter.
    """
    answers = [(pair.text or "").strip() for pair in pairs]
    answered = [_LETTER.fullmatch(answer) is not None for answer in answers]
    scores = [float(answer == pair.gold.strip()) for answer, pair in zip(answers, pairs, strict=True)]
    return Measured(
        columns=np.array([scores, np.ones(len(pairs)), answered], dtype=np.float64).T,
        primary="hr_at_1",
        paper={"hr_at_1": _of_answers},
        all={"hr_at_1": mean},
        scores=scores,
        answered=answered,
    )


def _of_answers(sums: Numbers) -> Numbers:
    return ratio(sums[..., 0], sums[..., 2])
