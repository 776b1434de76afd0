"""The worked examples of a task. Either all rows get the same examples, or each row gets those most similar to it."""

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

    - `nearest`: how many examples each row gets, chosen by similarity. None: each row gets all examples.
    - `digest`: a hash of the examples and of `nearest`.
    """

    def __init__(self, examples: Sequence[WorkedExample], nearest: int | None = None) -> None:
        self.nearest = nearest
        self._examples = tuple(examples)
        self._index = Nearest([each.text for each in self._examples])
        facts = [nearest, *([each.text, each.options, each.answer] for each in examples)]
        self.digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def count(self) -> str:
        """The number of examples as text: `1,000` if a row gets them all, or `4 of 1,000` if it gets the nearest 4."""
        return f"{len(self._examples):,}" if self.nearest is None else f"{self.nearest} of {len(self._examples):,}"

    @property
    def description(self) -> dict[str, Any]:
        """The number of examples, how many of them a row gets, and their hash, as plain data."""
        return {"count": len(self._examples), "nearest": self.nearest, "sha256": self.digest}

    def of(self, text: str) -> tuple[WorkedExample, ...]:
        """Return the examples for a row with this text.

        If `nearest` is None, these are all examples, in their own order. Otherwise they are the `nearest` examples that
        have the most words in common with the text, the most similar one last. If too few examples share a word with
        the text, other examples are added at the beginning.
        """
        if self.nearest is None:
            return self._examples
        near = self._index.find(text, self.nearest)
        others = (place for place in range(len(self._examples)) if place not in near)
        chosen = [*near, *islice(others, self.nearest - len(near))]
        return tuple(self._examples[place] for place in reversed(chosen))
