"""Shortens a row that is too long for the context: cuts the task's long fields as little as possible.

Only descriptive texts, such as a review, and the oldest items of a history are cut. Questions, titles, queries,
attributes and candidates are never cut. The products of a ranking are not cut either, because the answer must name all
of them. Each field keeps at least one word or item. The same row and context always give the same cut.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from ecellm_lite.tasks.fields import Joined

# Without spaces, as in Japanese, this many characters count as one word.
LONGEST_WORD = 32

_WORD = re.compile(rf"\S{{1,{LONGEST_WORD}}}")

# Interpolation finds a cut in about five tries; for a text with very uneven parts, bisection follows after these.
_TRIES = 8

# A row's fields by name, checked and in their form.
Values = Mapping[str, Any]


class Long(Protocol):
    """Fields of a row that may be cut. A cut removes some of their parts (words or items), in a fixed order."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields. A field inside a record is written `product_1.description`."""

    def least(self, values: Values) -> int:
        """Return the smallest number of parts (words or items) to which the fields can be cut."""

    def size(self, values: Values) -> int:
        """Return a size with which `cut` removes nothing. If `least(values)` is not smaller, nothing can be cut."""

    def cut(self, values: Values, size: int) -> Values:
        """Return the row with its fields cut to `size` parts (words or items).

        Do not pass a `size` below `least(values)`.
        """

    def note(self, values: Values, size: int) -> str:
        """Return a phrase that says what is left after a cut to `size` parts (words or items)."""


@dataclass(frozen=True, slots=True)
class Words:
    """Texts, or lists of texts, whose last words may be cut.

    If there are several fields, each may keep the same number of words.

    A list is cut like one text: its last texts are removed first, and then the last words of the text before them.

    >>> Words(("review",)).cut({"review": "Works, but it is loud."}, 2)
    {'review': 'Works, but'}
    """

    fields: tuple[str, ...]

    def least(self, values: Values) -> int:
        """Return the smallest number of words to which the fields can be cut: one for each field that has a text."""
        return len(self._counts(values))

    def size(self, values: Values) -> int:
        """Return a size with which `cut` removes nothing.

        It is the number of fields that have a text, times the number of words in the longest field. `cut` divides a
        size equally among the fields that have a text.
        """
        counts = self._counts(values)
        return max(counts.values(), default=0) * len(counts)

    def cut(self, values: Values, size: int) -> Values:
        """Return the row with its fields cut to `size` words in total.

        Each field may keep the same number of words. A field that has fewer words stays whole.
        """
        for field, (count, share) in self._shares(values, size).items():
            if share < count:
                values = _with(values, field, _first_words(_get(values, field), share))
        return values

    def note(self, values: Values, size: int) -> str:
        """Return a phrase that says what is left after a cut, such as `review: the first 310 of 1,204 words`."""
        phrases: list[str] = []
        for field, (count, share) in self._shares(values, size).items():
            if share < count:
                phrase = f"{field}: the first {share:,} of {count:,} words"
                whole = _get(values, field)
                if not isinstance(whole, str):
                    phrase += f", {len(_first_words(whole, share)):,} of {len(whole):,} texts"
                phrases.append(phrase)
        return "; ".join(phrases)

    def _counts(self, values: Values) -> dict[str, int]:
        counts = {field: _count(_get(values, field)) for field in self.fields}
        return {field: count for field, count in counts.items() if count}

    def _shares(self, values: Values, size: int) -> dict[str, tuple[int, int]]:
        """Return, for each field, the number of its words and the number that it may keep.

        `size` is the number of words that all fields may keep together. Each field gets an equal part.
        """
        counts = self._counts(values)
        shares = {field: (size + len(counts) - 1 - place) // len(counts) for place, field in enumerate(counts)}
        return {field: (count, shares[field]) for field, count in counts.items()}


@dataclass(frozen=True, slots=True)
class Latest:
    """A list in chronological order, whose oldest items may be cut.

    >>> Latest("history").cut({"history": ("tent", "stove", "lamp")}, 2)
    {'history': ('stove', 'lamp')}
    """

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The name of the list, which is the only field that is cut."""
        return (self.field,)

    def least(self, values: Values) -> int:
        """Return the smallest number of items to keep: 1, because the last item always stays."""
        return 1

    def size(self, values: Values) -> int:
        """Return how many items the row's list has."""
        return len(_get(values, self.field) or ())

    def cut(self, values: Values, size: int) -> Values:
        """Return the row with its list cut to the last `size` items."""
        return _with(values, self.field, _get(values, self.field)[-size:])

    def note(self, values: Values, size: int) -> str:
        """Return a phrase that says what is left after a cut, such as `history: the last 12 of 50 items`."""
        return f"{self.field}: the last {size:,} of {self.size(values):,} items"


@dataclass(frozen=True, slots=True)
class Cut:
    """A row's fields after a cut (`values`), and a phrase that says what was cut (`note`)."""

    values: Values
    note: str


def least_cut(
    long: Sequence[Long], values: Values, needs: Callable[[Values], int], most: int, *, whole: int
) -> Cut | None:
    """Return the smallest cut after which a row needs at most `most` tokens, or None if no cut is enough.

    `long`: the fields that may be cut, in order. Each entry is cut as far as allowed before the next one is cut.
    `needs`: a function that returns how many tokens a row needs.
    `whole`: how many tokens the uncut row needs; this is more than `most`.
    """
    notes: list[str] = []
    for one in long:
        least, size = one.least(values), one.size(values)
        if size <= least:
            continue
        of = partial(one.cut, values)
        bottom = needs(of(least))
        if bottom <= most:
            largest = _largest(of, needs, (least, bottom), (size, whole), most)
            return Cut(of(largest), "; ".join([*notes, one.note(values, largest)]))
        notes.append(one.note(values, least))
        values, whole = of(least), bottom
    return None


def cuttable(long: Sequence[Long], values: Values) -> list[str]:
    """Return the names of the fields in `long` that have a value in this row."""
    return [field for one in long for field in one.fields if _get(values, field)]


def _largest(
    of: Callable[[int], Values],
    needs: Callable[[Values], int],
    low: tuple[int, int],
    high: tuple[int, int],
    most: int,
) -> int:
    """Return the largest number of parts (words or items) with which the row has at most `most` tokens.

    `of`: makes the row with a given number of parts.
    `needs`: counts the tokens of a row.
    `low`: a number of parts with which the row fits, and how many tokens it then has.
    `high`: a number of parts with which the row does not fit, and how many tokens it then has.

    Each guess is made by linear interpolation, because the tokens grow nearly linearly with the parts.
    """
    (least, bottom), last = low, high
    fits, fails = low[0], high[0]
    tries = 0
    while fails - fits > 1:
        parts, tokens = last
        slope = max(tokens - bottom, 1) / (parts - least)
        guess = parts + math.floor((most - tokens) / slope) if tries < _TRIES else (fits + fails) // 2
        guess = min(max(guess, fits + 1), fails - 1)
        last = guess, needs(of(guess))
        fits, fails = (guess, fails) if last[1] <= most else (fits, guess)
        tries += 1
    return fits


def _count(value: str | Sequence[str] | None) -> int:
    texts = [value] if isinstance(value, str) else value or ()
    return sum(len(_WORD.findall(text)) for text in texts)


def _first_words(value: str | Sequence[str], count: int) -> str | tuple[str, ...]:
    if isinstance(value, str):
        *_, last = islice(_WORD.finditer(value), count)
        return value.first(last.end()) if isinstance(value, Joined) else value[: last.end()]
    texts: list[str] = []
    for text in value:
        words = list(islice(_WORD.finditer(text), count))
        count -= len(words)
        if not count:
            return (*texts, text[: words[-1].end()])
        texts.append(text)
    return tuple(texts)


def _get(values: Values, field: str) -> Any:
    value: Any = values
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _with(values: Values, field: str, value: Any) -> Values:
    name, _, rest = field.partition(".")
    return {**values, name: _with(values[name], rest, value) if rest else value}
