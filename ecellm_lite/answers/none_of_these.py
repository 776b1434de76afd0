"""Choices with the answer "none of these" besides their labels, for rows that no label fits.

Two things suggest that no label fits: the model would rather have written something else (a low coverage), or it cannot
decide between labels. Without a calibration, the probability of "none of these" is all the probability that the model
did not give to a label:

    outside = 1 - coverage * (1 - written)

Here `written` is the probability of the option "none of these", or 0 if the prompt does not list this option. A
calibration may replace this formula by a rule that also depends on the probability of the likeliest label. The
remaining probability is divided among the labels in proportion to the probabilities that the model gave them. The
answer is "none of these" if its probability is higher than that of every label.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.answers.options import OneOf, Option
from ecellm_lite.answers.space import Space

# The labels together keep at least this probability, so that their shares of it can be computed again.
LEAST = 1e-6

NONE = Option("none", "none")

LARGEST_WEIGHT = 20.0


def log_odds(probability: float) -> float:
    """Return the logarithm of a probability's odds.

    A probability below LEAST or above 1 - LEAST is replaced by that limit.
    """
    probability = min(max(probability, LEAST), 1.0 - LEAST)
    return math.log(probability / (1.0 - probability))


@dataclass(frozen=True, slots=True)
class NoneRule:
    """A formula for the probability that no label fits: sigmoid(bias + outside * a + doubt * b).

    `a` is the log-odds of the probability that the model gives to texts other than labels. `b` is the log-odds that the
    likeliest label is wrong, provided that some label fits.
    """

    bias: float = 0.0
    outside: float = 1.0
    doubt: float = 0.0

    def probability(self, outside: float, label: float) -> float:
        """Return the probability that no label fits, as this rule computes it.

        - `outside`: the model's own probability that no label fits.
        - `label`: the probability of the likeliest label, provided that some label fits.
        """
        logit = self.bias + self.outside * log_odds(outside) - self.doubt * log_odds(label)
        return 1.0 / (1.0 + math.exp(min(-logit, 700.0)))

    def check(self) -> None:
        """Raise ValueError if a number of the rule is invalid."""
        if not all(abs(number) <= LARGEST_WEIGHT for number in (self.bias, self.outside, self.doubt)):
            raise ValueError(f"none has a number beyond {LARGEST_WEIGHT:g}")


class OrNone(Space):
    """The answer space of a choice among labels, where "none of these" is an answer too."""

    __slots__ = ()

    @property
    @abstractmethod
    def none_option(self) -> Option:
        """The answer "none of these", which says that no label fits."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of labels, without "none of these"."""

    @abstractmethod
    def label_text(self, key: str) -> str:
        """Return the answer string of the label with this key."""

    def joined(self, labels: Outcome, none: float) -> Outcome:
        """Add "none of these", with the probability `none`, to the outcome of a choice among the labels.

        The labels' probabilities shrink, so that the sum is 1 again. The value of the new outcome is the likeliest
        answer.
        """
        none = min(max(none, 0.0), 1.0 - LEAST)
        key = self.none_option.key
        shares = {label: share * (1.0 - none) for label, share in (labels.probabilities or {}).items()}
        best = max(shares, key=shares.__getitem__)
        if none > shares[best]:
            best, probability, text = key, none, self.none_option.text
        else:
            probability, text = shares[best], self.label_text(best)
        even = 1.0 / (self.count + 1)
        return replace(
            labels,
            value=best,
            text=text,
            probability=probability,
            probabilities={**shares, key: none},
            confidence=max(0.0, (probability - even) / (1.0 - even)),
            unexplored=None if labels.unexplored is None else labels.unexplored * (1.0 - none),
        )

    def parted(self, outcome: Outcome) -> tuple[Outcome, float]:
        """Split an outcome (an answer and its probabilities) in two.

        The first part is the outcome of a choice among the labels alone, whose probabilities are scaled up to sum to 1.
        The second part is the probability of "none of these".
        """
        shares, none = shares_apart(outcome.probabilities or {}, self.none_option.key)
        best = max(shares, key=shares.__getitem__)
        unexplored = None if outcome.unexplored is None else min(1.0, outcome.unexplored / (1.0 - none))
        labels = replace(
            outcome,
            value=best,
            text=self.label_text(best),
            probability=shares[best],
            probabilities=shares,
            unexplored=unexplored,
        )
        return labels, none

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return the outcome (the answer and its probabilities) with calibrated probabilities of the labels.

        The probability of "none of these" does not change.
        """
        if temperature == 1.0 or not outcome.probabilities:
            return outcome
        labels, none = self.parted(outcome)
        return self.joined(super().calibrated(labels, temperature, bias), none)

    def ruled(self, outcome: Outcome, rule: NoneRule) -> Outcome:
        """Return a copy of `outcome` whose probability of "none of these" is computed by `rule`.

        The labels' probabilities must be calibrated already. They are scaled, so that they and the probability of "none
        of these" sum to 1. The new answer is the likeliest label or "none of these".
        """
        labels, outside = self.parted(outcome)
        assert labels.probability is not None
        return self.joined(labels, rule.probability(outside, labels.probability))

    def is_none(self, text: str) -> bool:
        """Return whether an answer string says that no label fits."""
        return text == self.none_option.text

    @abstractmethod
    def label_claim(self, answer: Answer, gold: str) -> Claim:
        """Return the claim (decision) that the likeliest label is right, as if "none of these" could not be chosen.

        `gold` must be a label.
        """


@dataclass(frozen=True, slots=True)
class ChoiceOrNone(OrNone, Choice):
    """The answer space of a choice among a few options, where "none of these" is an answer too.

    "None of these" is the last option in the prompt's list.
    """

    none: Option = NONE

    @property
    def offered(self) -> tuple[Option, ...]:
        """All options in the prompt's list. "None of these" is the last one."""
        return (*self.options, self.none)

    @property
    def none_option(self) -> Option:
        """The option that says that no label fits."""
        return self.none

    @property
    def count(self) -> int:
        """The number of options, without "none of these"."""
        return len(self.options)

    def label_text(self, key: str) -> str:
        """Return the text of the option with this key."""
        return next(option.text for option in self.options if option.key == key)

    def decode(self, scene: Scene) -> Decoding:
        """Compute the probabilities of all options and of "none of these".

        The model may give some probability to texts that are not in the prompt's list. "None of these" gets that
        probability too, besides the probability of its own line in the list.
        """
        outcome = yield from OneOf.decode(self, scene)
        shares = dict(outcome.probabilities or {})
        written = shares.pop(self.none.key)
        rest = sum(shares.values())
        shares = {key: share / rest if rest else 1.0 / self.count for key, share in shares.items()}
        outside = 1.0 - (outcome.coverage or 0.0) * (1.0 - written)
        outcome = self.joined(replace(outcome, probabilities=shares), outside)
        return replace(outcome, tokens=scene.continuation(outcome.text))

    def label_claim(self, answer: Answer, gold: str) -> Claim:
        """Return the claim that the likeliest option is right, as if "none of these" could not be chosen."""
        shares, _ = shares_apart(answer.probabilities or {}, self.none.key)
        order = sorted(shares, key=shares.__getitem__, reverse=True)
        return Claim(tuple(shares[key] for key in order), order.index(self.parse(gold)))


@dataclass(frozen=True, slots=True)
class LabelSetOrNone(OrNone, LabelSet):
    """The answer space of a choice among many labels, where "none of these" is an answer too.

    The prompt does not list the answers. The probability that the model gives to texts other than labels becomes the
    probability of "none of these".
    """

    none: Option = NONE

    @property
    def none_option(self) -> Option:
        """The answer "none of these", which says that no label fits."""
        return self.none

    @property
    def digest(self) -> str:
        """The hash of the labels, a space, and the text of "none of these" (not hashed), in one string."""
        return f"{self.labels.digest} {self.none.text}"

    @property
    def count(self) -> int:
        """The number of labels, without "none of these"."""
        return len(self.labels.keys)

    def label_text(self, key: str) -> str:
        """Return the text of the label with this key."""
        return self.labels.by_key[key]

    def decode(self, scene: Scene) -> Decoding:
        """Search for the likeliest label.

        The probability of "none of these" is measured at the first token in which labels differ. It is the total
        probability of all tokens that no label has there.
        """
        outcome = yield from LabelSet.decode(self, scene)
        return self.joined(outcome, 1.0 - (outcome.coverage or 0.0))

    def parse(self, text: str) -> str:
        """Return the key of the answer with this text.

        Raises InputError for a text that is neither a label nor "none of these".
        """
        return self.none.key if self.is_none(text) else LabelSet.parse(self, text)

    def normalized(self, text: str) -> str:
        """Return the answer string for a text that a person typed. Upper and lower case are treated as equal."""
        if text.strip().casefold() == self.none.key.casefold():
            return self.none.text
        return LabelSet.normalized(self, text)

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return the answer's only claim (decision): that the likeliest answer is right."""
        probability = answer.probability or 0.0
        right = 0 if answer.value == self.parse(gold) else 1
        return (Claim((probability, 1.0 - probability), right, self.count),)

    def label_claim(self, answer: Answer, gold: str) -> Claim:
        """Return the claim that the likeliest label is right, as if "none of these" could not be chosen."""
        shares, _ = shares_apart(answer.probabilities or {}, self.none.key)
        return self.claim(shares, self.parse(gold))

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return one line for "none of these" and one for each of the likeliest labels, with their probabilities."""
        texts = {**self.labels.by_key, self.none.key: self.none.text}
        return bars(answer, {key: texts[key] for key in answer.probabilities or {}})


def shares_apart(probabilities: Mapping[str, float], none: str) -> tuple[dict[str, float], float]:
    """Separate the labels' probabilities from the probability of "none of these", and return both.

    The labels' probabilities are scaled up, as if "none of these" could not be chosen. `none` is the key of "none of
    these".
    """
    probability = min(probabilities.get(none, 0.0), 1.0 - LEAST)
    shares = {key: min(1.0, share / (1.0 - probability)) for key, share in probabilities.items() if key != none}
    return shares, probability
