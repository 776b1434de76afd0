"""Envelopes: an envelope is the text around a row's text in a prompt.

Two envelopes are eCeLLM's formats, and the others are the chat forms of open models. An envelope consists of fixed
texts. It is not a template, so nothing in a row or an instruction is interpreted. A model's own chat template is never
rendered when the model runs.
"""

from __future__ import annotations

from ecellm_lite.envelopes.chat_forms import CHAT_FORMS
from ecellm_lite.envelopes.ecinstruct import ALPACA, MISTRAL, OPENING, RESPONSE
from ecellm_lite.envelopes.envelope import Envelope, Turn, WorkedExample
from ecellm_lite.envelopes.prompt import ControlToken, Prompt
from ecellm_lite.errors import UsageError

__all__ = [
    "ALPACA",
    "ENVELOPES",
    "MISTRAL",
    "OPENING",
    "RESPONSE",
    "ControlToken",
    "Envelope",
    "Prompt",
    "Turn",
    "WorkedExample",
    "get_envelope",
]

ENVELOPES: dict[str, Envelope] = {envelope.name: envelope for envelope in (ALPACA, MISTRAL, *CHAT_FORMS)}


def get_envelope(name: str) -> Envelope:
    """Return the envelope of this name. For an unknown name, raises UsageError with the list of names."""
    try:
        return ENVELOPES[name]
    except KeyError:
        step = f"use one of {', '.join(ENVELOPES)}"
        raise UsageError(f"There is no envelope {name!r}", step=step, settings=("envelope",)) from None


def envelope_step() -> str:
    """Return the advice, with the names in ENVELOPES, for an error about a model whose envelope is unknown."""
    return f"give the envelope: {', '.join(ENVELOPES)}"
