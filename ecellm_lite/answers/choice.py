"""One of several options, each with a short key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class Option:
    """What a program reads (`key`, say `B`) and what the model writes for it (`text`, say `B: positive`)."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Choice(Space):
    """One of at least one options with distinct keys and texts."""

    options: tuple[Option, ...]
    type: ClassVar[str] = "choice"
    generates: ClassVar[bool] = False

    def decode(self, scene: Scene) -> Decoding:
        """Weigh every option; letters part at the first token, and then nothing is decoded."""
        rows = [scene.continuation(option.text) for option in self.options]
        weighed = yield from weigh(Candidates(rows, scene.vocabulary.end), Tape(), drafts=scene.drafts)
        shares = weighed.shares.tolist()
        best = int(weighed.shares.argmax())
        return Outcome(
            value=self.options[best].key,
            text=self.options[best].text,
            tokens=rows[best],
            probability=shares[best],
            probabilities={option.key: share for option, share in zip(self.options, shares, strict=True)},
            confidence=confidence(shares),
            coverage=weighed.coverage,
        )

    def parse(self, text: str) -> str:
        """Return the key of the option whose text the answer string is, or raise InputError."""
        for option in self.options:
            if option.text == text:
                return option.key
        offered = ", ".join(repr(option.text) for option in self.options)
        raise InputError(f"The answer {text[:80]!r} is none of the options", step=f"write one of {offered}")


def lettered(texts: Sequence[str], *, whole: bool) -> Choice:
    """Return the choice among lines such as `A: first`; the model writes the `whole` line or its letter alone."""
    pairs = zip(letters_of(texts), texts, strict=True)
    return Choice(tuple(Option(letter, text if whole else letter) for letter, text in pairs))


def letters_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the letters that option lines such as `A: first` begin with, each once, or raise InputError."""
    letters = tuple(map(_letter_of, lines))
    if len(set(letters)) < len(letters):
        message = f"The options have the letters {', '.join(letters)}"
        raise InputError(message, step="give each option a letter of its own, as in A, B, C", field="options")
    return letters


def _letter_of(line: str) -> str:
    letter, colon, _ = line.partition(":")
    if not colon or len(letter) != 1 or not ("A" <= letter <= "Z"):
        step = f"write it as 'A: {line[:20]}'"
        raise InputError(f"The option {line[:80]!r} has no letter", step=step, field="options")
    return letter
