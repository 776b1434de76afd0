"""A place on an ordered scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ecellm_lite.answers.choice import Choice, Option
from ecellm_lite.answers.decoding import Decoding, Scene
from ecellm_lite.answers.space import Space


@dataclass(frozen=True, slots=True)
class Score(Space):
    """Levels from the lowest to the highest; the value is the probability-weighted position, 1 for the lowest.

    A model that is torn between 4 and 5 of 5 answers 4.5, where a choice would have to drop one. `texts` is what the
    model writes for each level, where that is not the level itself.
    """

    levels: tuple[str, ...]
    texts: tuple[str, ...] = ()
    type: ClassVar[str] = "score"
    generates: ClassVar[bool] = False

    def decode(self, scene: Scene) -> Decoding:
        """Weigh every level, as a choice does, and average their positions."""
        outcome = yield from self._choice().decode(scene)
        shares: Mapping[str, float] = outcome.probabilities or {}
        position = sum(place * shares[level] for place, level in enumerate(self.levels, start=1))
        return replace(outcome, value=position)

    def parse(self, text: str) -> int:
        """Return the position of the level that the answer string is, from 1, or raise InputError."""
        return self.levels.index(self._choice().parse(text)) + 1

    def _choice(self) -> Choice:
        return Choice(tuple(map(Option, self.levels, self.texts or self.levels)))
