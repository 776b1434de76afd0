"""Makes rows of answerability_prediction that are hard to tell apart.

A row with the answer "no" has documents that use the question's words but do not answer the question. For example, the
question is how long a charge lasts, and a document says what the battery costs. A row with the answer "yes" has one
document that answers the question, and usually some that do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random

from ecellm_lite.training.hard_cases.leftovers import with_leftovers
from ecellm_lite.training.rows import Row

_LEXICON = Path(__file__).parent / "questions.json"


def question_rows(count: int, random: Random) -> list[Row]:
    """Return `count` new rows of answerability_prediction. Half of them have the answer "no"."""
    return [_row(random, answered=number % 2 == 0) for number in range(count)]


def _row(random: Random, *, answered: bool) -> Row:
    topic, *others = random.sample(_topics(), 3)
    texts = random.sample(topic["near"], random.randint(0 if answered else 1, 2))
    texts += [random.choice(other["near"]) for other in others[: random.randint(0, 2)]]
    if answered:
        texts.append(random.choice(topic["answers"]))
    random.shuffle(texts)
    documents = texts if random.random() < 0.5 else [" ".join(texts)]
    if random.random() < 0.15:
        documents = [with_leftovers(text, random) for text in documents]
    if random.random() < 0.3:
        documents = [text.lower() for text in documents]
    return {
        "id": None,
        "task": "answerability_prediction",
        "input": {"question": random.choice(topic["questions"]), "documents": documents},
        "output": "yes" if answered else "no",
    }


@cache
def _topics() -> Sequence[Mapping[str, Sequence[str]]]:
    topics: Sequence[Mapping[str, Sequence[str]]] = json.loads(_LEXICON.read_text("utf-8"))
    return topics
