"""The answer space of rankings: letters in order, best first, such as `B,A,C`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import tempered_among, tempered_outcome
from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

# Gains in NDCG by the data set's labels: exact, substitute, complement, irrelevant.
GAINS: Mapping[str, float] = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}


@dataclass(frozen=True, slots=True)
class Ranking(Space):
    """The space of all orders of `letters`. There is at least one letter, and all are different.

    `lines` are texts that show a person what each letter stands for, such as `A: Umbrella`.
    """

    letters: tuple[str, ...]
    lines: tuple[str, ...] = field(default=(), compare=False)
    type: ClassVar[str] = "ranking"
    generates: ClassVar[bool] = False
    scored: ClassVar[bool] = True

    def decode(self, scene: Scene) -> Decoding:
        """Choose a letter for each position in turn. The last letter needs no choice.

        `probability` is the product of the probabilities of all choices. `probabilities` and `confidence` describe only
        the first choice: which letter is the best.
        """
        tape = Tape()
        order: list[str] = []
        remaining = list(self.letters)
        first = dict.fromkeys(remaining, 1.0)
        probability = coverage = 1.0
        while len(remaining) > 1:
            # Whole answers, so that each letter has the token that it has before a comma.
            rows = [
                scene.continuation(",".join([*order, letter, *(other for other in remaining if other != letter)]))
                for letter in remaining
            ]
            weighed = yield from weigh(Candidates(rows, scene.end), tape)
            best = int(weighed.shares.argmax())
            if not order:
                first = dict(zip(remaining, weighed.shares.tolist(), strict=True))
                coverage = weighed.coverage
            probability *= float(weighed.shares[best])
            order.append(remaining.pop(best))
        order += remaining
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
        """Split "B,A,C" into its letters.

        Raises InputError if a letter is missing or repeated.
        """
        order = text.split(",")
        if sorted(order) != sorted(self.letters):
            letters = ",".join(self.letters)
            message = f"The ranking {text[:80]!r} does not name each of {letters} once"
            raise InputError(message, step=f"write all of them, best first, as in '{letters}'")
        return order

    def normalized(self, text: str) -> str:
        """Return the letters of a person's answer with commas between them: "b > a" becomes "B,A"."""
        order = ",".join(part.upper() for part in re.split(r"[\s,;>]+", text.strip()) if part)
        self.parse(order)
        return order

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens of an answer, which is the same for every order of the letters."""
        return len(scene.continuation(",".join(self.letters)))

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return `outcome`, a decoded answer, with calibrated probabilities.

        Both the probability of the whole order and each letter's probability of being first are calibrated.
        """
        after = tempered_outcome(outcome, temperature)
        if after is outcome or outcome.probability is None:
            return outcome
        return replace(after, probability=tempered_among(outcome.probability, self._orders, temperature))

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return one claim, which calibration can check: "this is the best order".

        `labels` are the relevance labels of the products. With labels, the claim is correct if the products are sorted
        by relevance. Without labels, the claim is correct if the answer is the gold order.

        The claim has the probability of the answer's order. All other orders share the remaining probability equally.
        """
        gold_order, order, probability = self.parse(gold), answer.value, answer.probability or 0.0
        if self._orders == 1:
            return (Claim((1.0,), 0),)
        if labels is None:
            correct = list(order) == gold_order
        else:
            gains = dict(zip(sorted(order), (GAINS[label] for label in labels), strict=True))
            correct = all(gains[before] >= gains[after] for before, after in pairwise(order))
        return (Claim((probability, 1.0 - probability), 0 if correct else 1, self._orders - 1),)

    def read_labels(self, labels: Any) -> tuple[str, ...] | None:
        """Return each product's relevance in the order of the letters. If `labels` is None, return None.

        The relevance is E (exact), S (substitute), C (complement) or I (irrelevant). Raises InputError for other
        labels.
        """
        if labels is None:
            return None
        if (
            not isinstance(labels, list)
            or len(labels) != len(self.letters)
            or not all(isinstance(label, str) and label in GAINS for label in labels)
        ):
            raise InputError(
                f"The row's labels are {repr(labels)[:80]}",
                step=f"give a list with one of {', '.join(GAINS)} for each product",
                field="labels",
            )
        return tuple(labels)

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return one answer string: the letters in the order of `letters`. It is a baseline that needs no model."""
        return (",".join(self.letters),)

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return one line for each product, in the order of the ranking.

        An abstention has no order. Its lines show the products and their probabilities of being first.
        """
        lines = dict(zip(self.letters, self.lines, strict=False))
        if answer.abstained:
            return bars(answer, lines)
        return tuple(
            Detail(f"{place}.", lines.get(letter, letter), chosen=place == 1)
            for place, letter in enumerate(answer.value, start=1)
        )

    @property
    def _orders(self) -> int:
        return math.factorial(len(self.letters))
