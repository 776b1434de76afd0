"""Turns logits into probabilities among the allowed answers. A logit that is not finite is an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.decoding import Logits, Probabilities
from ecellm_lite.errors import ModelError

_HUGE = np.float32(1e30)


@dataclass(frozen=True, slots=True)
class Restricted:
    """The probabilities of the allowed tokens.

    `shares` (n,) are a softmax over these tokens only, so they sum to 1. `coverage` is the probability that all allowed
    tokens have together in a softmax over the whole vocabulary.
    """

    shares: Probabilities
    coverage: float


def restrict(logits: Logits, allowed: Sequence[int] | NDArray[np.int32]) -> Restricted:
    """Return the probabilities of the token ids in `allowed`, and their coverage.

    Raises ModelError if a logit is NaN or infinite.
    """
    whole = checked_logits(logits)
    peak = whole.max()
    total = float(np.exp(whole - peak).sum(dtype=np.float64))
    some = whole[np.asarray(allowed)].astype(np.float64)
    coverage = float(np.exp(some - float(peak)).sum()) / total
    return Restricted(_softmax(some), min(coverage, 1.0))


def shares(logits: Logits, allowed: Sequence[int] | NDArray[np.int32]) -> Probabilities:
    """Return the probabilities of the token ids in `allowed`, scaled to sum to 1.

    Unlike `restrict`, this function does not compute the coverage. So it is far faster for a large vocabulary.

    Raises ModelError if a logit is NaN or infinite.
    """
    return _softmax(checked_logits(logits)[np.asarray(allowed)].astype(np.float64))


def _softmax(logits: Probabilities) -> Probabilities:
    powers = np.exp(logits - logits.max())
    softmax: Probabilities = powers / powers.sum()
    return softmax


def checked_logits(logits: Logits) -> Logits:
    """Return the logits. Very large logits are limited, so that the difference of two logits stays finite.

    Raises ModelError if a logit is NaN or infinite. Undamaged weights never give such a logit, and an answer based on
    it would be arbitrary.
    """
    # False for NaN too; a good model's logits always pass.
    if logits.min() > -_HUGE and logits.max() < _HUGE:
        return logits
    if not np.isfinite(logits).all():
        raise ModelError(
            "The model's logits are not finite",
            step="check the model's file, which may be damaged, or run it without a GPU",
            settings=("gpu_layers",),
        )
    return logits.clip(-_HUGE, _HUGE)


def confidence(shares: Probabilities | Sequence[float]) -> float:
    """Return how certain a choice is: 0 if all probabilities are equal, 1 if one probability is 1.

    With k probabilities it is (largest - 1/k) / (1 - 1/k). If there is only one option, it is 1.
    """
    count = len(shares)
    if count == 1:
        return 1.0
    return float(max(0.0, (max(shares) - 1 / count) / (1 - 1 / count)))
