"""A text on its way, part by part: what one side writes while it grows, and what the other puts together again."""

from __future__ import annotations

from functools import partial

from ecellm_lite.pipe.lines import Output
from ecellm_lite.pipe.messages import Id, line_of


class Parts:
    """A listener that sends what a text has grown by; a part that a slow reader has no room for comes with the next."""

    def __init__(self, id_: Id, output: Output) -> None:
        self._id = id_
        self._output = output
        self._sent = 0

    def __call__(self, text: str) -> None:
        """Send the rest of a text that has grown."""
        message = {"type": "part", "id": self._id, "start": self._sent, "text": text[self._sent :]}
        if self._output.offer(partial(line_of, message)):
            self._sent = len(text)


def joined(text: str, start: int, part: str) -> str:
    """Return a text with a part that begins at `start`; a child that was restarted begins again."""
    return text if start + len(part) <= len(text) else text[:start] + part
