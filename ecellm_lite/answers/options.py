"""The base class of the answer spaces in which an answer is one of a few options: choice, predicate and score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.answers.option_corrections import OptionCorrection
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

# How many options an error names.
MOST_SHOWN = 26


@dataclass(frozen=True, slots=True)
class Option:
    """One of the answers that a model can choose from, such as "B: positive".

    `key`: the short name that programs see, such as "B".
    `text`: what the model writes, such as "B: positive".
    `line`: what people see. If it is empty, people see `key`.
    """

    key: str
    text: str
    line: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """The option's name in a labelled file: `text` or `key`.

        It is `text` if `text` equals `key`, or begins with `key` and a colon. Otherwise it is `key`. With the key "B"
        and the text "B: positive", the name is "B: positive". With the key "refund" and the text "A", the name is
        "refund".
        """
        return self.text if self.text == self.key or self.text.startswith(f"{self.key}:") else self.key


class OneOf(Space):
    """An answer space of a few options. Each option gets a probability."""

    __slots__ = ()

    generates: ClassVar[bool] = False
    scored: ClassVar[bool] = True

    @property
    @abstractmethod
    def offered(self) -> tuple[Option, ...]:
        """The options. There is at least one, and their keys and texts are distinct."""

    @abstractmethod
    def value(self, key: str) -> Any:
        """Return the value of the answer if the model chooses the option with this key."""

    def spellings(self, option: Option) -> tuple[str, ...]:
        """Return the texts that mean this option, such as "Yes" and "yes". The first one is the option's own text."""
        return (option.text,)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The texts of the options."""
        return tuple(option.text for option in self.offered)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the options."""
        return tuple(option.key for option in self.offered)

    def decode(self, scene: Scene) -> Decoding:
        """Compute the probability of each option.

        If the options differ in their first tokens, as letters do, the logits after the prompt are enough.
        """
        options = self.offered
        spellings = [self.spellings(option) if scene.form.spellings else (option.text,) for option in options]
        rows = [scene.continuation(text) for texts in spellings for text in texts]
        weighed = yield from weigh(Candidates(rows, scene.end), Tape(), drafts=scene.drafts)
        firsts = [sum(map(len, spellings[:place])) for place in range(len(options))]
        weights = np.add.reduceat(weighed.shares, firsts)
        shares = weights.tolist()
        best = int(weights.argmax())
        return Outcome(
            value=self.value(options[best].key),
            text=options[best].text,
            tokens=rows[firsts[best]],
            probability=shares[best],
            probabilities={option.key: share for option, share in zip(options, shares, strict=True)},
            confidence=confidence(shares),
            coverage=weighed.coverage,
        )

    def parse(self, text: str) -> Any:
        """Return the value of the option with this answer string. Raises InputError if no option has it."""
        return self.value(self._option(text).key)

    def written(self, output: str | list[Any]) -> str:
        """Return the text of an option. `output` is the option's key or its text in a labelled file.

        "B" may be the key of one option and the text of another. It then means the option with the key "B".
        """
        text = Space.written(self, output)
        return next((option.text for option in self.offered if option.key == text), text)

    def label(self, text: str) -> str:
        """Return the name that a labelled row uses for the option with this text."""
        return self._option(text).label

    def normalized(self, text: str) -> str:
        """Return the text of the option that a person means.

        For the option "B: positive", "B", "b" or "Positive" is enough.

        Exact keys are tried first, then exact texts. Then keys, and then texts, are compared without regard to case.
        Raises InputError if no option, or more than one, has this key or text.
        """
        name = text.strip()
        for named, folded in ((name, False), (name.casefold(), True)):
            for names_of in (_keys, _names):
                options = [
                    option.text
                    for option in self.offered
                    if named in {each.casefold() if folded else each for each in names_of(option)}
                ]
                if len(options) > 1:
                    raise self._refusal(f"The answer {name[:80]!r} names several options")
                if options:
                    return options[0]
        return self._option(name).text

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens of the longest option."""
        return max(len(scene.continuation(text)) for text in self.alternatives)

    def corrected_by_option(self, outcome: Outcome, correction: OptionCorrection) -> Outcome:
        """Correct the probabilities. The answer is then the option with the highest corrected probability.

        If several options share the highest probability, the answer is the option that was likeliest before the
        correction. Its probability is then made slightly higher than the others.
        """
        before = outcome.probabilities
        if not before:
            return outcome
        [shares] = correction.corrected(np.array([[before[key] for key in correction.keys]])).tolist()
        by_key = dict(zip(correction.keys, shares, strict=True))
        after = {key: by_key[key] for key in before}
        best = max(after, key=lambda key: (after[key], before[key]))
        if list(after.values()).count(after[best]) > 1:
            after[best] = math.nextafter(after[best], 1.0)
        return replace(
            outcome,
            value=self.value(best),
            text=self.alternatives[self.keys.index(best)],
            probability=after[best],
            probabilities=after,
            confidence=confidence(tuple(after.values())),
        )

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return the claim that the likeliest option is right."""
        shares: Mapping[str, float] = answer.probabilities or {}
        chosen = max(shares, key=shares.__getitem__)
        order = [chosen, *(key for key in shares if key != chosen)]
        return (Claim(tuple(shares[key] for key in order), order.index(self._option(gold).key)),)

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return a line for each option, with its probability."""
        return bars(answer, {option.key: option.line for option in self.offered if option.line})

    def _option(self, text: str) -> Option:
        for option in self.offered:
            if option.text == text:
                return option
        raise self._refusal(f"The answer {text[:80]!r} is not one of the options")

    def _refusal(self, message: str) -> InputError:
        labels = [repr(option.label) for option in self.offered]
        shown = ", ".join(labels[:MOST_SHOWN]) + (", …" if len(labels) > MOST_SHOWN else "")
        return InputError(message, step=f"write one of {shown}")


def _keys(option: Option) -> set[str]:
    return {option.key}


def _names(option: Option) -> set[str]:
    lines = {option.text, option.line} - {""}
    return lines | {line.removeprefix(f"{option.key}:").strip() for line in lines} - {""}
