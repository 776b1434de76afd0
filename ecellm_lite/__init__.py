"""ecellm-lite: eCeLLM, the e-commerce language models, on a shop's own machines.

>>> from ecellm_lite import Runtime
>>> Runtime("demo").answer("product_matching", {"product_1": {"title": …}, "product_2": {"title": …}})  # doctest: +SKIP
"""

from __future__ import annotations

from ecellm_lite.version import __version__

TYPE_CHECKING = False  # type checkers treat it as true; importing it from typing would double the time of this import
if TYPE_CHECKING:
    from typing import Any

    from ecellm_lite.answers.answer import Answer
    from ecellm_lite.answers.structured import grammar, schema
    from ecellm_lite.cascade import Cascade
    from ecellm_lite.errors import (
        ContextError,
        EcellmError,
        GrammarError,
        InputError,
        JobError,
        ModelError,
        UsageError,
    )
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.registry import TASKS, load_task

__all__ = [
    "TASKS",
    "Answer",
    "Cascade",
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

# Looked up on first use: importing the package loads neither numpy nor llama.cpp, and little else.
_HOMES = {
    "Answer": "ecellm_lite.answers.answer",
    "Cascade": "ecellm_lite.cascade",
    "ContextError": "ecellm_lite.errors",
    "EcellmError": "ecellm_lite.errors",
    "GrammarError": "ecellm_lite.errors",
    "InputError": "ecellm_lite.errors",
    "JobError": "ecellm_lite.errors",
    "ModelError": "ecellm_lite.errors",
    "Runtime": "ecellm_lite.runtime",
    "TASKS": "ecellm_lite.tasks.registry",
    "UsageError": "ecellm_lite.errors",
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
