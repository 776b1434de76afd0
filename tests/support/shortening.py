"""Helpers for tests of shortening: texts of a given length, and a runtime that records what the engine gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecellm_lite import Runtime
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from ecellm_lite.engine.request import Request
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Question

Row = Mapping[str, Any]


class Recording(Runtime):
    """A runtime that records the last question, its request to the engine, and how often a prompt was tokenized."""

    question: Question
    last: Request
    tokenized = 0

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        self.question, self.last = question, super().request(question, space, seed=seed)
        return self.last

    def tokenize(self, prompt: str) -> list[int]:
        self.tokenized += 1
        return super().tokenize(prompt)

    def needs(self, name: str, row: Row) -> int:
        """Return the number of tokens that a row needs: those of its prompt, and those reserved for its answer."""
        space = TASKS[name].question(row).space
        return len(super().tokenize(self.prompt(name, row))) + space.longest(
            Scene(FakeVocabulary(), self._backend.max_length)
        )


def over(context: int) -> Recording:
    runtime = Recording.over(FakeBackend(cells=context))
    assert isinstance(runtime, Recording)
    return runtime


def words(count: int, letter: str = "w") -> list[str]:
    return [f"{letter}{number}" + "!" * (number % 5) for number in range(count)]


def text(count: int, letter: str = "w") -> str:
    return " ".join(words(count, letter))


def documents(size: int) -> Row:
    return {"question": "How long?", "documents": [text(4, f"d{number}.") for number in range(size)]}
