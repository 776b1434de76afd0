"""What a calibration applies to: the task, model, envelope, instruction and options that it was fitted for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """The task, answer type, model, envelope, instruction and options that a calibration was fitted for.

    `model`: the sha256 of the model's file.
    `instruction`: a hash of the instruction, and of the worked examples if there are any.
    `options`: a hash of the options or, if the prompt does not list them, of all possible labels. None if the task has
      no options, or if each row has its own.
    `adapter`: the sha256 of the adapter, or None for the model alone.
    """

    task: str
    type: str
    model: str
    envelope: str
    instruction: str
    options: str | None
    adapter: str | None = None

    def differs(self, other: Scope, subject: str = "the task") -> str | None:
        """Return why a calibration with this scope cannot be used for another scope, or None if it can be used.

        The reason is, for example, "the row has other options than it was fitted with", where "it" is the calibration.
        `subject` is "the row" or "the task".
        """
        if reason := self.differs_in_model(other.model, other.envelope, other.adapter):
            return reason
        if self.task != other.task:
            return f"it is for the task {self.task}, not {other.task}"
        if self.instruction != other.instruction:
            return f"{subject} has another instruction, or other worked examples, than it was fitted with"
        if self.options is not None and self.options != other.options:
            return f"{subject} has other options than it was fitted with"
        if self.type != other.type:
            return f"it is for answers of type {self.type}, not {other.type}"
        return None

    def differs_in_model(self, model: str, envelope: str, adapter: str | None = None) -> str | None:
        """Return how this model, envelope or adapter differs from the one that the calibration is for.

        If all three are the same, return None. `model` and `adapter` are sha256s.
        """
        if self.model != model:
            return f"it is for the model {self.model[:8]}, and this one is {model[:8] or 'unknown'}"
        if self.envelope != envelope:
            return f"it is for the envelope {self.envelope}, and this one is {envelope}"
        if self.adapter != adapter:
            own, other = (f"the adapter {one[:8]}" if one else "no adapter" for one in (self.adapter, adapter))
            return f"it was fitted with {own}, and {other} is used"
        return None


def text_hash(text: str) -> str:
    """Return the sha256 of an instruction or of options, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
