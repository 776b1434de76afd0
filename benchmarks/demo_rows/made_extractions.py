"""Makes rows of attribute_value_extraction with descriptions and features.

The data has only titles. A model that has seen values only in titles would answer with unrelated words from
descriptions. So a labelled title gets a description and features. These texts are made from sentences of reviews and
from parts of other products' titles.

The added texts must not answer the question. In the training rows, each requested attribute has known values. A text
that contains a word of such a value is not used. If a title has no value for a requested attribute, a sentence with a
value is added in half of the cases. This value is then the answer. The sentence is left out if it could also answer
another attribute.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import holds, only_titled, perhaps_a_price

CLAIMS = {
    "feature": ("{value}", "{attribute}: {value}", "{attribute} {value}"),
    "description": ("{attribute}: {value}.", "The {attribute} is {value}.", "This one is {value}."),
}
_TASK = "attribute_value_extraction"
_NONE = "None"
_WORD = re.compile(r"[a-z]+")
_SENTENCE = re.compile(
    r"(?:^|(?<=[.!?]\s))[A-Z][a-z' ,-]{15,110}\.(?=\s|$)"
)  # no capitalized word after its first, no digit
_SPAN = re.compile(r"[A-Za-z][A-Za-z-]+")
_BRAND = 2  # words at the start of a title, where its brand is


def extraction_rows(rows: Sequence[Row], reviews: Iterable[str], count: int, random: Random) -> list[Row]:
    """Return `count` new rows. Each is made from one of the `rows` that have only a title.

    A new row can also have a description, features and a price. `reviews`: texts whose sentences are put into the
    descriptions.
    """
    titled = [row for row in rows if only_titled(row["input"])]
    values = _values_of(titled)
    sentences = [sentence for review in reviews for sentence in _SENTENCE.findall(review)]
    extended: list[Row] = []
    while titled and len(extended) < count:
        extended.append(_extended(random.choice(titled), titled, values, sentences, random))
    return extended


def _extended(
    row: Row, rows: Sequence[Row], values: Mapping[str, Sequence[str]], sentences: Sequence[str], random: Random
) -> Row:
    """Return a copy of `row` with a description and features, made from `sentences` and the titles of `rows`.

    `values`: the known values of each attribute. Sometimes the new row requests one more attribute, for which the title
    has no value.
    """
    fields, entries = row["input"], json.loads(row["output"])
    attributes = list(fields["attributes"])
    more = random.choice(list(values)) if values else ""
    if (
        more
        and more not in map(str.lower, attributes)
        and not any(holds(fields["title"], each) for each in values[more])
    ):
        attributes.append(more.title())
        entries.append({"attribute": more, "value": _NONE, "source": _NONE})
    value_words = {
        word for name in attributes for value in values.get(name.lower(), ()) for word in _WORD.findall(value)
    }
    texts = {
        "description": _unrelated(sentences, value_words, random.randint(0, 2), random),
        "feature": _unrelated(_spans(rows, random), value_words, random.randint(0, 3), random),
    }
    for entry in entries:
        attribute_values = values.get(entry["attribute"])
        if entry["value"] == _NONE and attribute_values and random.random() < 0.5:
            field, value = random.choice(list(texts)), random.choice(attribute_values)
            claim = random.choice(CLAIMS[field]).format(attribute=entry["attribute"], value=value)
            others = (
                each
                for name in attributes
                if name.lower() != entry["attribute"]
                for each in values.get(name.lower(), ())
            )
            if holds(fields["title"], value) or any(holds(claim, each) for each in others):
                continue
            texts[field].insert(random.randint(0, len(texts[field])), claim[0].upper() + claim[1:])
            entry |= {"value": value, "source": f"product {field}"}
    extended: dict[str, Any] = {"title": fields["title"], **{name: text for name, text in texts.items() if text}}
    extended |= perhaps_a_price(random)
    extended["attributes"] = attributes
    return {"id": None, "task": _TASK, "input": extended, "output": json.dumps(entries)}


def _values_of(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return the values of each attribute in labelled rows, each value once, in the rows' order."""
    values: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for entry in json.loads(row["output"]):
            if isinstance(entry["value"], str) and entry["value"] != _NONE:
                values[entry["attribute"]][entry["value"]] = None
    return {attribute: list(each) for attribute, each in values.items()}


def _unrelated(texts: Sequence[str], words: set[str], count: int, random: Random) -> list[str]:
    sample = random.sample(texts, min(len(texts), 4 * count))
    return [text for text in sample if not words & set(_WORD.findall(text.lower()))][:count]


def _spans(rows: Sequence[Row], random: Random) -> list[str]:
    """Return up to 20 phrases of one to three words, each from a random title."""
    spans = []
    for row in random.sample(rows, min(len(rows), 20)):
        words = row["input"]["title"].split()[_BRAND:]
        start = random.randrange(max(1, len(words)))
        span = words[start : start + random.randint(1, 3)]
        if span and all(_SPAN.fullmatch(word) for word in span):
            phrase = " ".join(span)
            spans.append(phrase.lower() if random.random() < 0.5 else phrase)
    return spans
