"""Turns logits into probabilities among the allowed answers; logits that are not finite are an error."""

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
    """A softmax over the allowed tokens: `shares` (n,) sum to 1; `coverage` is their share of the whole vocabulary."""

    shares: Probabilities
    coverage: float


def restrict(logits: Logits, allowed: Sequence[int] | NDArray[np.int32]) -> Restricted:
    """Return the softmax over `allowed` token ids, and their total probability in the whole vocabulary.

    Raises ModelError as `sound` does.
    """
    whole = sound(logits)
    peak = whole.max()
    total = float(np.exp(whole - peak).sum(dtype=np.float64))
    some = whole[np.asarray(allowed)].astype(np.float64)
    powers = np.exp(some - some.max())
    shares = powers / powers.sum()
    coverage = float(np.exp(some - float(peak)).sum()) / total
    return Restricted(shares, min(coverage, 1.0))


def sound(logits: Logits) -> Logits:
    """Return the logits, with huge ones limited so that they can be subtracted.

    Raises ModelError if one is NaN or infinite: undamaged weights never give such logits, and an answer chosen by
    them would be arbitrary.
    """
    # False for NaN too; a sound model's logits always pass.
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
    """Return how far the largest of k shares is above 1/k: (max p - 1/k) / (1 - 1/k), and 1 for a single share."""
    count = len(shares)
    if count == 1:
        return 1.0
    return float(max(0.0, (max(shares) - 1 / count) / (1 - 1 / count)))
