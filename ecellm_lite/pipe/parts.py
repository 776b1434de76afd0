"""Sends a text in parts while the model writes it, and joins the parts in the process that receives them."""

from __future__ import annotations

from functools import partial

from ecellm_lite.pipe.lines import Output
from ecellm_lite.pipe.messages import Id, line_of


class Parts:
    """A listener that sends each new part of a text. It is called with the whole text so far.

    If the reader is too slow, a part is sent later, together with the next part.
    """

    def __init__(self, id_: Id, output: Output) -> None:
        self._id = id_
        self._output = output
        self._sent = 0

    def __call__(self, text: str) -> None:
        """Send the new characters of `text`, which is the whole text so far."""
        message = {"type": "part", "id": self._id, "start": self._sent, "text": text[self._sent :]}
        if self._output.offer(partial(line_of, message)):
            self._sent = len(text)


def joined(text: str, start: int, part: str) -> str:
    """Join `part` to `text`. `start` is the position of the part's first character in the whole text.

    A child process that replaces a dead one sends the text again from the beginning. If `text` already contains `part`,
    `text` is returned unchanged.
    """
    return text if start + len(part) <= len(text) else text[:start] + part
