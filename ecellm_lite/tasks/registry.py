"""The tasks by name."""

from __future__ import annotations

from difflib import get_close_matches

from ecellm_lite.errors import UsageError
from ecellm_lite.tasks import (
    answer_generation,
    answerability_prediction,
    attribute_value_extraction,
    multiclass_product_classification,
    product_matching,
    product_relation_prediction,
    product_substitute_identification,
    query_product_ranking,
    sentiment_analysis,
    sequential_recommendation,
)
from ecellm_lite.tasks.task import Task

# In the order of the paper's tables.
TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (
        attribute_value_extraction,
        product_relation_prediction,
        product_matching,
        sentiment_analysis,
        sequential_recommendation,
        multiclass_product_classification,
        product_substitute_identification,
        query_product_ranking,
        answerability_prediction,
        answer_generation,
    )
}


def get_task(name: str) -> Task:
    """Return the task of that name, hub name or abbreviation in any case; UsageError says which names are near."""
    wanted = name.strip().lower().replace("-", "_")
    names: dict[str, Task] = {}
    for task in TASKS.values():
        for alias in (task.name, task.hub_name, task.abbreviation):
            names[alias.lower().replace("-", "_")] = task
    if wanted in names:
        return names[wanted]
    near = dict.fromkeys(names[match].name for match in get_close_matches(wanted, names, n=3, cutoff=0.5))
    hint = f"did you mean {' or '.join(near)}?" if near else "`ecellm-lite tasks` lists them."
    raise UsageError(f"There is no task {name!r}: {hint}")
