"""Reads numbers as they are written in product texts: `20`, `1,234.5`, `0,5`, `1/2`, `1 ½` and `1-1/2`.

A number that could be read in two ways is refused. For example, `1,500` is 1500 to some people and 1.5 to others. A
caller can say whether `.` or `,` is the decimal separator. `110/220` is two numbers and not a fraction.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Literal

Decimal = Literal[".", ","]

LONGEST = 64  # characters of a value
MOST_DIGITS = 15  # a float has them all

# Of fractions: those of recipes, of inches, and of Unicode's characters such as ⅖.
_DENOMINATORS = frozenset((2, 3, 4, 5, 6, 8, 16, 32, 64))

# A mixed number or a fraction, or digits with any signs between them.
NUMBER = r"(?:(?:\d+[ -])?\d+/\d+|\d[\d.,]*\d|\d|\.\d+)"

_NUMBER = re.compile(rf"(?P<sign>[+-]?)\s*(?P<number>{NUMBER})", re.ASCII)
_FRACTION = re.compile(r"(?:(\d+)[ -])?(\d+)/(\d+)", re.ASCII)
_DECIMAL_POINT = re.compile(r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)?(?:\.\d+)?", re.ASCII)
_RAISED = re.compile(r"\d[\u00b9\u00b2\u00b3\u2070-\u2079]")

_MARKS = str.maketrans({
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-",
    "\u2032": "'", "\u2018": "'", "\u2019": "'",
    "\u201c": '"', "\u201d": '"',
    "\u2044": "/", "\u00d7": "x",
})  # fmt: skip
_THIN_SPACES = re.compile("(?<=[0-9])[\u2009\u202f](?=[0-9]{3}(?![0-9]))")


class UnreadableError(ValueError):
    """A value that cannot be read, or that could be read in several ways. The message says why."""


def cleaned(text: str) -> str:
    """Return a value with plain spaces, hyphens, quotes and fractions: `1½ in` becomes `1 1/2 in`.

    Raises UnreadableError for a value that is too long, or has a control character or a superscript as in 10².
    """
    if len(text) > LONGEST:
        raise UnreadableError(f"it has more than {LONGEST} characters")
    if any(unicodedata.category(character) == "Cc" and not character.isspace() for character in text):
        raise UnreadableError("it has a control character")
    if _RAISED.search(text):
        raise UnreadableError("it has a power")
    text = _THIN_SPACES.sub("", text).replace("\u00ba", "°").replace("\u02da", "°")
    text = "".join(_as_fraction(character) for character in text)
    text = unicodedata.normalize("NFKC", text).translate(_MARKS).replace("''", '"')
    return " ".join(text.split())


def read_number(text: str, decimal: Decimal | None = None) -> float:
    """Return the number that a text contains. `decimal` says whether `.` or `,` is the decimal separator.

    Raises UnreadableError if the text is not a number. Without `decimal`, it is also raised for a text such as `1,500`,
    which may mean 1500 or 1.5.
    """
    match = _NUMBER.fullmatch(cleaned(text))
    if not match:
        raise UnreadableError("it is not a number")
    value = number_of(match["number"], decimal)
    return -value if match["sign"] == "-" else value


def number_of(number: str, decimal: Decimal | None) -> float:
    """Return the value of a text that matches NUMBER: a number without a sign, or a fraction such as `1 1/2`.

    `decimal` is the decimal separator, `.` or `,`. It is None if the separator is not known.

    Raises UnreadableError for these texts:

    - a text that is not a number, or has too many digits;
    - two numbers with a slash between them, such as `110/220` or `12/16`;
    - without `decimal`, a text such as `1,500`, which may mean 1500 or 1.5.
    """
    if sum(map(str.isdigit, number)) > MOST_DIGITS:
        raise UnreadableError(f"it has more than {MOST_DIGITS} digits")
    if fraction := _FRACTION.fullmatch(number):
        whole, part, parts = (int(group or 0) for group in fraction.groups())
        if part >= parts:
            raise UnreadableError("it is not a number")
        if part != 1 and (parts not in _DENOMINATORS or math.gcd(part, parts) > 1):
            raise UnreadableError("it may be two numbers, and not a fraction")
        return whole + part / parts
    values = {_decimal(number, sign) for sign in ((decimal,) if decimal else (".", ","))} - {None}
    if len(values) > 1:
        raise UnreadableError(f"{number} can be read in two ways; set the decimal sign to decide")
    for value in values:
        if value is not None:
            return value
    raise UnreadableError("it is not a number")


def tidy(value: float) -> float | int:
    """Return a number without rounding errors in its last digits. Whole numbers keep all digits and become ints."""
    if not value.is_integer():
        value = float(f"{value:.12g}")
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _decimal(number: str, sign: str) -> float | None:
    """Return the value of the text `number`. None if the text is not a number with `sign` as its decimal separator.

    If `sign` is `,`, the value of `1.234,5` is 1234.5.
    """
    if sign == ",":
        number = number.translate({ord(","): ".", ord("."): ","})
    return float(number.replace(",", "")) if _DECIMAL_POINT.fullmatch(number) else None


def _as_fraction(character: str) -> str:
    if unicodedata.decomposition(character).startswith("<fraction>"):
        return f" {unicodedata.normalize('NFKC', character)}"
    return character
