"""The answer space of a choice among so many labels that a prompt cannot list them, such as a product taxonomy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import tempered_listed
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.answers.label_matrix import label_matrix
from ecellm_lite.answers.label_search import search
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

# How many questions to the model may lead elsewhere than to the answer.
DETOURS = 3

# How many labels an answer has, and how probable the second and further ones must be to search for them.
BEST = 5
LEAST_SHARE = 0.01


class Labels:
    """Two or more labels. Each has a key and a text, and no two have the same key or the same text.

    - `keys`: names of the labels for programs. The value of an answer is a key.
    - `texts`: what the model writes, such as `Toys > Puzzles`.
    - `digest`: a sha256 of the keys and texts. Two sets with the same digest are equal.
    """

    def __init__(self, keys: Sequence[str], texts: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self.texts = tuple(texts)
        self.digest = hashlib.sha256(repr((self.keys, self.texts)).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def by_text(self) -> Mapping[str, str]:
        """A mapping from each label's text to its key."""
        return dict(zip(self.texts, self.keys, strict=True))

    @cached_property
    def by_key(self) -> Mapping[str, str]:
        """A mapping from each label's key to its text."""
        return dict(zip(self.keys, self.texts, strict=True))

    def find(self, name: str) -> str | None:
        """Return the text of the label whose text or key is `name`, or None if there is no such label.

        Upper and lower case are treated as equal, unless two labels differ only in case.
        """
        if name in self.by_text:
            return name
        return self.by_key.get(name) or self._by_name.get(name.casefold())

    @cached_property
    def _by_name(self) -> Mapping[str, str | None]:
        """A mapping from names to label texts. A label has two names: its key and its text, both in lower case.

        A name that belongs to two labels is mapped to None.
        """
        names: dict[str, str | None] = {}
        for key, text in zip(self.keys, self.texts, strict=True):
            for name in {key.casefold(), text.casefold()}:
                names[name] = None if name in names else text
        return names


@dataclass(frozen=True, slots=True)
class LabelSet(Space):
    """A space whose answer is exactly one of many labels. An answer's value is the label's key.

    - `detours`: how many extra questions the search may ask if the model is unsure (see label_search).
    - `best`: how many of the likeliest labels get a probability.
    """

    labels: Labels
    detours: int = DETOURS
    best: int = BEST
    type: ClassVar[str] = "choice"
    scored: ClassVar[bool] = True

    @property
    def digest(self) -> str:
        """A hash of the labels."""
        return self.labels.digest

    def decode(self, scene: Scene) -> Decoding:
        """Search for the likeliest label.

        The result has the probabilities of the likeliest labels, at most `self.best` of them. They may sum to less than
        1, because the other labels are left out. `unexplored` is the total probability of the labels that the search
        did not reach.
        """
        candidates = label_matrix(self.labels.digest, self.labels.texts, scene)
        result = yield from search(candidates, Tape(), detours=self.detours, best=self.best, least=LEAST_SHARE)
        index, probability = result.labels[0]
        return Outcome(
            value=self.labels.keys[index],
            text=self.labels.texts[index],
            tokens=result.tokens,
            probability=probability,
            probabilities={self.labels.keys[index]: share for index, share in result.labels},
            confidence=self._confidence(probability),
            coverage=result.coverage,
            unexplored=result.unexplored,
        )

    def parse(self, text: str) -> str:
        """Return the key of the label with this text. Raises InputError if there is none."""
        if text in self.labels.by_text:
            return self.labels.by_text[text]
        message = f"The answer {text[:80]!r} is not one of the {len(self.labels.keys):,} labels"
        raise InputError(message, step="copy it from the file of labels")

    def written(self, output: str | list[Any]) -> str:
        """Return the text of a labelled row's label. `output` is the label's text or key.

        Any other text is returned unchanged.
        """
        text = Space.written(self, output)
        return text if text in self.labels.by_text else self.labels.by_key.get(text, text)

    def normalized(self, text: str) -> str:
        """Return a label's text as the task spells it. `text`: the label's text or key, in upper or lower case."""
        name = text.strip()
        return self.labels.find(name) or self.labels.by_key[self.parse(name)]

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens of the longest label."""
        return label_matrix(self.labels.digest, self.labels.texts, scene).matrix.shape[1] - 1

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return the outcome (the answer and its probabilities) with calibrated probabilities.

        Only the likeliest labels have probabilities in `outcome`. The other labels are assumed to share the remaining
        probability equally. The remaining probability is calibrated too. A part of it is `unexplored`, the total
        probability of the labels that the search did not reach. This part changes in proportion to the remaining
        probability.
        """
        if temperature == 1.0 or not outcome.probabilities or outcome.probability is None:
            return outcome
        before = list(outcome.probabilities.values())
        after = tempered_listed(before, len(self.labels.keys) - len(before), temperature)
        shares = dict(zip(outcome.probabilities, after, strict=True))
        unexplored = outcome.unexplored
        if unexplored:
            unexplored = min(1.0, unexplored / max(_rest(before), unexplored)) * _rest(after)
        probability = shares[str(outcome.value)]
        return replace(
            outcome,
            probability=probability,
            probabilities=shares,
            confidence=self._confidence(probability),
            unexplored=unexplored,
        )

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return the answer's only claim: that the likeliest label is right."""
        return (self.claim(answer.probabilities or {}, self.parse(gold)),)

    def claim(self, shares: Mapping[str, float], gold: str) -> Claim:
        """Return the claim that the likeliest label is right. A claim is one decision, with its probabilities.

        `shares`: the probabilities of the labels that the search reached. The others are assumed to be equally likely.
        `gold`: the right label's key.
        """
        order = sorted(shares, key=shares.__getitem__, reverse=True)
        options = [shares[key] for key in order]
        others = len(self.labels.keys) - len(order)
        right = order.index(gold) if gold in shares else len(order)
        return Claim((*options, _rest(options)) if others else tuple(options), right, max(1, others))

    def headline(self, answer: Answer) -> str:
        """Return the text of the answer's label."""
        return answer.text or str(answer.value)

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return a line for each of the likeliest labels, with its probability."""
        return bars(answer, {key: self.labels.by_key[key] for key in answer.probabilities or {}})

    def _confidence(self, probability: float) -> float:
        count = len(self.labels.keys)
        return max(0.0, (probability - 1 / count) / (1 - 1 / count))


def _rest(shares: Sequence[float]) -> float:
    return max(0.0, 1.0 - math.fsum(shares))
