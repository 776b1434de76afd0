"""Labelled rows of every task, made up for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ecellm_lite.tasks.registry import TASKS

PAIR = {"product_1": "usb cable", "product_2": "wall charger"}
QUERY = {"query": "mouse", "title": "wireless mouse"}
ASKED = {"question": "Is it loud?", "documents": ["It is loud."]}
COLOR = {"attribute": "color", "value": "navy", "source": "product title"}
NO_SIZE = {"attribute": "size", "value": "None", "source": "None"}

# task -> its input, and the answers of its rows in turn.
ROWS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "attribute_value_extraction": (
        {"title": "Navy shirt", "attributes": ["Color", "Size"]},
        [json.dumps([COLOR, NO_SIZE]), json.dumps([COLOR])],
    ),
    "product_relation_prediction": (PAIR, ["A", "B", "C"]),
    "product_matching": ({"product_1": {"title": "a b"}, "product_2": {"title": "a b c"}}, ["yes", "no"]),
    "sentiment_analysis": ({"review": "Works, but it is loud."}, ["A: very positive", "C: neutral"]),
    "sequential_recommendation": ({"history": ["tent"], "candidates": ["stove", "lamp", "mug"]}, ["B", "A"]),
    "multiclass_product_classification": (
        QUERY,
        [
            "D: The product is irrelevant to the query.",
            "A: The product is relevant to the query, and satisfies all the query specifications.",
        ],
    ),
    "product_substitute_identification": (QUERY, ["no", "yes"]),
    "query_product_ranking": ({"query": "mouse", "products": ["mat", "mouse", "lamp"]}, ["B,A,C", "C,B,A"]),
    "answerability_prediction": (ASKED, ["yes", "no"]),
    "answer_generation": (ASKED, ["It is loud.", "yes, very loud"]),
}


def row(task: str, number: int) -> dict[str, Any]:
    """Return a row of a task in this project's format. Each number gives a different row."""
    example, answers = ROWS[task]
    key = next(name for name, value in example.items() if isinstance(value, str)) if task in _TEXTS else None
    fields = {**example, key: f"{example[key]} {number}"} if key else example
    return {"id": f"r{number}", "task": task, "input": fields, "output": answers[number % len(answers)]}


_TEXTS = {name for name, (example, _) in ROWS.items() if any(isinstance(value, str) for value in example.values())}


def dataset_row(
    task: str, number: int, split: str = "test", setting: str = "IND_Diverse_Instruction"
) -> dict[str, Any]:
    """Return a row of a task in the format of ECInstruct's dataset.json."""
    definition = TASKS[task]
    labelled = row(task, number)
    question = definition.question(labelled)
    return {
        "instruction": f"{definition.instruction} (said otherwise)",
        "input": question.text,
        "options": question.options,
        "output": labelled["output"],
        "task": definition.hub_name,
        "setting": setting,
        "split": split,
        "few_shot_example": None,
    }


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON Lines, and return the path. A row that is a string is written unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path
