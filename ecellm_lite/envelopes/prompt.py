"""A prompt: a sequence of texts and control tokens, such as <|im_end|>.

Each control token is a `ControlToken`. If a user's text contains "<|im_end|>", it is tokenized as ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ecellm_lite.errors import ModelError


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A control token of a chat form, such as <|im_end|>.

    `text`: the token's spelling in the vocabulary.
    `trailing_space`: white space that follows the token when the prompt is shown as text. It is not passed to the
      tokenizer, which would drop it or add it by itself.
    `strips`: whether the tokenizer drops white space at the start of the next text.
    `optional`: whether a vocabulary may lack the token. Its spelling is then tokenized as text.
    """

    text: str
    trailing_space: str = ""
    strips: bool = False
    optional: bool = False

    def __str__(self) -> str:
        return self.text + self.trailing_space


Part: TypeAlias = str | ControlToken


class Tokenizer(Protocol):
    """The methods of a model's vocabulary that a prompt needs."""

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the token ids of `text`. With `begin`, a BOS token comes first if the model expects one."""

    def special_token_id(self, text: str) -> int | None:
        """Return the id of the control or added token with this spelling, or None."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The texts and control tokens of a prompt, in order. `str` returns the prompt with its control tokens as text.

    `begin`: whether the prompt begins with a BOS token, if the model expects one. It is False for a chat form, which
    has its BOS token as a `ControlToken`.
    """

    parts: tuple[Part, ...]
    begin: bool = False

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def __add__(self, text: str) -> Prompt:
        return Prompt((*self.parts, text), self.begin)

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Return the prompt's token ids. Raises ModelError if the vocabulary lacks a control token."""
        ids: list[int] = []
        text, strips = "", False
        token_ids = {token.text: control_token_id(token, tokenizer) for token in control_tokens_of(self.parts)}
        forbidden = {spelling: token for spelling, token in token_ids.items() if token is not None}
        for part in self.parts:
            if isinstance(part, str):
                text += part
            elif (token := token_ids[part.text]) is None:
                text += str(part)
            else:
                ids += _literal(text.lstrip() if strips else text, forbidden, tokenizer)
                ids.append(token)
                text, strips = "", part.strips
        ids += _literal(text.lstrip() if strips else text, forbidden, tokenizer)
        return [*tokenizer.tokenize("", begin=True), *ids] if self.begin else ids


def control_token_id(control_token: ControlToken, tokenizer: Tokenizer) -> int | None:
    """Return the id of a control token, or None if the token is optional and the vocabulary lacks it.

    Raises ModelError if the vocabulary lacks a token that is not optional.
    """
    token = tokenizer.special_token_id(control_token.text)
    if token is None and not control_token.optional:
        raise ModelError(
            f"The model's vocabulary has no token {control_token.text!r}, which its envelope needs",
            step="give another envelope",
            settings=("envelope",),
        )
    return token


def _literal(text: str, forbidden: dict[str, int], tokenizer: Tokenizer) -> list[int]:
    """Tokenize a user's text without control tokens, even if the text contains the spelling of one.

    `forbidden` has the spellings and ids of control tokens. For example, llama.cpp reads "<think>" as one control
    token. To avoid this, "<" and "think>" are tokenized separately.
    """
    if not text:
        return []
    ids = tokenizer.tokenize(text)
    if not forbidden or set(forbidden.values()).isdisjoint(ids):
        return ids
    pattern = "|".join(f"(?<={re.escape(spelling[0])})(?={re.escape(spelling[1:])})" for spelling in forbidden)
    return [token for piece in re.split(pattern, text) for token in tokenizer.tokenize(piece)]


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return a prompt's parts without empty texts, and with adjacent texts joined."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part != "":
            result.append(part)
    return tuple(result)


def control_tokens_of(parts: Sequence[Part]) -> tuple[ControlToken, ...]:
    """Return the control tokens among a prompt's parts."""
    return tuple(part for part in parts if isinstance(part, ControlToken))
