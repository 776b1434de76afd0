"""Sequential_Recommendation (SR): what will a user buy next?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers.choice import Choice, lettered
from ecellm_lite.tasks.captions import has_caption, text_with_caption
from ecellm_lite.tasks.cleaning import cut_words, item_text, ordinal
from ecellm_lite.tasks.fields import ItemsField
from ecellm_lite.tasks.shortening import Latest
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.wire import read_options

ITEM_WORDS = 25
HISTORY_ITEMS = 50


def _write(row: Mapping[str, Any]) -> Wire:
    bought, offered = row["history"][-HISTORY_ITEMS:], row["candidates"]
    purchases, candidates = map(_texts, (bought, offered))
    history = [f"{ordinal(place)}: {item}" for place, item in enumerate(purchases, start=1)]
    options = [f"{letter}: {item}" for letter, item in zip(ascii_uppercase, candidates, strict=False)]
    # ECInstruct's lists are in Python's notation, where the quotes depend on the text; CASLIE's are JSON.
    listed = json.dumps if any(map(has_caption, (*bought, *offered))) else str
    return Wire(listed(history), listed(options), lettered(options, whole=False))


def _texts(items: Sequence[str | Mapping[str, Any]]) -> list[str]:
    return [text_with_caption(cut_words(item_text(item), ITEM_WORDS), item) for item in items]


def _read(text: str, options: str | None) -> Choice:
    return lettered(read_options(options), whole=False)


TASK = Task(
    name="sequential_recommendation",
    hub_name="Sequential_Recommendation",
    abbreviation="SR",
    summary="Choose the item that a user is most likely to buy next.",
    answers="The letter of one of the candidates, A for the first.",
    instruction=(
        "Given the products the user has purchased in history, rank the items in the listed options and output the "
        "item that the user is most likely to purchase next. Answer from one of the options."
    ),
    fields=(
        ItemsField(
            "history", "What the user bought, oldest first; the last 50 count.", ["Tent, 2 person", "Camping stove"]
        ),
        ItemsField("candidates", "The items to choose from.", ["Sleeping bag", "Desk lamp"], least=2, most=26),
    ),
    write=_write,
    read=_read,
    long=(Latest("history"),),
)
