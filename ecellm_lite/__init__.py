"""ecellm-lite: eCeLLM, the e-commerce language models, on a shop's own machines.

>>> from ecellm_lite import Runtime
>>> Runtime("demo").answer("product_matching", {"product_1": {"title": …}, "product_2": {"title": …}})  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecellm_lite.errors import (
    ContextError,
    EcellmError,
    GrammarError,
    InputError,
    JobError,
    ModelError,
    UsageError,
)
from ecellm_lite.version import __version__

if TYPE_CHECKING:
    from ecellm_lite.answers.answer import Answer
    from ecellm_lite.answers.structured import grammar, schema
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.registry import TASKS, load_task

__all__ = [
    "TASKS",
    "Answer",
    "ContextError",
    "EcellmError",
    "GrammarError",
    "InputError",
    "JobError",
    "ModelError",
    "Runtime",
    "UsageError",
    "__version__",
    "grammar",
    "load_task",
    "schema",
]

# Looked up when they are first used: importing the package loads no numpy and no llama.cpp.
_HOMES = {
    "Answer": "ecellm_lite.answers.answer",
    "Runtime": "ecellm_lite.runtime",
    "TASKS": "ecellm_lite.tasks.registry",
    "grammar": "ecellm_lite.answers.structured",
    "load_task": "ecellm_lite.tasks.registry",
    "schema": "ecellm_lite.answers.structured",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
