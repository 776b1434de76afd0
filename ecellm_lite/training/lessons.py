"""A lesson is a training example: a labelled row's tokens.

A lesson has the tokens of the prompt (the same prompt as in `run`), the answer's tokens and the end-of-sequence token.

Lessons are made with llama.cpp and the model's vocabulary, and stored in one file of arrays. The machine that trains
needs only this file, and no llama.cpp.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import InputError
from ecellm_lite.models.files import replacing
from ecellm_lite.tasks.registry import TASKS

VALIDATION = -1  # the pass of the held-out rows: nothing is learned from it


@dataclass(frozen=True, slots=True)
class Lesson:
    """A row's tokens. The last `answer` tokens are the answer and the end-of-sequence token.

    `choices`: the first tokens of the possible answers. Empty if the first token does not decide the answer.
    `gold`: the index of the right answer in `choices`, or -1 if `choices` is empty.
    `turn`: the number of the training pass (from 0), or VALIDATION for a held-out row.
    `left_out`: whether the row's source is used only for validation.
    """

    task: str
    tokens: Sequence[int]
    answer: int
    choices: Sequence[int] = ()
    gold: int = -1
    turn: int = VALIDATION
    left_out: bool = False


@dataclass(slots=True)
class Lessons:
    """All lessons (tokenized rows) of a training run. `end` is the id of the end-of-sequence token."""

    end: int
    lessons: list[Lesson] = field(default_factory=list)

    def of(self, turn: int) -> list[Lesson]:
        """Return the lessons of one pass over the rows.

        `turn`: the number of the pass, from 0, or VALIDATION for the lessons of held-out rows.
        """
        return [lesson for lesson in self.lessons if lesson.turn == turn]

    @property
    def passes(self) -> int:
        """How many passes over the training rows these lessons are for."""
        return 1 + max((lesson.turn for lesson in self.lessons), default=VALIDATION)

    def write(self, path: Path) -> None:
        """Write the lessons as one compressed file of arrays."""
        flat = [token for lesson in self.lessons for token in lesson.tokens]
        # numpy appends .npz to a path, but not to an open file.
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                end=np.int32(self.end),
                tasks=np.array(list(TASKS)),
                task=np.array([list(TASKS).index(lesson.task) for lesson in self.lessons], dtype=np.int8),
                tokens=np.array(flat, dtype=np.uint16 if max(flat, default=0) < 1 << 16 else np.uint32),
                ends=_ends(len(lesson.tokens) for lesson in self.lessons),
                answer=np.array([lesson.answer for lesson in self.lessons], dtype=np.int32),
                choices=np.array([token for lesson in self.lessons for token in lesson.choices], dtype=np.int32),
                choice_ends=_ends(len(lesson.choices) for lesson in self.lessons),
                gold=np.array([lesson.gold for lesson in self.lessons], dtype=np.int16),
                turn=np.array([lesson.turn for lesson in self.lessons], dtype=np.int16),
                left_out=np.array([lesson.left_out for lesson in self.lessons], dtype=np.bool_),
            )


def read_lessons(path: Path) -> Lessons:
    """Return the lessons in a file that `Lessons.write` made. Raises InputError for any other file."""
    try:
        return _read(path)
    except (KeyError, ValueError, TypeError, IndexError, EOFError, BadZipFile, zlib.error):
        raise InputError(
            f"{path} is not a file of lessons", step="make lessons from labelled rows first", file=str(path)
        ) from None


def _read(path: Path) -> Lessons:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["tasks"]]
        tokens = np.split(arrays["tokens"], arrays["ends"][:-1])
        choices = np.split(arrays["choices"], arrays["choice_ends"][:-1])
        numbers = (arrays[name].tolist() for name in ("task", "answer", "gold", "turn", "left_out"))
        lessons = [
            Lesson(names[task], row_tokens.tolist(), answer, row_choices.tolist(), gold, turn, left_out)
            for row_tokens, row_choices, task, answer, gold, turn, left_out in zip(
                tokens, choices, *numbers, strict=True
            )
        ]
        return Lessons(int(arrays["end"]), lessons)


def _ends(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum(list(lengths), dtype=np.int64)
