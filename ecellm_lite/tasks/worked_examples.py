"""The worked examples of a task: the same ones for all rows, or for each row the nearest of many (see nearest.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from ecellm_lite.envelopes import WorkedExample
from ecellm_lite.tasks.nearest import Nearest


class WorkedExamples:
    """At least one example, in the order in which the model reads them.

    - `nearest`: how many of them a row gets; None if each row gets all.
    - `digest`: a hash of all this.
    """

    def __init__(self, examples: Sequence[WorkedExample], nearest: int | None = None) -> None:
        self.nearest = nearest
        self._examples = tuple(examples)
        self._index = Nearest([each.text for each in self._examples])
        facts = [nearest, *([each.text, each.options, each.answer] for each in examples)]
        self.digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def count(self) -> str:
        """How many examples there are, in words."""
        return f"{len(self._examples):,}" if self.nearest is None else f"{self.nearest} of {len(self._examples):,}"

    @property
    def description(self) -> dict[str, Any]:
        """The examples' number, how many of them a row gets, and their hash, as plain data."""
        return {"count": len(self._examples), "nearest": self.nearest, "sha256": self.digest}

    def of(self, text: str) -> tuple[WorkedExample, ...]:
        """Return the examples for a row with this text; the nearest one is the last.

        If too few of them share a word with the text, the first of the others come before these.
        """
        if self.nearest is None:
            return self._examples
        near = self._index.find(text, self.nearest)
        others = (place for place in range(len(self._examples)) if place not in near)
        chosen = [*near, *islice(others, self.nearest - len(near))]
        return tuple(self._examples[place] for place in reversed(chosen))
