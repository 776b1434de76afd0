"""Rows of attribute_value_extraction with descriptions and features, made where the data has titles alone.

Whoever has seen values in titles only takes any other text for a value sooner or later. So a labelled title gets a
description and features that say nothing of what is asked, in words that no training row has as a value of it: a
review's sentences, and what other titles say of their products. Where a title tells nothing of an attribute, one of
its values is said there in half of the rows, and is the answer, unless what says it could answer another attribute.
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
)  # no name behind its first word, no figure
_SPAN = re.compile(r"[A-Za-z][A-Za-z-]+")
_BRAND = 2  # words at a title's beginning, where its brand stands


def extraction_rows(rows: Sequence[Row], reviews: Iterable[str], count: int, random: Random) -> list[Row]:
    """Return made rows: labelled `rows` of the task with a title alone, told with other fields besides."""
    titled = [row for row in rows if only_titled(row["input"])]
    values = _values_of(titled)
    sentences = [sentence for review in reviews for sentence in _SENTENCE.findall(review)]
    made: list[Row] = []
    while titled and len(made) < count:
        made.append(_told(random.choice(titled), titled, values, sentences, random))
    return made


def _told(
    row: Row, rows: Sequence[Row], values: Mapping[str, Sequence[str]], sentences: Sequence[str], random: Random
) -> Row:
    """Return the row with other fields, and perhaps with one more attribute that its title tells nothing of."""
    fields, entries = row["input"], json.loads(row["output"])
    asked = list(fields["attributes"])
    more = random.choice(list(values)) if values else ""
    if more and more not in map(str.lower, asked) and not any(holds(fields["title"], each) for each in values[more]):
        asked.append(more.title())
        entries.append({"attribute": more, "value": _NONE, "source": _NONE})
    wanted = {word for name in asked for value in values.get(name.lower(), ()) for word in _WORD.findall(value)}
    texts = {
        "description": _strangers(sentences, wanted, random.randint(0, 2), random),
        "feature": _strangers(_spans(rows, random), wanted, random.randint(0, 3), random),
    }
    for entry in entries:
        offered = values.get(entry["attribute"])
        if entry["value"] == _NONE and offered and random.random() < 0.5:
            field, value = random.choice(list(texts)), random.choice(offered)
            claim = random.choice(CLAIMS[field]).format(attribute=entry["attribute"], value=value)
            others = (
                each for name in asked if name.lower() != entry["attribute"] for each in values.get(name.lower(), ())
            )
            if holds(fields["title"], value) or any(holds(claim, each) for each in others):
                continue
            texts[field].insert(random.randint(0, len(texts[field])), claim[0].upper() + claim[1:])
            entry |= {"value": value, "source": f"product {field}"}
    told: dict[str, Any] = {"title": fields["title"], **{name: text for name, text in texts.items() if text}}
    told |= perhaps_a_price(random)
    told["attributes"] = asked
    return {"id": None, "task": _TASK, "input": told, "output": json.dumps(entries)}


def _values_of(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return the values that labelled rows have of each attribute, each once, in their order."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for entry in json.loads(row["output"]):
            if isinstance(entry["value"], str) and entry["value"] != _NONE:
                found[entry["attribute"]][entry["value"]] = None
    return {attribute: list(values) for attribute, values in found.items()}


def _strangers(texts: Sequence[str], wanted: set[str], count: int, random: Random) -> list[str]:
    """Return at most `count` of the texts that hold none of the words `wanted`."""
    drawn = random.sample(texts, min(len(texts), 4 * count))
    return [text for text in drawn if not wanted & set(_WORD.findall(text.lower()))][:count]


def _spans(rows: Sequence[Row], random: Random) -> list[str]:
    """Return one to three neighbouring words from each of some titles."""
    spans = []
    for row in random.sample(rows, min(len(rows), 20)):
        words = row["input"]["title"].split()[_BRAND:]
        start = random.randrange(max(1, len(words)))
        span = words[start : start + random.randint(1, 3)]
        if span and all(_SPAN.fullmatch(word) for word in span):
            told = " ".join(span)
            spans.append(told.lower() if random.random() < 0.5 else told)
    return spans
