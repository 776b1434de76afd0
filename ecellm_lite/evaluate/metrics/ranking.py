"""NDCG, the metric of rankings (QPR): it is 1 if the most relevant products come first.

As in the authors' script:

    NDCG = DCG of the answer's order / DCG of the ideal order
    DCG = sum over the places i = 1, 2, … of (2^gain - 1) / log2(i + 1)

A product's gain depends on its label in the row: E exact, S substitute, C complement, I irrelevant. Without labels, the
gain depends on the product's place in the gold answer. A product that is missing in the answer gains nothing. A product
that the answer names twice counts once.

NDCG is computed in two ways. In the metrics `all`, the ideal order contains all products. In the metrics `paper` (as
the authors compute them), it contains only the products that the answer names.

As in the authors' script, a row counts 0 if it has no answer, or if all its products are irrelevant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ecellm_lite.answers.ranking import GAINS
from ecellm_lite.evaluate.metrics.measured import Measured, Numbers, Pair, mean

# By gold rank, best first, for a row without labels (further ranks gain 0).
_BY_RANK = (1.0, 0.1, 0.01)


def measure_rankings(pairs: Sequence[Pair]) -> Measured:
    """Measure rankings.

    The result's `columns` has three numbers for each row: its NDCG, 1 (to count the rows), and its NDCG by the paper's
    formula.
    """
    gains = [_gains(pair) for pair in pairs]
    orders = [_order(pair.text, letter_gains) for pair, letter_gains in zip(pairs, gains, strict=True)]
    scores, paper = [], []
    for letter_gains, order in zip(gains, orders, strict=True):
        order_gains = [letter_gains[letter] for letter in order]
        scores.append(_share(order_gains, list(letter_gains.values())))
        paper.append(_share(order_gains, order_gains))
    return Measured(
        columns=np.array([scores, np.ones(len(pairs)), paper], dtype=np.float64).T,
        primary="ndcg",
        paper={"ndcg": _paper},
        all={"ndcg": mean},
        scores=scores,
        answered=[bool(order) for order in orders],
        notes=_notes(pairs, gains),
    )


def _paper(sums: Numbers) -> Numbers:
    return mean(sums[..., [2, 1]])


def _gains(pair: Pair) -> dict[str, float]:
    letters = pair.gold.split(",")
    if pair.labels is not None:
        return {letter: GAINS[label] for letter, label in zip(sorted(letters), pair.labels, strict=True)}
    return {letter: _BY_RANK[place] if place < len(_BY_RANK) else 0.0 for place, letter in enumerate(letters)}


def _order(text: str | None, letter_gains: Mapping[str, float]) -> list[str]:
    """Return the products' letters in an answer: `B, A, B, x` becomes `B` and `A`.

    Repeated letters are dropped, and so is any text that is not a key of `letter_gains`.
    """
    letters = [part.strip() for part in (text or "").split(",")]
    return list(dict.fromkeys(letter for letter in letters if letter in letter_gains))


def _share(order_gains: Sequence[float], ideal: Sequence[float]) -> float:
    best = _dcg(sorted(ideal, reverse=True))
    return _dcg(order_gains) / best if best else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return float(sum((2**gain - 1) / np.log2(place + 1) for place, gain in enumerate(gains, start=1)))


def _notes(pairs: Sequence[Pair], gains: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    notes = []
    unlabelled = sum(pair.labels is None for pair in pairs)
    if unlabelled:
        notes.append(
            f"{unlabelled:,} of {len(pairs):,} rows have no labels E, S, C, I: their gains are 1, 0.1, 0.01 and 0 by "
            "gold rank, so that NDCG is not the paper's."
        )
    irrelevant = sum(not any(letter_gains.values()) for letter_gains in gains)
    if irrelevant:
        notes.append(f"{irrelevant:,} rows have only irrelevant products and count 0, whatever the answer.")
    return tuple(notes)
