"""Invents products from the word lists in goods.json.

A product (class `Good`) has a brand, a noun and some facts, such as its colour, its capacity or its model number. All
names are invented or everyday words. `Good.changed` returns a copy in which one fact differs, for example the colour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

_LEXICON = Path(__file__).parent / "goods.json"
_PLACES = ("benefit", "diet", "roast", "material", "color", "gender", "ingredient", "flavor", "scent")
_UNIT = re.compile(r"(\d)( ?)(GB|TB|W|V|ml|kg|g|ft|oz|L)\b")


@dataclass(frozen=True, slots=True)
class Good:
    """An invented product. `facts` maps a fact's key, such as `capacity`, to its value as a shop writes it."""

    group: str
    brand: str
    noun: str
    accessory: str
    facts: Mapping[str, str]

    def changed(self, key: str, random: Random) -> Good:
        """Return a copy in which the fact `key` has another value."""
        value = self.facts[key]
        if key == "model":
            return replace(self, facts={**self.facts, key: with_another_digit(value, random)})
        same = {_amount(value)}
        others = [other for other in _values(self.noun, key) if _amount(other) not in same]
        return replace(self, facts={**self.facts, key: random.choice(others)})

    def title(self, random: Random, *, without: Sequence[str] = ()) -> str:
        """Return a title with the brand, the noun and the facts.

        `without`: the keys of the facts to leave out. The key "brand" leaves out the brand.
        """
        facts = {key: value for key, value in self.facts.items() if key not in without}
        early = [key for key in facts if key in _PLACES and random.random() < 0.6]
        late = [key for key in facts if key not in early]
        random.shuffle(early)
        random.shuffle(late)
        words = [*(facts[key] for key in early), self.noun]
        if "brand" not in without:
            words.insert(0, self.brand)
        join = random.choice((", ", ", ", " - ", " ", " | "))
        title = " ".join(words)
        for key in late:
            bracketed = key in ("pack", "color", "count", "size") and random.random() < 0.3
            title += f" ({facts[key]})" if bracketed else f"{join}{facts[key]}"
        return title


def draw_good(random: Random, *, most: int = 4, having: str | None = None) -> Good:
    """Return an invented product with 1 to `most` facts.

    `having`: a fact that the product must have, such as `color`.

    Raises ValueError if no kind of product in the word lists has the fact `having`.
    """
    kinds = [kind for kind in lexicon()["kinds"] if having is None or having in kind["facts"]]
    if not kinds:
        raise ValueError(f"no good has the fact {having!r}")
    kind = random.choice(kinds)
    noun = random.choice(kind["nouns"])
    keys = [key for key in kind["facts"] if key != having]
    count = random.randint(1, min(most, len(keys)))
    drawn = random.sample(keys, count - (having is not None)) + ([having] if having else [])
    facts = {key: _drawn_value(noun, key, random) for key in drawn}
    return Good(kind["group"], draw_brand(random), noun, kind["accessory"], facts)


def draw_brand(random: Random) -> str:
    """Return a brand name of one or two words."""
    brands = lexicon()["brands"]
    if random.random() < 0.4:
        return str(random.choice(brands["single"]))
    return f"{random.choice(brands['first'])} {random.choice(brands['second'])}"


def draw_model(random: Random) -> str:
    """Return a model number, such as `XR-2250B`."""
    letters = "".join(random.choices("ABCDEFGHKLMNPRSTVWXZ", k=random.randint(1, 3)))
    digits = "".join(random.choices("0123456789", k=random.randint(2, 4)))
    joint = random.choice(("", "-", ""))
    return f"{letters}{joint}{digits}{random.choice(('', '', 'B', 'i', '-2'))}"


def with_another_digit(text: str, random: Random) -> str:
    """Return the text with one of its digits replaced by another digit. A text without a digit gets one at its end."""
    places = [place for place, letter in enumerate(text) if letter in "0123456789"]
    if not places:
        return f"{text} 2"
    place = random.choice(places)
    digit = random.choice([digit for digit in "0123456789" if digit != text[place]])
    return text[:place] + digit + text[place + 1 :]


def with_other_spaces(text: str, random: Random) -> str:
    """Put a space between each number and its unit, or remove it, at random: "64GB" or "64 GB"."""
    space = random.choice(("", " "))
    return _UNIT.sub(lambda match: f"{match[1]}{space}{match[3]}", text)


@cache
def lexicon() -> Mapping[str, Any]:
    """Return the word lists of goods.json."""
    words: Mapping[str, Any] = json.loads(_LEXICON.read_text("utf-8"))
    return words


def _drawn_value(noun: str, key: str, random: Random) -> str:
    return draw_model(random) if key == "model" else random.choice(_values(noun, key))


def _values(noun: str, key: str) -> Sequence[str]:
    kind = next(kind for kind in lexicon()["kinds"] if noun in kind["nouns"])
    values: Sequence[str] = kind["facts"][key] or lexicon()["values"][key]
    return values


def _amount(value: str) -> str:
    """Return the numbers in a value: "2-Pack" and "Pack of 2" both give "2".

    A value without numbers is returned in lower case, without an s at its end.
    """
    numbers = re.findall(r"\d+", value)
    return " ".join(numbers) if numbers else re.sub(r"'?s$", "", value.lower())
