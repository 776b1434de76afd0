"""The settings of a training run. The defaults are from the appendix of the paper (Peng et al., arXiv 2402.08831).

The adapter is a LoRA of rank 16 and alpha 16 on the attention and feed-forward matrices. The learning rate follows a
cosine. The loss covers the answer and the end-of-sequence token, but not the prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WARM_UP = 0.03  # of all steps


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a training run.

    `rate`: the highest learning rate.
    `rows`: how many rows are in a batch.
    `tokens`: the maximum number of tokens in one call of the model, including padding. A larger batch is split into
      parts. This saves memory and does not change the result.
    `bfloat16`: whether to compute with 16-bit numbers. This is faster on a GPU or a CPU with AMX, but two runs may give
      slightly different weights. On other CPUs it changes nothing.
    `length_penalty`: the loss of a lesson (a training example) is divided by n to this power, where n is the number of
      the answer's tokens. With 0, an answer of many tokens counts much more than a yes or no. With 1, both count the
      same.
    """

    rank: int = 16
    alpha: int = 16
    dropout: float = 0.0
    rate: float = 1e-3
    rows: int = 32
    seed: int = 7
    tokens: int = 8192
    bfloat16: bool = False
    length_penalty: float = 0.0

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step: it rises in a short warm-up, then falls along half a cosine."""
        warm_up = max(1, round(WARM_UP * steps))
        if step < warm_up:
            return self.rate * ((step + 1) / warm_up)
        return self.rate * (0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))))
