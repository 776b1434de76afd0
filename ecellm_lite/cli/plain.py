"""Makes the text of a row or a file safe to show: characters that could control a terminal are replaced."""

from __future__ import annotations

import re

# Control characters (except line feeds and tabs), and marks that change the writing direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Put U+FFFD in place of each character that could control the terminal or reverse the text's direction."""
    return _CONTROLS.sub("\ufffd", text)
