"""Text of a row or a file, made harmless for a terminal."""

from __future__ import annotations

import re

# Control characters, which a terminal obeys (but line feeds and tabs), and marks that turn the direction of writing.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return the text with U+FFFD for each character that would move a cursor, ring a bell or turn text around."""
    return _OBEYED.sub("\ufffd", text)
