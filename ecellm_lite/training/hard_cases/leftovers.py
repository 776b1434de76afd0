"""Adds remains of HTML to a text, as in product data that shops export: entities, line breaks, bold words."""

from __future__ import annotations

import re
from random import Random

_ENTITIES = {"&": "&amp;", "'": "&#39;", '"': "&quot;"}
_BREAKS = ("<br />", "<br>", " <br/> ", "&nbsp;", "</p><p>")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")


def with_leftovers(text: str, random: Random) -> str:
    """Add HTML such as `<b>` and `&amp;` to a text. The words and their order stay the same."""
    words = text.split(" ")
    if random.random() < 0.4:
        place = random.randrange(len(words))
        words[place] = f"<b>{words[place]}</b>"
    text = " ".join(words)
    for character, entity in _ENTITIES.items():
        if random.random() < 0.7:
            text = text.replace(character, entity)
    text = _SENTENCE_END.sub(lambda _: random.choice((" ", *_BREAKS)), text)
    if random.random() < 0.4:
        text += random.choice(_BREAKS)
    return text
