"""The claims of a row's answer, compared with the gold answer. `eval` and `calibrate` use them.

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
    """The claims (decisions) in one row's answer, at least one, and the answer's coverage."""

    claims: tuple[Claim, ...]
    coverage: float

    @property
    def correct(self) -> bool:
        """Whether every claim is right. The answer's probability is the probability that every claim is right."""
        return all(claim.correct for claim in self.claims)


def case_of(space: Space, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> Case:
    """Return an answer's claims, compared with the gold answer string.

    `labels` are the relevance labels of a ranking's products. Raises InputError if the answer has no probability, or if
    the gold answer is outside the space.
    """
    if answer.value is None or answer.probability is None or answer.coverage is None:
        raise InputError("The answer has no probability", step="leave out rows that failed, abstained or are free text")
    return Case(space.claims(answer, gold, labels), answer.coverage)


def outcome_of(answer: Answer) -> Outcome:
    """Return an uncalibrated answer as an Outcome, the form that a calibration is applied to."""
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
