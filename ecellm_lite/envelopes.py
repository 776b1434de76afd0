r"""The text around a row's text in a prompt: byte for byte what eCeLLM's weights were trained on.

An envelope is data and not a template language: nothing in a row or an instruction is interpreted, and a model's own
chat template is never rendered. The source is `templates/` of ninglab/eCeLLM and the ECInstruct data set (Peng et al.,
arXiv 2402.08831; CC-BY-4.0).

>>> ALPACA.prompt("Say yes or no.", "Is it blue?")[-40:]
'\n\n### Input:\nIs it blue?\n\n### Response:\n'
"""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.errors import UsageError

# ECInstruct (NingLab, CC-BY-4.0): all envelopes open with this text.
OPENING = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fixed text around an instruction, an input and its options; every prompt ends with `tail`."""

    name: str
    head: str
    tail: str

    def prefix(self, instruction: str) -> str:
        """Return the part of the prompt that all rows with the same instruction share."""
        return f"{self.head}### Instruction:\n{instruction}\n\n### Input:\n"

    def prompt(self, instruction: str, text: str, options: str | None = None) -> str:
        """Return the whole prompt. Without `options`, it has no heading for options."""
        listed = f"\n\n### Options:\n{options}" if options else ""
        return f"{self.prefix(instruction)}{text}{listed}\n\n{self.tail}"


# The last line of every prompt; answers are tokenized after it.
RESPONSE = "### Response:\n"

ALPACA = Envelope("alpaca", OPENING, RESPONSE)

# `[INST]` and `[/INST]` are plain text to the tokenizer, and the space before `[/INST]` is part of the format.
MISTRAL = Envelope("mistral", f"[INST] {OPENING}", f" [/INST] {RESPONSE}")

ENVELOPES = {envelope.name: envelope for envelope in (ALPACA, MISTRAL)}


def get_envelope(name: str) -> Envelope:
    """Return the envelope of that name. If there is none, raises UsageError with the available names."""
    try:
        return ENVELOPES[name]
    except KeyError:
        step = f"use one of {', '.join(ENVELOPES)}"
        raise UsageError(f"There is no envelope {name!r}", step=step, settings=("envelope",)) from None
