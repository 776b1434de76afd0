"""The text around a row's text in a prompt: eCeLLM's own envelopes, and the chat forms of open models.

An envelope is data, not a template language: nothing in a row or an instruction is interpreted, and a model's own chat
template is never rendered when the model runs.
"""

from __future__ import annotations

from ecellm_lite.envelopes.chat_forms import CHAT_FORMS
from ecellm_lite.envelopes.ecinstruct import ALPACA, MISTRAL, OPENING, RESPONSE
from ecellm_lite.envelopes.envelope import Envelope, Turn
from ecellm_lite.envelopes.prompt import Mark, Prompt
from ecellm_lite.errors import UsageError

__all__ = [
    "ALPACA",
    "ENVELOPES",
    "MISTRAL",
    "OPENING",
    "RESPONSE",
    "Envelope",
    "Mark",
    "Prompt",
    "Turn",
    "get_envelope",
]

ENVELOPES: dict[str, Envelope] = {envelope.name: envelope for envelope in (ALPACA, MISTRAL, *CHAT_FORMS)}


def get_envelope(name: str) -> Envelope:
    """Return the envelope of that name; raises UsageError with the available names if there is none."""
    try:
        return ENVELOPES[name]
    except KeyError:
        step = f"use one of {', '.join(ENVELOPES)}"
        raise UsageError(f"There is no envelope {name!r}", step=step, settings=("envelope",)) from None


def envelope_step() -> str:
    """Return what to do if a model's envelope is unknown, as an error's step."""
    return f"give the envelope: {', '.join(ENVELOPES)}"
