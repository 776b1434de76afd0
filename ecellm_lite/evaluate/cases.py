"""What an answer's probabilities claim, beside what people answered: which claims are so.

A claim is that nothing of what is said is wrong. `eval` judges by it and `calibrate` fits to it:

- the probability of a predicate, a choice or a score is that of the answer that is the likeliest: it is the right one;
- that of a ranking is that of the whole order: none is better. With labels, no product stands before a more relevant
  one; without, it is the order in the data;
- that of an extraction is the product of its entries', each of which claims that its attribute has this value, from
  this source, or none: it is so if an entry of the data says it, and none is right too where the data has no entry of
  that attribute. The data may know further values of it; that there are none is not claimed.

A case has such claims as choices, which a temperature changes: the shares of what could be answered, the chosen one
first, and where in them the right one stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.metrics.ranking import GAINS


@dataclass(frozen=True, slots=True)
class Weighing:
    """The shares of one choice, the chosen one first; `right` is the place of the right one in them.

    The last share is that of `alike` answers together, which are taken to share it evenly.
    """

    shares: tuple[float, ...]
    right: int
    alike: int = 1

    @property
    def probability(self) -> float:
        """What was claimed: the share of the chosen one."""
        return self.shares[0]

    @property
    def so(self) -> bool:
        """Whether the chosen one is the right one."""
        return self.right == 0


@dataclass(frozen=True, slots=True)
class Case:
    """The choices of one row's answer, at least one, and its coverage."""

    choices: tuple[Weighing, ...]
    coverage: float

    @property
    def so(self) -> bool:
        """Whether the answer as a whole is right, which is what its own probability claims."""
        return all(choice.so for choice in self.choices)


def case_of(answer: Answer, gold: Any, labels: Sequence[str] | None = None) -> Case:
    """Return the case of an answer and the value that it should have had (of its space's `parse`).

    `labels` are the relevance (E, S, C or I) of each product of a ranking, in the order of the letters.

    Raises InputError for an answer without a probability, or a value that it could not have had.
    """
    if answer.value is None or answer.probability is None or answer.coverage is None:
        raise InputError(f"Answers of the type {answer.type} have no probability, and nothing to calibrate.")
    if answer.type == "extraction":
        return Case(_entries(answer.value, gold), answer.coverage)
    if answer.type == "ranking":
        return Case((_order(answer.probability, answer.value, gold, labels),), answer.coverage)
    shares: Mapping[str, float] = answer.probabilities or {}
    right = _key(answer.type, list(shares), gold)
    if right not in shares:
        raise InputError(f"The right answer {right!r} is none of {', '.join(shares)}.")
    chosen = max(shares, key=shares.__getitem__)
    order = [chosen, *(key for key in shares if key != chosen)]
    return Case((Weighing(tuple(shares[key] for key in order), order.index(right)),), answer.coverage)


def _key(kind: str | None, keys: Sequence[str], gold: Any) -> str:
    if kind == "predicate":
        return "yes" if gold else "no"
    if kind == "score":
        return keys[int(gold) - 1]
    return str(gold)


def _order(probability: float, order: Sequence[str], gold: Sequence[str], labels: Sequence[str] | None) -> Weighing:
    """Return the choice of a whole order against all others, as answers.calibration weighs it."""
    others = math.factorial(len(order)) - 1
    if not others:
        return Weighing((1.0,), 0)
    if labels is None:
        right = list(order) == list(gold)
    else:
        gains = dict(zip(sorted(order), (GAINS[label] for label in labels), strict=True))
        right = all(gains[before] >= gains[after] for before, after in pairwise(order))
    return Weighing((probability, 1.0 - probability), 0 if right else 1, others)


def _entries(entries: Sequence[Mapping[str, Any]], gold: Sequence[Mapping[str, Any]]) -> tuple[Weighing, ...]:
    wanted: dict[str, set[tuple[str | None, str | None]]] = {}
    for entry in gold:
        wanted.setdefault(entry["attribute"].lower(), set()).add((entry["value"], entry["source"]))
    choices = []
    for entry in entries:
        found = (entry["value"], entry["source"])
        right = found in wanted.get(entry["attribute"].lower(), {(None, None)})
        choices.append(Weighing((entry["probability"], 1.0 - entry["probability"]), 0 if right else 1))
    return tuple(choices)
