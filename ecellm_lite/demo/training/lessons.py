"""What is learned: labelled rows as the tokens of a prompt and its answer, in as many passes as are asked for.

A lesson is what `ecellm-lite run` would put before the model, the answer, and the end-of-sequence token. Lessons are
made where llama.cpp is, with the model's own vocabulary, and kept in one file of arrays: the machine that trains needs
nothing but torch.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Scene, Vocabulary
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.space import Space
from ecellm_lite.demo.training.made_extractions import extraction_rows
from ecellm_lite.demo.training.made_products import product_rows
from ecellm_lite.demo.training.made_rows import classification_rows, ranking_rows, recommendation_rows, titles_of
from ecellm_lite.demo.training.paraphrases import PARAPHRASES
from ecellm_lite.demo.training.rows import Row, Rows
from ecellm_lite.demo.training.variation import varied
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError
from ecellm_lite.models.files import replacing
from ecellm_lite.tasks.registry import TASKS, get_task

VALIDATION = -1  # the pass that nothing is learned from
LONGEST = 1024  # tokens: longer lessons are left out

# How often a row is told in a pass, where the data has few, and how many rows are made besides.
TIMES = {"multiclass_product_classification": 3, "product_substitute_identification": 3, "query_product_ranking": 2}
MADE = {
    "query_product_ranking": 900,
    "multiclass_product_classification": 120,
    "sequential_recommendation": 2000,
    "attribute_value_extraction": 1000,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A row's tokens: those of the prompt, `answer` of them being the answer's with its end.

    `choices` are the first tokens of the answers that there are to choose from, and `gold` is the right one's place;
    empty and -1 where an answer is not settled by its first token.
    """

    task: str
    tokens: Sequence[int]
    answer: int
    choices: Sequence[int] = ()
    gold: int = -1
    turn: int = VALIDATION


@dataclass(slots=True)
class Lessons:
    """All lessons of a training, by the pass in which they are learned; `end` is the end-of-sequence token."""

    end: int
    lessons: list[Lesson] = field(default_factory=list)

    def of(self, turn: int) -> list[Lesson]:
        """Return the lessons of a pass, counted from 0, or those of VALIDATION."""
        return [lesson for lesson in self.lessons if lesson.turn == turn]

    @property
    def passes(self) -> int:
        """How many passes there are."""
        return 1 + max((lesson.turn for lesson in self.lessons), default=VALIDATION)

    def write(self, path: Path) -> None:
        """Write the lessons as one compressed file of arrays."""
        flat = [token for lesson in self.lessons for token in lesson.tokens]
        # A file, not a path: numpy would give the name an ending of its own.
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
            )


def read_lessons(path: Path) -> Lessons:
    """Return the lessons in a file that `Lessons.write` made; raises InputError for another file."""
    try:
        return _read(path)
    except (KeyError, ValueError, TypeError, IndexError, EOFError, BadZipFile, zlib.error):
        raise InputError(f"{path} holds no lessons: make them with `ecellm_lite.demo.train lessons`.") from None


def _read(path: Path) -> Lessons:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["tasks"]]
        tokens = np.split(arrays["tokens"], arrays["ends"][:-1])
        choices = np.split(arrays["choices"], arrays["choice_ends"][:-1])
        rows = zip(arrays["task"], tokens, arrays["answer"], choices, arrays["gold"], arrays["turn"], strict=True)
        lessons = [
            Lesson(names[task], own.tolist(), int(answer), offered.tolist(), int(gold), int(turn))
            for task, own, answer, offered, gold, turn in rows
        ]
        return Lessons(int(arrays["end"]), lessons)


def make_lessons(
    learned: Rows,
    held_out: Rows,
    vocabulary: Vocabulary,
    envelope: Envelope,
    *,
    passes: int,
    random: Random,
    most: Mapping[str, int] | None = None,
) -> tuple[Lessons, Counter[str]]:
    """Return the lessons of `passes` passes over labelled rows, and how many of each task were too long.

    The rows that are held out are told once, in the task's own words. In each pass every other row is told anew, with
    the task's instruction or a paraphrase; with `most` (by task), so many rows of a task, others in each pass, and as
    many made ones. Raises InputError for a row whose output is no answer of its task.
    """
    school = _School(vocabulary, envelope)
    for row in (row for own in held_out.values() for row in own):
        school.teach(row, VALIDATION)
    taught = {task: list(own) * TIMES.get(task, 1) for task, own in learned.items()}
    titles = titles_of(row for own in taught.values() for row in own)
    for turn in range(passes):
        told: list[Row] = []
        for task, own in taught.items():
            limit = (most or {}).get(task, sys.maxsize)
            told += random.sample(own, limit) if limit < len(own) else own
            if own:
                told += _made(task, taught, titles, min(MADE.get(task, 0), limit), random)
        for row in random.sample(told, len(told)):
            school.teach(row, turn, random)
    return school.lessons, school.too_long


def _made(task: str, rows: Rows, titles: Sequence[str], count: int, random: Random) -> list[Row]:
    own = rows[task]
    if task == "query_product_ranking":
        return ranking_rows(own, titles, count, random)
    if task == "sequential_recommendation":
        return recommendation_rows(own, count, random)
    if task == "attribute_value_extraction":
        reviews = (str(row["input"]["review"]) for row in rows.get("sentiment_analysis", []))
        return extraction_rows(own, reviews, count // 4, random) + product_rows(count - count // 4, random)
    return classification_rows(titles, count, random) if task == "multiclass_product_classification" else []


class _School:
    """Makes lessons of rows."""

    def __init__(self, vocabulary: Vocabulary, envelope: Envelope) -> None:
        self.lessons = Lessons(vocabulary.end)
        self.too_long: Counter[str] = Counter()
        self._vocabulary = vocabulary
        self._envelope = envelope

    def teach(self, row: Row, turn: int, random: Random | None = None) -> None:
        """Add a row's lesson, told in another way where there is something to draw from."""
        task = get_task(row["task"])
        fields, answer, instruction = row["input"], row["output"], None
        if random:
            fields, answer = varied(task.name, fields, answer, random)
            instruction = random.choice([None, random.choice(PARAPHRASES[task.name])])
        question = task.question({"input": fields}, instruction=instruction)
        question.space.parse(answer)  # a label that is no answer must not be learned
        prompt = self._envelope.prompt(question.instruction, question.text, question.options)
        scene = Scene(self._vocabulary, LONGEST)
        tokens = self._vocabulary.tokenize(prompt, begin=True)
        told = [*scene.continuation(answer), self._vocabulary.end]
        if len(tokens) + len(told) > LONGEST:
            self.too_long[task.name] += 1
            return
        texts = _texts(question.space)
        choices = [scene.continuation(text)[0] for text in texts]
        gold = texts.index(answer) if texts else -1
        self.lessons.lessons.append(Lesson(task.name, [*tokens, *told], len(told), choices, gold, turn))


def _texts(space: Space) -> list[str]:
    """Return the answers of a space that the first token settles."""
    if isinstance(space, Predicate):
        return ["yes", "no"]
    return [option.text for option in space.options] if isinstance(space, Choice) else []


def _ends(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum(list(lengths), dtype=np.int64)


def batches(lessons: Sequence[Lesson], rows: int, random: Random) -> Iterator[list[Lesson]]:
    """Yield lessons in batches of `rows`, those of like length together, in an order that is drawn."""
    order = random.sample(lessons, len(lessons))
    group = rows * 16
    found: list[list[Lesson]] = []
    for first in range(0, len(order), group):
        near = sorted(order[first : first + group], key=lambda lesson: len(lesson.tokens))
        found += [near[start : start + rows] for start in range(0, len(near), rows)]
    yield from random.sample(found, len(found))
