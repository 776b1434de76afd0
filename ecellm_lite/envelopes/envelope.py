"""The base class of all envelopes. An envelope is the text around a row's text in a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from ecellm_lite.envelopes.prompt import ControlToken, Prompt

Role: TypeAlias = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation: the text of the user or of the model."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """An example for the model, placed before the row's own text. It has a text, options and the right answer."""

    text: str
    options: str | None
    answer: str


class Envelope(ABC):
    """Makes prompts from rows and conversations. All prompts of an envelope end with the same text.

    `name`: the envelope's name in manifests and in the option `envelope`.
    `lead`: the text that a model writes before its answer, such as a space.
    `end`: the control token that ends an answer. None stands for the vocabulary's end-of-sequence token.
    `general`: whether the envelope's models were trained on general conversations, and not on ECInstruct's answers.
    """

    __slots__ = ()

    name: str
    lead: str
    end: ControlToken | None
    general: ClassVar[bool] = False

    @property
    @abstractmethod
    def prompt_end(self) -> str:
        """The text after the last control token of a prompt. The answer is tokenized together with this text."""

    @abstractmethod
    def prefix(self, instruction: str, examples: Sequence[WorkedExample] = ()) -> Prompt:
        """Return the beginning of the prompt, which is the same for all rows with the same instruction and examples."""

    @abstractmethod
    def wrap(
        self, instruction: str, text: str, options: str | None = None, examples: Sequence[WorkedExample] = ()
    ) -> Prompt:
        """Return the whole prompt of a row. Without `options`, the prompt has no heading for options."""

    @abstractmethod
    def opening(self, system: str) -> Prompt:
        """Return the beginning of the prompt, which is the same for all conversations with the same system message."""

    @abstractmethod
    def conversation(self, system: str, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt of a conversation. `system` is the system message, or empty if there is none."""

    @property
    def control_tokens(self) -> tuple[ControlToken, ...]:
        """The control tokens that the model's vocabulary must have."""
        return (self.end,) if self.end else ()

    def prompt(
        self, instruction: str, text: str, options: str | None = None, examples: Sequence[WorkedExample] = ()
    ) -> str:
        """Return the whole prompt of a row as one text, with its control tokens written as text."""
        return str(self.wrap(instruction, text, options, examples))
