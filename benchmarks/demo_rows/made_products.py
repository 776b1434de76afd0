"""Makes rows of attribute_value_extraction about invented products of the trades in trades.json.

The labelled rows are only about sports goods. Their `material` is always carbon or cotton. A model of the demo's size
does not know what a jacket or a pan can be made of. It also does not know that "rustproof" is not a material. So rows
about products of many trades (kinds of shop) are added. Each product gets a brand, a name such as "jacket" or "pan",
and attributes of its trade. Each attribute is stated in the title, in a feature or in a sentence of the description.
Features and sentences that state no attribute are added. The row asks for some of the stated attributes, and for some
that are not stated.
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
_NAMES = {
    "brand": ("Brand Name", "Brand Name", "Brand"),
    "color": ("Color", "Colour"),
}  # else the key in title case
_NONE = "None"


def product_rows(count: int, random: Random) -> list[Row]:
    """Return synthetic rows of attribute_value_extraction."""
    return [_Product(_lexicon(), random).row() for _ in range(count)]


@cache
def _lexicon() -> Mapping[str, Any]:
    lexicon: Mapping[str, Any] = json.loads(_LEXICON.read_text("utf-8"))
    return lexicon


class _Product:
    """An invented product: its texts, and its facts.

    A fact is an attribute's value and the field whose text states it.
    """

    def __init__(self, lexicon: Mapping[str, Any], random: Random) -> None:
        self._lexicon = lexicon
        self._random = random
        self._trade = random.choice(list(lexicon["trades"].values()))
        self._noun: str = random.choice(self._trade["nouns"])
        self._texts: dict[str, list[str]] = {"title": [], "description": [], "feature": []}
        self._facts: dict[str, tuple[str, str]] = {}

    def row(self) -> Row:
        random, brands = self._random, self._lexicon["brands"]
        brand = random.choice(brands["begin"]) + random.choice(brands["end"])
        self._describe(brand)
        stated = random.sample(list(self._facts), min(len(self._facts), random.randint(1, 3)))
        absent = [key for key in self._lexicon["untold"] if key not in self._facts]
        keys = stated + random.sample(absent, max(random.choice((0, 1, 1, 2)), 1 - len(stated)))
        names = {random.choice(_NAMES.get(key, (key.title(),))): key for key in random.sample(keys, len(keys))}
        entries = []
        for name, key in names.items():
            value, field = self._facts.get(key, (_NONE, ""))
            source = f"product {field}" if field else _NONE
            entries.append({"attribute": name.lower(), "value": value.lower() if field else _NONE, "source": source})
        fields: dict[str, Any] = {"title": " ".join(self._texts["title"])}
        fields |= {name: texts for name in ("description", "feature") if (texts := self._texts[name])}
        fields |= {**perhaps_a_price(random), "attributes": list(names)}
        return {"id": None, "task": "attribute_value_extraction", "input": fields, "output": json.dumps(entries)}

    def _describe(self, brand: str) -> None:
        random, trade, phrases = self._random, self._trade, self._lexicon["told"]
        words = [self._noun]
        material: str = random.choice(trade["materials"])
        if self._often(0.55):
            words.insert(0, self._value("material", material, "title"))
        elif self._often(0.35):
            self._claim("material", material, "feature", phrases["material_features"])
        elif self._often(0.5):
            self._claim("material", material, "description", phrases["material_sentences"])
        if self._often(0.3):
            words.insert(0, self._value("pattern", random.choice(self._lexicon["patterns"]), "title"))
        color: str = random.choice(self._lexicon["colors"])
        if self._often(0.3):
            words.insert(random.choice((0, len(words))), self._value("color", color, "title"))
        elif self._often(0.2):
            self._claim("color", color, "feature", phrases["color_features"])
        if "closures" in trade and self._often(0.25):
            self._claim("closure type", random.choice(trade["closures"]), "feature", phrases["closure_features"])
        if "closures" in trade and self._often(0.1):
            words.insert(len(words) - 1, self._value("hooded", "hooded", "title"))
        if "sizes" in trade and self._often(0.4):
            words.append(self._value("size", random.choice(trade["sizes"]), "title"))
        title = [word if random.random() < 0.85 else word.lower() for word in map(_capital, words)]
        if trade.get("worn") and self._often(0.6):
            shown, value = random.choice(self._lexicon["genders"])
            self._facts["gender"] = (value, "title")
            title = [shown, *title] if self._often(0.75) else [*title, "for", shown.removesuffix("'").replace("'s", "")]
        if self._often(0.85):
            self._facts["brand"] = (brand, "title")
            end = random.choice(phrases["title_ends"]).format(brand=brand)
            title = [brand, *title] if self._often(0.85) else [*title, end]
        self._texts["title"] = title
        # A feature that names a part's material is used only if the product's own material is stated.
        features = [one for one in trade["features"] if "material" in self._facts or not self._names_a_material(one)]
        self._mix("feature", random.sample(features, random.choice((0, 1, 2, 2, 3))))
        self._mix("description", random.sample(trade["sentences"], random.choice((0, 1, 1, 2))))

    def _value(self, attribute: str, value: str, field: str) -> str:
        self._facts[attribute] = (value, field)
        return value

    def _claim(self, attribute: str, value: str, field: str, ways: Sequence[str]) -> None:
        """Add to `field` a text that states an attribute's value. `ways`: templates, of which a random one is used."""
        way = self._random.choice(ways)
        self._facts[attribute] = (value, field)
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
