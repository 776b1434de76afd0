"""Converts queries and titles to ASCII for the tasks MPC, PSI and QPR, whose training data are ASCII.

ECInstruct's authors normalized these texts with NFKD, and then dropped all characters outside ASCII: `Café ™` became
`Cafe TM`. This module does the same, with one exception. It replaces some characters that NFKD would lose: `ß` becomes
`ss`, and `¼` becomes `1/4`. The replaced characters are Latin letters, fractions, digits, dashes, quotes, operators,
currencies and units.

Letters and digits of other scripts are dropped and counted. They are not romanized, because no model was trained on
romanized words. Symbols such as `★` and `®` are dropped and not counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from anyascii import anyascii

from ecellm_lite.answers.answer import AnswerWarning

# Signs as shops mean them; the library would write what they look like, and NFKD would write other letters.
_SIGNS = {"×": "x", "″": '"', "´": "'", "°": "deg", "µ": "u", "\u2126": "ohm", "\u2044": "/"}

# A single Greek letter is a unit; in a Greek word it is a letter.
_UNITS = re.compile(r"(?<![\u0370-\u03ff\u1f00-\u1fff])[μΩ](?![\u0370-\u03ff\u1f00-\u1fff])")
_UNIT = {"μ": "µ", "Ω": "\u2126"}

# Numbers, punctuation, spaces, operators and currencies, by Unicode's categories.
_WRITTEN_OUT = ("N", "P", "Z", "Sm", "Sc")


class Transliteration:
    """Converts the texts of one row to ASCII, and counts the letters and digits that were dropped."""

    def __init__(self) -> None:
        self._dropped: dict[str, int] = {}
        self._emptied: list[str] = []

    def write(self, place: str, text: str) -> str:
        """Return a text in ASCII. `place` names the text in the warning, as in `products[2]`.

        >>> Transliteration().write("query", "Größe 1½–2 µm")
        'Grosse 1 1/2-2 um'
        """
        if text.isascii():
            return text
        ascii_text, dropped = _ascii(text)
        if dropped:
            self._dropped[place] = dropped
        if not ascii_text.strip():
            self._emptied.append(place)
        return ascii_text

    @property
    def warnings(self) -> Sequence[AnswerWarning]:
        """A list with a warning that counts the dropped letters and digits.

        The list is empty if nothing was dropped.
        """
        if not self._dropped:
            return ()
        total = sum(self._dropped.values())
        message = f"{total:,} {'letter' if total == 1 else 'letters'} without an ASCII form dropped from "
        message += _listed(list(self._dropped))
        if self._emptied:
            message += f"; nothing is left of {_listed(self._emptied)}"
        return (AnswerWarning("characters_dropped", f"{message}."),)


def _ascii(text: str) -> tuple[str, int]:
    """Return a text in ASCII, and how many of its letters and digits were dropped."""
    parts: list[str] = []
    dropped = 0
    for character in _UNITS.sub(lambda unit: _UNIT[unit[0]], text):
        part = _written_out(character)
        if "/" in part and parts and parts[-1][-1:].isdigit() and part[0].isdigit():
            parts.append(" ")  # 1½ is not 11/2
        parts.append(part)
        dropped += not part and unicodedata.category(character)[0] in "LN"
    return "".join(parts), dropped


@lru_cache(maxsize=1 << 12)
def _written_out(character: str) -> str:
    """Return a character in ASCII, or an empty text if the character is dropped."""
    if character in _SIGNS:
        return _SIGNS[character]
    decomposed = [part for part in unicodedata.normalize("NFKD", character) if unicodedata.category(part)[0] != "M"]
    if all(part.isascii() or part in _SIGNS for part in decomposed):
        return "".join(_SIGNS.get(part, part) for part in decomposed)
    category = unicodedata.category(character)
    name = unicodedata.name(character, "")
    if not category.startswith(_WRITTEN_OUT) and not name.startswith(("LATIN ", "MODIFIER LETTER ")):
        return ""
    # The library treats some operators as emoji, such as `:left_right_arrow:`.
    text = anyascii(character)
    return text if len(text) == 1 or not text.startswith(":") else ""


def _listed(places: Sequence[str]) -> str:
    listed = ", ".join(places[:5])
    return f"{listed} and {len(places) - 5} more" if len(places) > 5 else listed
