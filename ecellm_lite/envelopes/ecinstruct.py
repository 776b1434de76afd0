r"""eCeLLM's two envelopes: byte for byte what its weights were trained on.

Source: `templates/` of ninglab/eCeLLM and the ECInstruct data set (Peng et al., arXiv 2402.08831; CC-BY-4.0). CASLIE's
code has the same two.

>>> ALPACA.prompt("Say yes or no.", "Is it blue?")[-40:]
'\n\n### Input:\nIs it blue?\n\n### Response:\n'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.envelopes.envelope import Envelope, Turn
from ecellm_lite.envelopes.prompt import Mark, Prompt

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
    """Plain text under headings: an instruction, its input and the options; every prompt ends with `tail`."""

    name: str
    head: str
    tail: str
    lead: str = ""
    end: Mark | None = None

    @property
    def after(self) -> str:
        """The last line of a prompt."""
        return RESPONSE

    def prefix(self, instruction: str) -> Prompt:
        """Return the part of the prompt that all rows with the same instruction share."""
        return Prompt((f"{self.head}### Instruction:\n{instruction}\n\n### Input:\n",), begin=True)

    def wrap(self, instruction: str, text: str, options: str | None = None) -> Prompt:
        """Return the whole prompt of a row; without `options` it has no heading for options."""
        listed = f"\n\n### Options:\n{options}" if options else ""
        return Prompt((f"{self.prefix(instruction)}{text}{listed}\n\n{self.tail}",), begin=True)

    def opening(self, system: str) -> Prompt:
        """Return the part of the prompt that all conversations with the same system message share."""
        return self.prefix(system or ANSWER)

    def conversation(self, system: str, turns: Sequence[Turn]) -> Prompt:
        """Return a conversation's prompt: the system message is the instruction, and the input names each turn's role.

        A single turn is the input unchanged.
        """
        text = "\n\n".join(f"{turn.role}: {turn.text}" for turn in turns) if len(turns) != 1 else turns[0].text
        return self.wrap(system or ANSWER, text)


ALPACA = HeadingsEnvelope("alpaca", OPENING, RESPONSE)

# `[INST]` and `[/INST]` are plain text to the tokenizer, and the space before `[/INST]` is part of the format.
MISTRAL = HeadingsEnvelope("mistral", f"[INST] {OPENING}", f" [/INST] {RESPONSE}")
