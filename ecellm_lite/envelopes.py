r"""The text around a task's text: what eCeLLM's weights were trained to see, to the byte.

An envelope is data, not a template language: nothing in a row or an instruction is interpreted, and no chat
template that came with a model is ever rendered. Source: `templates/` of ninglab/eCeLLM and the ECInstruct
data set (Peng et al., arXiv 2402.08831; CC-BY-4.0).

>>> ALPACA.prompt("Say yes or no.", "Is it blue?")[-39:]
'\n\n### Input:\nIs it blue?\n\n### Response:\n'
"""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.errors import UsageError

# ECInstruct (NingLab, CC-BY-4.0): one opening for all envelopes.
OPENING = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fixed text around an instruction, an input and its options; the prompt ends with the newline of `tail`."""

    name: str
    head: str
    tail: str

    def prefix(self, instruction: str) -> str:
        """Return the prompt's part that all rows of one task and one instruction share."""
        return f"{self.head}### Instruction:\n{instruction}\n\n### Input:\n"

    def prompt(self, instruction: str, text: str, options: str | None = None) -> str:
        """Return the whole prompt; `options` is left out, with its heading, where it is None or empty."""
        listed = f"\n\n### Options:\n{options}" if options else ""
        return f"{self.prefix(instruction)}{text}{listed}\n\n{self.tail}"


# The line that every prompt ends with, and so what every answer is tokenized after.
RESPONSE = "### Response:\n"

ALPACA = Envelope("alpaca", OPENING, RESPONSE)

# `[INST]` and `[/INST]` are plain text to the tokenizer, and the space before `[/INST]` belongs to the format.
MISTRAL = Envelope("mistral", f"[INST] {OPENING}", f" [/INST] {RESPONSE}")

ENVELOPES = {envelope.name: envelope for envelope in (ALPACA, MISTRAL)}


def get_envelope(name: str) -> Envelope:
    """Return the envelope of that name, or raise UsageError with the names there are."""
    try:
        return ENVELOPES[name]
    except KeyError:
        step = f"use one of {', '.join(ENVELOPES)}"
        raise UsageError(f"There is no envelope {name!r}", step=step, settings=("envelope",)) from None
