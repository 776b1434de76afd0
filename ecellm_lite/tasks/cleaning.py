"""Shortens and cleans product texts as ECInstruct's authors did for the training data (ninglab/eCeLLM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cut_words(text: str, most: int) -> str:
    """Return the text, or its first `most` space-separated words followed by "...".

    >>> cut_words("one two. three", 2)
    'one two...'
    """
    words = text.split(" ")
    if len(words) <= most:
        return text
    return " ".join(words[:most]).strip(".") + "..."


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st, 22nd, …

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 111)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '111th']
    """
    teens = 10 < number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def item_text(item: str | Mapping[str, Any]) -> str:
    """Return the text with which a prompt describes a purchased item.

    A text is returned unchanged. An object becomes its title, its first two categories and its brand.

    >>> item_text({"title": 'A "Z" game', "category": ["Games", "PC", "Action"], "brand": "Acme."})
    'A Z game. Games. PC. Acme.'
    """
    if isinstance(item, str):
        return item
    category = " ".join(_sentence(level) for level in item.get("category", ())[:2] if level)
    # The three are joined even if empty: a brand without a category follows two spaces.
    return " ".join((_sentence(item["title"]), category, _sentence(item.get("brand", "")))).strip(" ")


def _sentence(part: str) -> str:
    return part.translate(str.maketrans("", "", '"\n\r')).strip(".") + "." if part else ""
