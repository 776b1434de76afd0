"""Reads dates as they are written in product texts, with the package dateutil.

A date must have a day, a month, and a year of four digits. dateutil would fill in missing parts, so this module refuses
incomplete dates. It also refuses ranges such as 3-5 April 2025. 03/04/2025 could mean April 3 or March 4. If
`day_first` is True, it is read as April 3; if False, as March 4; if None, it is refused. A date that begins with the
year is always read as year, month, day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from importlib import import_module
from typing import Any

from ecellm_lite.answers.numbers import UnreadableError, cleaned
from ecellm_lite.errors import UsageError

# A time's seconds, AM and time zone may follow. A second date may not.
_TIME = r"\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:[A-Za-z ]*| ?[+-]\d{2}:?\d{2})"
_ISO = re.compile(rf"(\d{{4}})([-/. ])(\d{{1,2}})\2(\d{{1,2}})(?:[T ]{_TIME})?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})()(\d{2})(\d{2})", re.ASCII)
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})\W{1,3}(\d{1,2})\W{1,3}(\d{1,2})(?!\d)", re.ASCII)
_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20|21)\d{2}(?!\d)", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)

# They differ in all parts, so a date is complete if both give the same one. The days are more than a week apart,
# because dateutil goes on to the next Friday if a text has a Friday and no day.
_DEFAULTS = (datetime(2000, 1, 1), datetime(1999, 2, 15))


@dataclass(frozen=True, slots=True)
class DateReader:
    """Reads dates. `day_first`: true if 03/04/2025 means April 3, and false if it means March 4.

    If `day_first` is None, such a date is an error.
    """

    day_first: bool | None = None

    @property
    def description(self) -> str:
        """The words "a date", for an error message."""
        return "a date"

    def read(self, text: str) -> str:
        """Return the date as YYYY-MM-DD.

        Raises UnreadableError if the text is not a date, or if it is ambiguous, such as 03/04/2025.
        """
        text = cleaned(text)
        if match := _ISO.fullmatch(text) or _COMPACT.fullmatch(text):
            try:
                return date(int(match[1]), int(match[3]), int(match[4])).isoformat()
            except ValueError:
                raise UnreadableError("there is no such day") from None
        years = _YEAR.findall(text)
        if len(years) != 1 or len(_DIGITS.findall(text)) > 3:
            raise UnreadableError("it is not a date with a year of four digits")
        orders = (True, False) if self.day_first is None else (self.day_first,)
        year_first = _YEAR_FIRST.search(text)
        if year_first:
            text, orders = text.replace(year_first[0], "-".join(year_first.groups())), (False,)
        dates = {_parsed(text, day_first, default, int(years[0])) for day_first in orders for default in _DEFAULTS}
        if len({_parsed(text, orders[0], default, int(years[0])) for default in _DEFAULTS}) > 1:
            raise UnreadableError("it lacks the day or the month")
        if len(dates) > 1:
            raise UnreadableError("either the day or the month could come first; set day_first to decide")
        return dates.pop().isoformat()


def _parsed(text: str, day_first: bool, default: datetime, year: int) -> date:
    """Return the date in a text. `year` is the year that the text contains.

    `default` is the date from which dateutil fills in missing parts. Raises UnreadableError if the text has no date, or
    more than one.
    """
    try:
        parsed: datetime = date_parser().parse(text, dayfirst=day_first, default=default, ignoretz=True)
    except (ValueError, OverflowError, TypeError, AttributeError, ArithmeticError):
        raise UnreadableError("it is not a date") from None
    # dateutil reads the 3 of 3-5 April 2025 as the year, and 2025 as the time 20:25.
    if parsed.year != year or (parsed.hour, parsed.minute) == divmod(year, 100):
        raise UnreadableError("it is not one date")
    return parsed.date()


def date_parser() -> Any:
    """Return dateutil's parser. Raises UsageError if dateutil is not installed."""
    try:
        return import_module("dateutil.parser")
    except ImportError:
        raise UsageError("Dates need python-dateutil", step="run `pip install 'ecellm-lite[units]'`") from None
