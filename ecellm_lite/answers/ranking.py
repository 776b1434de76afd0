"""Letters in order, best first: `B,A,C`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class Ranking(Space):
    """Every order of the given letters, of which there is at least one; they are distinct."""

    letters: tuple[str, ...]
    type: ClassVar[str] = "ranking"
    generates: ClassVar[bool] = False

    def decode(self, scene: Scene) -> Decoding:
        """Choose place after place among the letters that are left; the last one needs no choice.

        The probability is the product over the places, the probabilities and the confidence are the first place's.
        """
        tape = Tape()
        order: list[str] = []
        left = list(self.letters)
        first = dict.fromkeys(left, 1.0)
        probability = coverage = 1.0
        while len(left) > 1:
            # Whole answers, so that each letter has the token that it has before a comma.
            rows = [
                scene.continuation(",".join([*order, letter, *(other for other in left if other != letter)]))
                for letter in left
            ]
            weighed = yield from weigh(Candidates(rows, scene.vocabulary.end), tape)
            best = int(weighed.shares.argmax())
            if not order:
                first = dict(zip(left, weighed.shares.tolist(), strict=True))
                coverage = weighed.coverage
            probability *= float(weighed.shares[best])
            order.append(left.pop(best))
        order += left
        text = ",".join(order)
        return Outcome(
            value=order,
            text=text,
            tokens=scene.continuation(text),
            probability=probability,
            probabilities=first,
            confidence=confidence(tuple(first.values())),
            coverage=coverage,
        )

    def parse(self, text: str) -> list[str]:
        """Return the letters of an answer string in its order; each must be there once, else InputError."""
        order = text.split(",")
        if sorted(order) != sorted(self.letters):
            letters = ",".join(self.letters)
            message = f"The ranking {text[:80]!r} does not name each of {letters} once"
            raise InputError(message, step=f"write all of them, best first, as in '{letters}'")
        return order
