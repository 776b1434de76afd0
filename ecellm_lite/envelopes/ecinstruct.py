r"""eCeLLM's two envelopes. They make exactly the prompts that eCeLLM was trained on.

Source: `templates/` of ninglab/eCeLLM and the ECInstruct data set (Peng et al., arXiv 2402.08831; CC-BY-4.0). CASLIE's
code has the same two envelopes.

>>> ALPACA.prompt("Say yes or no.", "Is it blue?")[-40:]
'\n\n### Input:\nIs it blue?\n\n### Response:\n'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.envelopes.envelope import Envelope, Turn, WorkedExample
from ecellm_lite.envelopes.prompt import ControlToken, Prompt

OPENING = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)

# The last line of every prompt; answers are tokenized after it.
RESPONSE = "### Response:\n"

# The instruction of a conversation without a system message.
ANSWER = "Answer the user."


@dataclass(frozen=True, slots=True)
class HeadingsEnvelope(Envelope):
    """An envelope of plain text with headings for the instruction, the input and the options.

    `tail` is the end of every prompt.
    """

    name: str
    head: str
    tail: str
    lead: str = ""
    end: ControlToken | None = None

    @property
    def prompt_end(self) -> str:
        """The last line of a prompt."""
        return RESPONSE

    def prefix(self, instruction: str, examples: Sequence[WorkedExample] = ()) -> Prompt:
        """Return the beginning of the prompt, which is the same for all rows with the same instruction and examples."""
        shown = "".join(
            f"### Input:\n{_input(each.text, each.options)}\n\n{RESPONSE}{each.answer}\n\n" for each in examples
        )
        return Prompt((f"{self.head}### Instruction:\n{instruction}\n\n{shown}### Input:\n",), begin=True)

    def wrap(
        self, instruction: str, text: str, options: str | None = None, examples: Sequence[WorkedExample] = ()
    ) -> Prompt:
        """Return the whole prompt of a row. Without `options`, it has no heading for options."""
        return Prompt((f"{self.prefix(instruction, examples)}{_input(text, options)}\n\n{self.tail}",), begin=True)

    def opening(self, system: str) -> Prompt:
        """Return the beginning of the prompt, which is the same for all conversations with the same system message."""
        return self.prefix(system or ANSWER)

    def conversation(self, system: str, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt of a conversation.

        The instruction is the system message, and the input is the text of the turns. Each turn begins with its role,
        as in `user: Hello`. If there is only one turn, the role is left out.
        """
        text = "\n\n".join(f"{turn.role}: {turn.text}" for turn in turns) if len(turns) != 1 else turns[0].text
        return self.wrap(system or ANSWER, text)


def _input(text: str, options: str | None) -> str:
    return f"{text}\n\n### Options:\n{options}" if options else text


ALPACA = HeadingsEnvelope("alpaca", OPENING, RESPONSE)

# `[INST]` and `[/INST]` are plain text to the tokenizer, and the space before `[/INST]` is part of the format.
MISTRAL = HeadingsEnvelope("mistral", f"[INST] {OPENING}", f" [/INST] {RESPONSE}")
