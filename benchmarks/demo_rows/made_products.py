"""Rows of attribute_value_extraction about products that there are not, of the trades in trades.json.

The data has titles of sports goods alone, where `material` is carbon or cotton: what a jacket, a pan or a cushion may
be made of, and that "rustproof" is no material, a model of this size does not know. So a product gets a brand, a noun
and what else its trade has, told in its title, a feature or a sentence, beside features and sentences that answer
nothing; it is asked for some of that, and for attributes of which nothing is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import holds, perhaps_a_price

_LEXICON = Path(__file__).parent / "trades.json"
_NAMES = {"brand": ("Brand Name", "Brand Name", "Brand"), "color": ("Color", "Colour")}  # else the key with a capital
_NONE = "None"


def product_rows(count: int, random: Random) -> list[Row]:
    """Return made rows of attribute_value_extraction."""
    return [_Product(_lexicon(), random).row() for _ in range(count)]


@cache
def _lexicon() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(_LEXICON.read_text("utf-8"))
    return found


class _Product:
    """A product: its texts, and the value and field of each attribute that they tell."""

    def __init__(self, lexicon: Mapping[str, Any], random: Random) -> None:
        self._lexicon = lexicon
        self._random = random
        self._trade = random.choice(list(lexicon["trades"].values()))
        self._noun: str = random.choice(self._trade["nouns"])
        self._texts: dict[str, list[str]] = {"title": [], "description": [], "feature": []}
        self._told: dict[str, tuple[str, str]] = {}

    def row(self) -> Row:
        """Return the row that asks for some of what is told, and for some of what is not."""
        random, brands = self._random, self._lexicon["brands"]
        brand = random.choice(brands["begin"]) + random.choice(brands["end"])
        self._describe(brand)
        told = random.sample(list(self._told), min(len(self._told), random.randint(1, 3)))
        untold = [key for key in self._lexicon["untold"] if key not in self._told]
        asked = told + random.sample(untold, max(random.choice((0, 1, 1, 2)), 1 - len(told)))
        names = {random.choice(_NAMES.get(key, (key.title(),))): key for key in random.sample(asked, len(asked))}
        entries = []
        for name, key in names.items():
            value, field = self._told.get(key, (_NONE, ""))
            source = f"product {field}" if field else _NONE
            entries.append({"attribute": name.lower(), "value": value.lower() if field else _NONE, "source": source})
        fields: dict[str, Any] = {"title": " ".join(self._texts["title"])}
        fields |= {name: texts for name in ("description", "feature") if (texts := self._texts[name])}
        fields |= {**perhaps_a_price(random), "attributes": list(names)}
        return {"id": None, "task": "attribute_value_extraction", "input": fields, "output": json.dumps(entries)}

    def _describe(self, brand: str) -> None:
        """Write the texts."""
        random, trade, told = self._random, self._trade, self._lexicon["told"]
        words = [self._noun]
        material: str = random.choice(trade["materials"])
        if self._often(0.55):
            words.insert(0, self._value("material", material, "title"))
        elif self._often(0.35):
            self._claim("material", material, "feature", told["material_features"])
        elif self._often(0.5):
            self._claim("material", material, "description", told["material_sentences"])
        if self._often(0.3):
            words.insert(0, self._value("pattern", random.choice(self._lexicon["patterns"]), "title"))
        color: str = random.choice(self._lexicon["colors"])
        if self._often(0.3):
            words.insert(random.choice((0, len(words))), self._value("color", color, "title"))
        elif self._often(0.2):
            self._claim("color", color, "feature", told["color_features"])
        if "closures" in trade and self._often(0.25):
            self._claim("closure type", random.choice(trade["closures"]), "feature", told["closure_features"])
        if "closures" in trade and self._often(0.1):
            words.insert(len(words) - 1, self._value("hooded", "hooded", "title"))
        if "sizes" in trade and self._often(0.4):
            words.append(self._value("size", random.choice(trade["sizes"]), "title"))
        title = [word if random.random() < 0.85 else word.lower() for word in map(_capital, words)]
        if trade.get("worn") and self._often(0.6):
            shown, value = random.choice(self._lexicon["genders"])
            self._told["gender"] = (value, "title")
            title = [shown, *title] if self._often(0.75) else [*title, "for", shown.removesuffix("'").replace("'s", "")]
        if self._often(0.85):
            self._told["brand"] = (brand, "title")
            end = random.choice(told["title_ends"]).format(brand=brand)
            title = [brand, *title] if self._often(0.85) else [*title, end]
        self._texts["title"] = title
        # A part of another material misleads only where the whole is told.
        features = [one for one in trade["features"] if "material" in self._told or not self._names_a_material(one)]
        self._mix("feature", random.sample(features, random.choice((0, 1, 2, 2, 3))))
        self._mix("description", random.sample(trade["sentences"], random.choice((0, 1, 1, 2))))

    def _value(self, attribute: str, value: str, field: str) -> str:
        self._told[attribute] = (value, field)
        return value

    def _claim(self, attribute: str, value: str, field: str, ways: Sequence[str]) -> None:
        """Say a value in a feature or a sentence."""
        way = self._random.choice(ways)
        self._told[attribute] = (value, field)
        key = attribute.split()[0]
        text = way.format(**{key: value, "noun": self._noun.lower()})
        self._texts[field].append(text[0].upper() + text[1:] if self._often(0.7) else text)

    def _mix(self, field: str, texts: Sequence[str]) -> None:
        for text in texts:
            place = self._random.randint(0, len(self._texts[field]))
            self._texts[field].insert(place, text.format(noun=self._noun.lower()))

    def _names_a_material(self, feature: str) -> bool:
        trades = self._lexicon["trades"].values()
        return any(holds(feature, material) for trade in trades for material in trade["materials"])

    def _often(self, share: float) -> bool:
        return self._random.random() < share


def _capital(words: str) -> str:
    return " ".join(word[0].upper() + word[1:] for word in words.split())
