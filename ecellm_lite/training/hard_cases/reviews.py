"""Makes rows of sentiment_analysis with negations, mixed praise and blame, and words that mislead.

A review has a verdict, such as "Not bad at all" (positive), and some details. The details agree with the verdict, or
are mixed if the verdict is neutral. A mildly positive or negative review may have one detail that disagrees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random

from ecellm_lite.tasks.sentiment_analysis import OPTIONS
from ecellm_lite.training.hard_cases.leftovers import with_leftovers
from ecellm_lite.training.rows import Row

_LEXICON = Path(__file__).parent / "reviews.json"
_TURNS = ("But", "However,", "Then again,", "On the other hand,")


def review_rows(count: int, random: Random) -> list[Row]:
    """Return `count` new rows. Each of the five sentiments is the answer of a fifth of the rows."""
    return [_row(OPTIONS[number % len(OPTIONS)], random) for number in range(count)]


def _row(degree: str, random: Random) -> Row:
    phrases, letter = _phrases(), degree[0]
    praise, blame = (random.sample(phrases[kind], 2) for kind in ("good", "bad"))
    if letter == "C":
        details = _contrasted(praise[0], blame[0], random) if random.random() < 0.8 else []
    else:
        agreeing, other = (praise, blame) if letter in "AB" else (blame, praise)
        details = [f"{text}." for text in agreeing[: random.randint(0, 2)]]
        if letter in "BD" and random.random() < 0.35:
            details = _contrasted(other[0], agreeing[0], random, last=True)
    verdict = random.choice(phrases[letter])
    sentences = [verdict, *details] if random.random() < 0.5 else [*details, verdict]
    review = " ".join(sentences).format(thing=random.choice(phrases["things"]))
    if random.random() < 0.15:
        review = with_leftovers(review, random)
    if random.random() < 0.2:
        review = review.lower()
    return {"id": None, "task": "sentiment_analysis", "input": {"review": review}, "output": degree}


def _contrasted(first: str, second: str, random: Random, *, last: bool = False) -> list[str]:
    """Return two sentences in random order. The later one begins with a word such as "But".

    With `last`, the order is not random: `second` comes last.
    """
    if not last and random.random() < 0.5:
        first, second = second, first
    return [f"{first}.", f"{random.choice(_TURNS)} {second[0].lower()}{second[1:]}."]


@cache
def _phrases() -> Mapping[str, Sequence[str]]:
    phrases: Mapping[str, Sequence[str]] = json.loads(_LEXICON.read_text("utf-8"))
    return phrases
