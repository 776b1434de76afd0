"""The answer space of a choice: one of several options, each with a short key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.options import OneOf, Option
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class Choice(OneOf):
    """The answer space of a choice among the given `options`. An answer's value is the key of an option.

    There is at least one option. No two options have the same key or the same text.
    """

    options: tuple[Option, ...]
    type: ClassVar[str] = "choice"

    @property
    def offered(self) -> tuple[Option, ...]:
        """The options that the model can choose from."""
        return self.options

    def value(self, key: str) -> str:
        """Return `key`, because the value of an option is its key."""
        return key

    def headline(self, answer: Answer) -> str:
        """Return a short text to show for the answer, such as `A: first`.

        If the model's text does not begin with the option's key, return the key.
        """
        text, key = answer.text or "", str(answer.value)
        return text if text.startswith(key) else key


def lettered(texts: Sequence[str], *, whole: bool) -> Choice:
    """Return a choice of lines such as `A: first`.

    The model writes the letter only, or the whole line if `whole` is true.
    """
    pairs = zip(letters_of(texts), texts, strict=True)
    return Choice(tuple(Option(letter, text if whole else letter, text) for letter, text in pairs))


def letters_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the letters of option lines such as `A: first`.

    Raises InputError if a line has no letter, or if two lines have the same one.
    """
    letters = tuple(map(_letter_of, lines))
    if len(set(letters)) < len(letters):
        message = f"The options have the letters {', '.join(letters)}"
        raise InputError(message, step="give each option its own letter, as in A, B, C", field="options")
    return letters


def _letter_of(line: str) -> str:
    letter, colon, _ = line.partition(":")
    if not colon or len(letter) != 1 or not ("A" <= letter <= "Z"):
        step = f"write it as 'A: {line[:20]}'"
        raise InputError(f"The option {line[:80]!r} has no letter", step=step, field="options")
    return letter
