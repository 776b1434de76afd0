"""The lines that explain an answer, as plain data. A terminal or a web page draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer


@dataclass(frozen=True, slots=True)
class Detail:
    """One line of an answer's details: a label, a probability to draw as a bar, and optionally a text and a note.

    A line is highlighted if `chosen` is true. The texts may come from a row, so a page that shows them must escape
    them.
    """

    label: str
    text: str = ""
    note: str = ""
    share: float | None = None
    chosen: bool = False


def bars(answer: Answer, labels: Mapping[str, str] | None = None) -> tuple[Detail, ...]:
    """Return one line for each of an answer's probabilities.

    A line shows the key's text from `labels`, or the key itself if `labels` has no text for it.
    """
    probabilities, labels = answer.probabilities or {}, labels or {}
    return tuple(
        Detail(labels.get(key, key), share=share, chosen=share == answer.probability and not answer.abstained)
        for key, share in probabilities.items()
    )
