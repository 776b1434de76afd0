"""A place on an ordered scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ecellm_lite.answers.choice import Choice, Option
from ecellm_lite.answers.decoding import Decoding, Scene


@dataclass(frozen=True, slots=True)
class Score:
    """Levels from the lowest to the highest; the value is the probability-weighted position, 1 for the lowest.

    A model that is torn between 4 and 5 of 5 answers 4.5, where a choice would have to drop one.
    """

    levels: tuple[str, ...]
    type: ClassVar[str] = "score"

    def decode(self, scene: Scene) -> Decoding:
        """Weigh every level, as a choice does, and average their positions."""
        choice = Choice(tuple(Option(level, level) for level in self.levels))
        outcome = yield from choice.decode(scene)
        shares: Mapping[str, float] = outcome.probabilities or {}
        position = sum(place * shares[level] for place, level in enumerate(self.levels, start=1))
        return replace(outcome, value=position)

    def parse(self, text: str) -> int:
        """Return the position of the level that the answer string is, from 1, or raise InputError."""
        level = Choice(tuple(Option(level, level) for level in self.levels)).parse(text)
        return self.levels.index(level) + 1
