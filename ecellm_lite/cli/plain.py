"""Makes text from a row or a file harmless for a terminal."""

from __future__ import annotations

import re

# Control characters that a terminal obeys (except line feeds and tabs), and marks that change the writing direction.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return the text with U+FFFD for each character that would move the cursor, ring a bell or reverse text."""
    return _OBEYED.sub("\ufffd", text)
