"""The answer space of a score: a position on an ordered scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import tempered_outcome
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.option_corrections import OptionCorrection
from ecellm_lite.answers.options import OneOf, Option


@dataclass(frozen=True, slots=True)
class Score(OneOf):
    """An answer space of levels, the lowest first. The answer's value is a position on this scale.

    The lowest level has position 1. The value is the mean of all positions, weighted by their probabilities. If levels
    4 and 5 are equally likely, the score is 4.5, whereas an answer of the type `choice` would be 4 or 5. `texts` is
    what the model writes for each level. By default, the model writes the level itself.
    """

    levels: tuple[str, ...]
    texts: tuple[str, ...] = ()
    type: ClassVar[str] = "score"

    @property
    def offered(self) -> tuple[Option, ...]:
        """The levels, as options."""
        return tuple(map(Option, self.levels, self.texts or self.levels))

    def value(self, key: str) -> int:
        """Return the position of a level; the lowest level has position 1."""
        return self.levels.index(key) + 1

    def decode(self, scene: Scene) -> Decoding:
        """Compute the probability of each level, and the score: the levels' mean position, weighted by probability."""
        return _averaged((yield from OneOf.decode(self, scene)))

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return the outcome with its probabilities rescaled by a temperature, and the score computed from them.

        `bias` is not used.
        """
        return _averaged(tempered_outcome(outcome, temperature))

    def corrected_by_option(self, outcome: Outcome, correction: OptionCorrection) -> Outcome:
        """Return the outcome (the answer and its probabilities) with corrected probabilities.

        The likeliest level and the score (the levels' mean position) are computed from the corrected probabilities.
        """
        return _averaged(OneOf.corrected_by_option(self, outcome, correction))

    def headline(self, answer: Answer) -> str:
        """Return the score and the number of levels, such as `3.70 of 5`."""
        return f"{answer.value:.2f} of {len(self.levels)}"


def _averaged(outcome: Outcome) -> Outcome:
    shares: Mapping[str, float] = outcome.probabilities or {}
    return replace(outcome, value=sum(place * share for place, share in enumerate(shares.values(), start=1)))
