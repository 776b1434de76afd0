"""Fits a rule that decides when the answer is "none of these". The rule is kept only if it works on held-out rows.

The right answer of each row must be known: one of the labels, or "none of these". The rule is a logistic regression
(see answers/none_of_these.py).

The rule is fitted to one half of the rows and tested on the other half, where it must make the right answers clearly
likelier. A temperature is tested in the same way (see evaluate/fitting.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.none_of_these import LARGEST_WEIGHT, LEAST, NoneRule, OrNone, log_odds
from ecellm_lite.evaluate.fitting import LEAST_RATIO, LEAST_ROWS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoneRow:
    """A labelled row with the model's probabilities.

    `none`: whether "none of these" is the right answer.
    `outside`: the model's probability of "none of these", before a rule corrects it.
    `label`: the probability of the likeliest label, if "none of these" is left out.
    """

    none: bool
    outside: float
    label: float


@dataclass(frozen=True, slots=True)
class Hits:
    """How well the answer "none of these" is recognized on held-out rows: its precision, recall and F1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class NoneFit:
    """A rule for the answer "none of these", and its effect on rows that it was not fitted to.

    `rows`: the number of rows.
    `unfitting`: the number of rows whose right answer is "none of these".
    `before`: the precision, recall and F1 of "none of these" without the rule.
    `after`: the precision, recall and F1 of "none of these" with the rule.
    `refusal`: why the rule should not be used. It is None if the rule should be used.
    """

    rule: NoneRule
    rows: int
    unfitting: int
    before: Hits
    after: Hits
    refusal: str | None


def none_row(space: OrNone, outcome: Outcome, gold: str) -> NoneRow:
    """Return what `fit_none` needs to know about a row: whether "none of these" is right, and two probabilities.

    `outcome`: the model's answer. Its probabilities of labels must be calibrated already.
    `gold`: the right answer, as text.
    """
    labels, outside = space.parted(outcome)
    return NoneRow(space.is_none(gold), outside, labels.probability or 0.0)


def fit_none(rows: Sequence[NoneRow], *, seed: int = 0) -> NoneFit | None:
    """Return the fitted rule, or None if there are too few rows. Needs scipy.

    There must be at least 10 rows whose right answer is a label, and at least 10 rows whose right answer is "none of
    these".
    """
    right = np.array([row.none for row in rows], dtype=bool)
    if min(right.sum(), (~right).sum()) < LEAST_ROWS:
        return None
    features = np.array([[1.0, log_odds(row.outside), -log_odds(row.label)] for row in rows])
    halves = np.zeros(len(rows), dtype=int)
    generator = np.random.default_rng(seed)
    for kind in (right, ~right):  # both kinds are in both halves
        halves[kind] = generator.permutation(int(kind.sum())) % 2
    unchanged = np.tile([0.0, 1.0, 0.0], (len(rows), 1))
    weights = np.stack([_fitted(features[halves != half], right[halves != half]) for half in (0, 1)])[halves]
    gains = _log_likelihoods(features, right, weights) - _log_likelihoods(features, right, unchanged)
    ratios = [float(gains[halves == half].sum()) for half in (0, 1)]
    gain, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(rows))
    refusal = None
    if gain <= error or float(np.logaddexp(ratios[0], ratios[1])) - math.log(2) < math.log(LEAST_RATIO):
        refusal = "it does not make the right answers of held-out rows clearly likelier"
    return NoneFit(
        rule=NoneRule(*_fitted(features, right).tolist()),
        rows=len(rows),
        unfitting=int(right.sum()),
        before=_hits(rows, [NoneRule()] * len(rows)),
        after=_hits(rows, [NoneRule(*line) for line in weights.tolist()]),
        refusal=refusal,
    )


def _fitted(features: Floats, right: NDArray[np.bool_]) -> Floats:
    """Return the weights of a rule (a logistic regression), fitted by maximum likelihood.

    The arguments are those of `_log_likelihoods`. The log-likelihood is concave, so any starting point leads to the
    same maximum.
    """
    from scipy.optimize import minimize

    def loss(weights: Floats) -> float:
        return -float(_log_likelihoods(features, right, weights).sum())

    bounds = [(-LARGEST_WEIGHT, LARGEST_WEIGHT)] * features.shape[1]
    found: Floats = minimize(loss, (0.0, 1.0, 0.0), bounds=bounds).x
    return found


def _log_likelihoods(features: Floats, right: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return, for each row, the logarithm of the probability that the logistic regression gives to the right answer.

    `features`: one line of numbers for each row. Each number is multiplied by its weight.
    `right`: whether "none of these" is the right answer of the row.
    `weights`: one set of weights for all rows, or one line of weights for each row.
    """
    logits = (features * weights).sum(axis=1)
    limit = -math.log(LEAST)  # no probability is nearer to 0 or 1, so a separable half cannot gain without end
    logs: Floats = -np.logaddexp(0.0, np.where(right, -1.0, 1.0) * np.clip(logits, -limit, limit))
    return logs


def _hits(rows: Sequence[NoneRow], rules: Sequence[NoneRule]) -> Hits:
    """Apply a rule to each row, and return how well the answer "none of these" is then recognized.

    The first rule is for the first row, and so on.
    """
    none = [rule.probability(row.outside, row.label) for row, rule in zip(rows, rules, strict=True)]
    chosen = [share > (1.0 - share) * row.label for row, share in zip(rows, none, strict=True)]
    hits = sum(row.none and said for row, said in zip(rows, chosen, strict=True))
    precision = hits / sum(chosen) if any(chosen) else 0.0
    recall = hits / sum(row.none for row in rows)
    return Hits(precision, recall, 2 * hits / (sum(chosen) + sum(row.none for row in rows)))
