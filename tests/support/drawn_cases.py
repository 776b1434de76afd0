"""Random evaluation cases (probabilities and correct answers) of an overconfident model."""

from __future__ import annotations

import numpy as np

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.answers.calibration import tempered
from ecellm_lite.answers.claims import Claim
from ecellm_lite.evaluate.cases import Case

MODEL = ModelName("shop", "5" * 64)


def drawn(count: int, temperature: float, seed: int, *, options: int = 5) -> list[Case]:
    """Return random cases (probabilities and the right option) of a simulated model.

    The model's logits are `temperature` times too large.
    """
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        shares = tempered(np.exp(generator.normal(size=options) * 2 * temperature), 1.0)
        shares = np.sort(shares)[::-1]
        right = int(generator.choice(options, p=tempered(shares, temperature)))
        cases.append(Case((Claim(tuple(shares.tolist()), right),), 1.0))
    return cases
