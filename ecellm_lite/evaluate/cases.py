"""Splits a row's answer into claims, and compares each claim with the gold answer. `eval` and `calibrate` use this.

A claim is one decision in an answer, with its probability (see ecellm_lite/answers/claims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class Case:
    """One row's answer, compared with the gold answer.

    `claims`: the decisions in the answer, at least one. An extraction has one for each value that it found, and one for
      each attribute without a value.
    `coverage`: the answer's coverage.
    """

    claims: tuple[Claim, ...]
    coverage: float

    @property
    def correct(self) -> bool:
        """Whether every claim is right."""
        return all(claim.correct for claim in self.claims)


def case_of(space: Space, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> Case:
    """Compare an answer with the gold answer string. Return each claim of the answer, and whether the claim is right.

    `labels`: for a ranking, the relevance labels of the products.

    Raises InputError if the answer has no probability, or if the gold answer is not possible in this space.
    """
    if answer.value is None or answer.probability is None or answer.coverage is None:
        raise InputError("The answer has no probability", step="leave out rows that failed, abstained or are free text")
    return Case(space.claims(answer, gold, labels), answer.coverage)


def outcome_of(answer: Answer) -> Outcome:
    """Return an uncalibrated answer as an Outcome, the form of an answer that a calibration can be applied to."""
    return Outcome(
        value=answer.value,
        text=answer.text or "",
        tokens=(),
        probability=answer.probability,
        probabilities=answer.probabilities,
        confidence=answer.confidence,
        coverage=answer.coverage,
        unexplored=answer.unexplored,
    )
