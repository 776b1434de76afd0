"""Corrects probabilities, so that eight in ten answers with probability 0.8 are right.

The method is called temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017). Each
probability p is replaced by p^(1/T), and the results are scaled to sum to 1. This is the same as dividing the logits by
the temperature T before the softmax. A T above 1 makes a model less sure, and a T below 1 makes it surer. The likeliest
answer stays the same.

Each entry of an extraction is calibrated separately, because an entry is either right or wrong. Often most entries are
wrong, and a temperature cannot correct for this. So the formula for an entry also has a bias b: p becomes
sigmoid(logit(p) / T + b), as in Platt, "Probabilistic outputs for SVMs" (1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.decoding import Outcome, Probabilities
from ecellm_lite.answers.probabilities import confidence

# A share that was rounded to 0 was at most this; a logarithm needs a number above 0.
LEAST_SHARE = 2.0**-53

_MOST = 700.0  # exp overflows above this


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction of a model's probabilities: a temperature, and a bias in favor of a decision's first option."""

    temperature: float = 1.0
    bias: float = 0.0

    def odds(self, probability: float) -> float:
        """Return the corrected probability of the answer "yes" to a yes/no question (see tempered_odds)."""
        if self.temperature == 1.0 and self.bias == 0.0:
            return probability
        return tempered_odds(probability, self.temperature, self.bias)

    def then(self, other: Correction) -> Correction:
        """Return one correction with the effect of this correction followed by `other`."""
        return Correction(self.temperature * other.temperature, self.bias / other.temperature + other.bias)


def log_shares(shares: Sequence[float] | Probabilities) -> NDArray[np.float64]:
    """Return the logarithms of probabilities.

    A probability of 0 is replaced by a tiny number, because it has no logarithm.
    """
    logs: NDArray[np.float64] = np.log(np.maximum(shares, LEAST_SHARE))
    return logs


def tempered(shares: Sequence[float] | Probabilities, temperature: float) -> Probabilities:
    """Return probabilities rescaled by a temperature above 0. They keep their order and sum to 1."""
    logs = log_shares(shares) / temperature
    powers = np.exp(logs - logs.max())
    weighted: Probabilities = powers / powers.sum()
    return weighted


def tempered_odds(probability: float, temperature: float, bias: float = 0.0) -> float:
    """Calibrate the model's probability of the answer "yes" to a yes/no question.

    The result is sigmoid(logit(`probability`) / `temperature` + `bias`).
    """
    for_it, against = log_shares((probability, 1.0 - probability)) / temperature
    return 1.0 / (1.0 + math.exp(min(against - for_it - bias, _MOST)))


def tempered_among(probability: float, count: int, temperature: float) -> float:
    """Calibrate the probability of an answer, if there are `count` possible answers.

    The other answers are assumed to be equally likely. With p = `probability`, n = `count` and T = `temperature`, the
    result is

        p^(1/T) / (p^(1/T) + (n - 1) ((1 - p) / (n - 1))^(1/T))

    which approaches 1/n as T grows.
    """
    return tempered_odds(probability, temperature, -(1.0 - 1.0 / temperature) * math.log(count - 1))


def tempered_listed(shares: Sequence[float], others: int, temperature: float) -> list[float]:
    """Calibrate `shares`, the probabilities of the likeliest answers.

    Besides them, `others` more answers are possible. These share the remaining probability, and are assumed to be
    equally likely. The result leaves them out, so its sum may be less than 1.
    """
    rest = [max(0.0, 1.0 - math.fsum(shares))] if others else []
    count = np.ones(len(shares) + len(rest))
    count[len(shares) :] = others
    logs = log_shares([*shares, *rest]) - np.log(count)  # of a single answer
    powers = count * np.exp((logs - logs.max()) / temperature)
    tempered_shares: list[float] = (powers / powers.sum())[: len(shares)].tolist()
    return tempered_shares


def tempered_outcome(outcome: Outcome, temperature: float) -> Outcome:
    """Correct the probabilities of an answer by a temperature. The answer itself stays the same.

    At temperature 1, or if only one answer is possible, nothing changes.
    """
    before = outcome.probabilities
    if temperature == 1.0 or not before or len(before) == 1:
        return outcome
    after = dict(zip(before, tempered(tuple(before.values()), temperature).tolist(), strict=True))
    # Keep the previous answer: rounding may have made another one equally likely.
    probability = after[max(before, key=before.__getitem__)]
    sureness = confidence(tuple(after.values()))
    return replace(outcome, probability=probability, probabilities=after, confidence=sureness)
