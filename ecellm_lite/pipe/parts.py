"""Sends a growing text in parts, and joins the parts on the other side."""

from __future__ import annotations

from functools import partial

from ecellm_lite.pipe.lines import Output
from ecellm_lite.pipe.messages import Id, line_of


class Parts:
    """A listener that sends each new part of a text.

    If the reader is too slow, a part waits and is sent together with the next one.
    """

    def __init__(self, id_: Id, output: Output) -> None:
        self._id = id_
        self._output = output
        self._sent = 0

    def __call__(self, text: str) -> None:
        """Send the part of the text that was not sent before."""
        message = {"type": "part", "id": self._id, "start": self._sent, "text": text[self._sent :]}
        if self._output.offer(partial(line_of, message)):
            self._sent = len(text)


def joined(text: str, start: int, part: str) -> str:
    """Return the text so far, extended by a part that begins at character `start`.

    A restarted child sends the text again from its beginning; a part that is in the text already changes nothing.
    """
    return text if start + len(part) <= len(text) else text[:start] + part
