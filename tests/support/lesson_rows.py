"""Made-up labelled rows for training. Each contains a unique word, such as `item007`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ecellm_lite.tasks.registry import TASKS
from tests.support.labelled_rows import COLOR, NO_SIZE, ROWS


def training_row(task: str, number: int) -> dict[str, Any]:
    word = f"item{number:03}"
    example, answers = ROWS[task]
    fields: dict[str, Any]
    answer = answers[number % len(answers)]
    if task == "product_matching":
        fields = {"product_1": {"title": f"red {word}"}, "product_2": {"title": f"blue {word}"}}
    elif task == "sequential_recommendation":
        history = [f"{thing} {word}" for thing in ("tent", "rope", "boots", "map", "knife")]
        fields = {**example, "history": history}
    elif task == "attribute_value_extraction":
        fields = {"title": f"Navy shirt {word}", "attributes": ["Color", "Size"]}
        answer = json.dumps([COLOR, NO_SIZE])
    else:
        key = next(name for name, value in example.items() if isinstance(value, str))
        fields = {**example, key: f"{example[key]} {word}"}
    return {"id": f"r{number}", "task": task, "input": fields, "output": answer}


def training_rows(count: int, tasks: Sequence[str] = tuple(TASKS)) -> dict[str, list[dict[str, Any]]]:
    return {
        task: [training_row(task, count * place + number) for number in range(count)]
        for place, task in enumerate(tasks)
    }
