"""Recognizes the single-byte encoding of European text by the alphabets of single languages.

A text that is decoded in a wrong encoding may still consist of letters. For example, the Czech letters of Windows-1250
become other accented letters in Windows-1252. But such a text has faults: letters that no single language has together,
a capital after a small letter, or a sign such as `£` inside a word.
"""

from __future__ import annotations

import re
from collections import Counter

_LEAST = 0.9  # this share of the characters that are not ASCII must be letters or signs of one language

_WESTERN = (
    "äöüßéèêàçñ",  # German, with letters of foreign words
    "àâæçéèêëîïôœùûüÿ",  # French
    "áéíóúüñçªº",  # Spanish
    "àáèéìíîòóùúªº",  # Italian
    "áâãàçéêíóôõúüªº",  # Portuguese
    "áàçéèêëíïóöüú",  # Dutch
    "åäöéàüšž",  # Swedish, Finnish
    "æøåéèêàòôóäöü",  # Danish, Norwegian
    "àçèéíïòóúüñ",  # Catalan
    "äõöüšž",  # Estonian
)
_CENTRAL = (
    "ąćęłńóśźż",  # Polish
    "áčďéěíňóřšťúůýž",  # Czech
    "áäčďéíĺľňóôŕšťúýž",  # Slovak
    "áéíóöőúüű",  # Hungarian
    "ăâîşţ",  # Romanian
    "čćđšž",  # Croatian, Slovene
)
_BALTIC = (
    "ąčęėįšųūž",  # Lithuanian
    "āčēģīķļņšūž",  # Latvian
)
_TURKISH = ("çğıİöşüâîû",)
_ICELANDIC = ("áðéíóúýþæö",)

# If several fit equally well, the first is chosen.
_ENCODINGS = (
    ("cp1252", _WESTERN), ("cp1250", _CENTRAL), ("cp1254", _TURKISH), ("cp1252", _ICELANDIC), ("cp1257", _BALTIC),
    ("iso8859_15", _WESTERN), ("iso8859_2", _CENTRAL), ("mac_roman", _WESTERN), ("cp850", _WESTERN),
    ("cp437", _WESTERN),
)  # fmt: skip

_WORD = re.compile(r"[^\W\d_]+")
_SIGNS = "\xa0¡¿£€¥¢§©®™°±²³´·½¼¾×«»‘’“”„–—…•"  # noqa: RUF001 (signs of European texts)
_SIGN = re.compile(
    rf"[\u2019\u00b4]|(?<![^\W\d_])[{_SIGNS}]|[{_SIGNS}](?![^\W\d_])"
)  # only apostrophes are inside words


def european_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a sample is text in one European language, or None if no encoding fits."""
    high = sum(1 for byte in sample if byte > 127)
    best, encoding = 0, None
    for codec, alphabets in _ENCODINGS:
        fits, signs = _fitting(sample.decode(codec, "replace"))
        for letters in alphabets:
            count = signs + sum(fits[letter] for letter in {*letters, *letters.upper(), "µ"})
            if count > best:
                best, encoding = count, codec
    return encoding if best >= _LEAST * high else None


def _fitting(text: str) -> tuple[Counter[str], int]:
    """Return how often each non-ASCII letter occurs, and how many signs such as `£` there are.

    A capital after a small letter is not counted. Words of two or more letters are skipped if they have no ASCII
    letter. Signs inside a word are not counted, except apostrophes.
    """
    letters: Counter[str] = Counter()
    for word in _WORD.findall(text):
        if not word.isascii() and (len(word) == 1 or re.search("[A-Za-z]", word)):
            pairs = zip(f" {word}", word, strict=False)
            kept = (letter for before, letter in pairs if not (before.islower() and letter.isupper()))
            letters.update(letter for letter in kept if not letter.isascii())
    return letters, sum(1 for _ in _SIGN.finditer(text))
