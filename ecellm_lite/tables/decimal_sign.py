"""Finds out whether a table's numbers have a decimal comma, as in `19,90`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ecellm_lite.answers.numbers import NUMBER, Decimal, UnreadableError, number_of

# A number, with a sign, a currency or a unit before or behind it: `-5,50`, `€ 19,90` or `2,5 kg`.
_CELL = re.compile(rf"[^\d\s.,]{{0,4}}\s?({NUMBER})\s?[^\d\s.,]{{0,4}}", re.ASCII)


def has_decimal_commas(cells: Iterable[str], delimiter: str | None) -> bool:
    """Return whether the numbers in the cells of delimited text have a decimal comma.

    The more frequent decimal sign counts. Numbers that could be read in two ways, such as `1,500`, are ignored. If
    commas and points are equally frequent, or there are none, the result is True only if the delimiter is a semicolon:
    spreadsheet programs use this delimiter where the decimal sign is a comma. If the delimiter is a comma, texts such
    as `38,40` may be lists, so the result is False.
    """
    if delimiter == ",":
        return False
    commas = points = 0
    for cell in cells:
        if match := _CELL.fullmatch(cell.strip()):
            comma, point = _is_number(match[1], ","), _is_number(match[1], ".")
            commas += comma and not point
            points += point and not comma
    return commas > points or (commas == points and delimiter == ";")


def _is_number(text: str, sign: Decimal) -> bool:
    """Return whether a text is a number if `sign` is the decimal sign."""
    try:
        number_of(text, sign)
    except UnreadableError:
        return False
    return True
