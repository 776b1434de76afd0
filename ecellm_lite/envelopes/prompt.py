"""A prompt: text, and the control tokens of a chat form between its texts.

Text is never read as a control token, even if a row spells one out. Only a `Mark` becomes a control token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ecellm_lite.errors import ModelError


@dataclass(frozen=True, slots=True)
class Mark:
    """A control token of a chat form.

    `text`: the token's spelling in the vocabulary.
    `after`: text that the form has behind the token, and that becomes no token of its own: white space that the
      tokenizer drops, or SentencePiece's space, which the tokenizer puts before the text that follows.
    `strips`: whether the tokenizer drops white space at the start of the text that follows.
    `optional`: without such a token in the vocabulary, the spelling is read as text.
    """

    text: str
    after: str = ""
    strips: bool = False
    optional: bool = False

    def __str__(self) -> str:
        return self.text + self.after


Part: TypeAlias = str | Mark


class Tokenizer(Protocol):
    """What a prompt needs from a model's vocabulary."""

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the ids of `text`; `begin` adds a BOS if the model expects one."""

    def mark(self, text: str) -> int | None:
        """Return the id of the control or added token with this spelling, or None."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's texts and marks in order; `str` gives the prompt with its marks spelled out.

    `begin`: whether a BOS token is put first if the model expects one. A chat form has its own as a mark.
    """

    parts: tuple[Part, ...]
    begin: bool = False

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def __add__(self, text: str) -> Prompt:
        return Prompt((*self.parts, text), self.begin)

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Return the prompt's ids; raises ModelError if the vocabulary lacks one of the marks."""
        ids: list[int] = []
        text, strips = "", False
        marks = {part.text: mark_id(part, tokenizer) for part in self.parts if isinstance(part, Mark)}
        forbidden = {spelling: token for spelling, token in marks.items() if token is not None}
        for part in self.parts:
            if isinstance(part, str):
                text += part
            elif (token := marks[part.text]) is None:
                text += str(part)
            else:
                ids += _literal(text.lstrip() if strips else text, forbidden, tokenizer)
                ids.append(token)
                text, strips = "", part.strips
        ids += _literal(text.lstrip() if strips else text, forbidden, tokenizer)
        return [*tokenizer.tokenize("", begin=True), *ids] if self.begin else ids


def mark_id(mark: Mark, tokenizer: Tokenizer) -> int | None:
    """Return a mark's token, or None for an optional mark that the vocabulary lacks; raises ModelError otherwise."""
    token = tokenizer.mark(mark.text)
    if token is None and not mark.optional:
        raise ModelError(
            f"The model's vocabulary has no token {mark.text!r}, which its envelope needs",
            step="give another envelope",
            settings=("envelope",),
        )
    return token


def _literal(text: str, forbidden: dict[str, int], tokenizer: Tokenizer) -> list[int]:
    """Return the ids of a text, none of which is a mark's.

    llama.cpp reads added tokens that are not control tokens in any text, such as Qwen's `<think>`. Their spelling is
    therefore tokenized in two parts.
    """
    if not text:
        return []
    ids = tokenizer.tokenize(text)
    if not forbidden or set(forbidden.values()).isdisjoint(ids):
        return ids
    pattern = "|".join(f"(?<={re.escape(spelling[0])})(?={re.escape(spelling[1:])})" for spelling in forbidden)
    return [token for piece in re.split(pattern, text) for token in tokenizer.tokenize(piece)]


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts without empty texts, and with neighbouring texts as one."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part != "":
            result.append(part)
    return tuple(result)


def marks_of(parts: Sequence[Part]) -> tuple[Mark, ...]:
    """Return the marks among the parts."""
    return tuple(part for part in parts if isinstance(part, Mark))
