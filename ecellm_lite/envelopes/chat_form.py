"""A chat form: an envelope with the control tokens and texts around each turn of a conversation.

A chat form is plain data, so no template has to be run. Its prompts have the same text as the prompts of the model's
own chat template. They also have the token ids that transformers returns from `apply_chat_template` with
`add_generation_prompt=True`. convert/chat_template.py finds the chat form of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ecellm_lite.envelopes.envelope import Envelope, Turn, WorkedExample
from ecellm_lite.envelopes.prompt import ControlToken, Part, Prompt, control_tokens_of, joined


@dataclass(frozen=True, slots=True)
class TurnForm:
    """What comes before and after the text of a turn in a conversation: control tokens and fixed text."""

    before: tuple[Part, ...]
    after: tuple[Part, ...]

    def parts(self, text: str) -> tuple[Part, ...]:
        """Return the control tokens and texts of a turn with the text `text`."""
        return (*self.before, text, *self.after)


@dataclass(frozen=True, slots=True)
class ChatForm(Envelope):
    """A chat form: the control tokens and texts around each turn of a conversation, such as those of Qwen2.5.

    `user`, `assistant`, `system`: the control tokens and texts before and after a turn of this role. If `system` is
      None, there is no system turn, and the system message is put into a user turn (see `folded`).
    `folded`: if `system` is None, which user turn gets the system message: the first or the last. The message and an
      empty line are put before the turn's text.
    `tail`: the control tokens and texts after the last turn. The model's answer follows them.
    `end`: the control token that ends an answer.
    `head`: the control tokens and texts before the first turn.
    `default`: the system message that is used if a conversation has none. If `default` is None, such a conversation
      gets no system turn.
    `trims`: whether white space around a turn's text is removed.
    `lead`: the text that a model writes before its answer, such as a space.
    """

    name: str
    user: TurnForm
    assistant: TurnForm
    tail: tuple[Part, ...]
    end: ControlToken
    system: TurnForm | None = None
    head: tuple[Part, ...] = ()
    default: str | None = None
    folded: Literal["first", "last"] = "first"
    trims: bool = False
    lead: str = ""
    general: ClassVar[bool] = True

    @property
    def prompt_end(self) -> str:
        """The text after the last control token of a prompt."""
        text = ""
        for part in self.tail:
            text = text + part if isinstance(part, str) else ""
        return text

    @property
    def control_tokens(self) -> tuple[ControlToken, ...]:
        """The distinct control tokens of the form."""
        turn_forms = [form for form in (self.system, self.user, self.assistant) if form]
        parts = [part for form in turn_forms for part in (*form.before, *form.after)]
        return tuple(dict.fromkeys(control_tokens_of([*self.head, *parts, *self.tail, self.end])))

    def prefix(self, instruction: str, examples: Sequence[WorkedExample] = ()) -> Prompt:
        """Return the beginning of the prompt, which is the same for all rows with the same instruction and examples."""
        text = f"{instruction}\n\nInput:\n"
        parts = list(self._start(""))
        for turn in _turns(instruction, examples):
            parts += self._around(turn).parts(self._text(turn))
        return Prompt(joined((*parts, *self.user.before, text.lstrip() if self.trims else text)))

    def wrap(
        self, instruction: str, text: str, options: str | None = None, examples: Sequence[WorkedExample] = ()
    ) -> Prompt:
        """Return the whole prompt of a row. The user's last turn has the instruction, the text and the options.

        Before this turn, there are two turns for each example: a user's turn in the same form, and the model's turn
        with the example's answer.
        """
        row = Turn("user", task_text(instruction, text, options))
        return self.conversation("", [*_turns(instruction, examples), row])

    def opening(self, system: str) -> Prompt:
        """Return the beginning of the prompt, which is the same for all conversations with the same system message."""
        folded = f"{system}\n\n" if system and not self.system and self.folded == "first" else ""
        return Prompt(joined((*self._start(system), *self.user.before, folded)))

    def conversation(self, system: str, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt of a conversation. The model's answer follows it."""
        texts = [self._text(turn) for turn in turns]
        users = [place for place, turn in enumerate(turns) if turn.role == "user"]
        if system and not self.system and users:
            place = users[0] if self.folded == "first" else users[-1]
            texts[place] = f"{system}\n\n{texts[place]}"
        parts = list(self._start(system))
        for turn, text in zip(turns, texts, strict=True):
            parts += self._around(turn).parts(text)
        return Prompt(joined((*parts, *self.tail)))

    def _around(self, turn: Turn) -> TurnForm:
        return self.user if turn.role == "user" else self.assistant

    def _text(self, turn: Turn) -> str:
        return turn.text.strip() if self.trims else turn.text

    def _start(self, system: str) -> tuple[Part, ...]:
        """Return the control tokens and texts before the first turn of the user or the model."""
        text = system.strip() if self.trims else system
        if self.system is None or not (text or self.default is not None):
            return self.head
        return (*self.head, *self.system.parts(text or self.default or ""))


def task_text(instruction: str, text: str, options: str | None) -> str:
    """Return the text of the user's turn for a row: the instruction, the row's text and the options."""
    listed = f"\n\nOptions:\n{options}" if options else ""
    return f"{instruction}\n\nInput:\n{text}{listed}"


def _turns(instruction: str, examples: Sequence[WorkedExample]) -> list[Turn]:
    """Return two turns for each example: one in which the user asks, and one in which the model answers."""
    turns: list[Turn] = []
    for each in examples:
        turns += Turn("user", task_text(instruction, each.text, each.options)), Turn("assistant", each.answer)
    return turns
