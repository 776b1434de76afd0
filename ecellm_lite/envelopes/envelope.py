"""The base class of every envelope: the text around a row's text in a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from ecellm_lite.envelopes.prompt import Mark, Prompt

Role: TypeAlias = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user or the model said in a conversation."""

    role: Role
    text: str


class Envelope(ABC):
    """Makes prompts, all of which end with the same tail.

    `name`: as in a manifest and the option `envelope`.
    `lead`: what a model writes between the prompt's end and its answer, such as a space.
    `end`: the mark that ends an answer; without one, the vocabulary's end-of-sequence token ends it.
    `general`: whether its models were trained on conversations of all kinds, and not on ECInstruct's answers.
    """

    __slots__ = ()

    name: str
    lead: str
    end: Mark | None
    general: ClassVar[bool] = False

    @property
    @abstractmethod
    def after(self) -> str:
        """The text at a prompt's end, behind its last mark; answers are tokenized as its continuation."""

    @abstractmethod
    def prefix(self, instruction: str) -> Prompt:
        """Return the part of the prompt that all rows with the same instruction share."""

    @abstractmethod
    def wrap(self, instruction: str, text: str, options: str | None = None) -> Prompt:
        """Return the whole prompt of a row; without `options` it has no heading for options."""

    @abstractmethod
    def opening(self, system: str) -> Prompt:
        """Return the part of the prompt that all conversations with the same system message share."""

    @abstractmethod
    def conversation(self, system: str, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt of a conversation; `system` is its system message, empty if it has none."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that the vocabulary must have."""
        return (self.end,) if self.end else ()

    def prompt(self, instruction: str, text: str, options: str | None = None) -> str:
        """Return the whole prompt of a row as one text, with its control tokens spelled out."""
        return str(self.wrap(instruction, text, options))
