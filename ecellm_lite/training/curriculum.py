"""A curriculum: the training examples (lessons) made from labelled rows, for several passes over these rows.

Each row to learn becomes one lesson in each pass. The lesson differs from pass to pass: lists are shuffled if their
order means nothing, and the instruction may be a paraphrase.

Each held-out row becomes one lesson for validation, with the task's own instruction.

A row's key `source` says where the row comes from. All rows of some sources can be left out of the training. Some of
these rows become validation lessons too, to show how the model answers rows of an unfamiliar kind.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ecellm_lite.answers.decoding import AnswerForm, Scene, Vocabulary
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.labelled_table import LabelledOptions
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons
from ecellm_lite.training.paraphrases import PARAPHRASES
from ecellm_lite.training.rows import MOST_HELD_OUT, Row, Rows, leave_out, read_rows, split_rows, write_rows
from ecellm_lite.training.variation import varied

LONGEST = 1024  # tokens: longer lessons are left out

# A function that gets the rows to learn, by task, and makes at most `count` further rows of one task from them.
Maker = Callable[[Rows, int, Random], list[Row]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rows each pass of the training has. Each field is a dict whose keys are tasks.

    `repeats`: how often each row of the task occurs (default: once).
    `most`: the maximum number of the task's labelled rows in a pass. They are chosen at random for each pass.
    `made`: a function that makes synthetic rows of the task, and the number of rows it makes for each pass.
    """

    repeats: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    made: Mapping[str, tuple[Maker, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Curriculum:
    """A curriculum: the lessons, the held-out rows, and how many rows of each task were too long."""

    lessons: Lessons
    held_out: Rows
    too_long: Mapping[str, int]

    def write(self, lessons: Path, held_out: Path | None = None) -> None:
        """Write the held-out rows to a folder if one is given, and then the lessons to a file."""
        if held_out:
            write_rows(held_out, self.held_out)
        self.lessons.write(lessons)


def read_curriculum(
    folders: Sequence[Path],
    model: Path,
    envelope: Envelope,
    *,
    passes: int,
    seed: int,
    layout: Layout | None = None,
    named: Collection[str] = (),
    sources: Sequence[str] = (),
    most_held_out: int = MOST_HELD_OUT,
    reading: LabelledOptions | None = None,
) -> Curriculum:
    """Make lessons (training examples) from the rows in the files TASK/train.jsonl of `folders`.

    `model`: the GGUF file whose vocabulary is used to tokenize the rows.
    `passes`: how many passes over the rows to make lessons for.
    `reading`: how a table of labelled rows is read. A folder may have TASK/train.csv in place of TASK/train.jsonl.
    `named`: tasks that must have rows.

    A tenth of each task's rows is held out, but at most `most_held_out` rows. The model learns nothing from rows whose
    source is one of `sources`. At most `most_held_out` of these rows per task are used for validation.

    These errors are raised:

    - InputError for a row that cannot be learned, or if no row is left to learn;
    - UsageError for an unknown source, or for a task of `named` without rows;
    - ModelError if the file is not a model.
    """
    from ecellm_lite.engine.llama import LlamaBackend
    from ecellm_lite.engine.settings import Settings

    random = Random(seed)  # noqa: S311 - nothing secret is drawn
    labelled = read_rows(*folders, options=reading)
    for task in sorted(named):
        if not labelled.get(task):
            raise UsageError(f"There are no rows of {task}", step="name a task that has rows", settings=("data",))
    rows, of_sources = leave_out(labelled, sources)
    learned, held_out = split_rows(rows, random, most=most_held_out)
    left_out = {task: random.sample(own, min(len(own), most_held_out)) for task, own in of_sources.items()}
    backend = LlamaBackend(model, Settings(context=256, gpu_layers=0))
    try:
        curriculum = make_curriculum(
            learned,
            held_out,
            backend.vocabulary,
            envelope,
            passes=passes,
            random=random,
            layout=layout,
            left_out=left_out,
        )
    finally:
        backend.close()
    if not curriculum.lessons.passes:
        raise InputError(
            f"No row is left to learn: each is longer than {LONGEST:,} tokens or asks the same as a held-out row",
            step="give shorter rows, or more of them",
        )
    return curriculum


def make_curriculum(
    learned: Rows,
    held_out: Rows,
    vocabulary: Vocabulary,
    envelope: Envelope,
    *,
    passes: int,
    random: Random,
    layout: Layout | None = None,
    left_out: Rows | None = None,
) -> Curriculum:
    """Return the lessons of several passes over the rows. `passes` is the number of passes.

    `left_out`: for each task, more rows for validation. They are from sources (see leave_out) that `learned` lacks.

    Raises InputError if a row's output is not an answer of its task.
    """
    layout = layout or Layout()
    school = _School(vocabulary, envelope)
    for row in (row for rows in held_out.values() for row in rows):
        school.teach(row, VALIDATION)
    for row in (row for rows in (left_out or {}).values() for row in rows):
        school.teach(row, VALIDATION, left_out=True)
    repeated = {task: list(rows) * layout.repeats.get(task, 1) for task, rows in learned.items()}
    for turn in range(passes):
        drawn = _drawn(repeated, layout, random)
        for row in random.sample(drawn, len(drawn)):
            school.teach(row, turn, random)
    return Curriculum(school.lessons, held_out, school.too_long)


def _drawn(rows: Rows, layout: Layout, random: Random) -> list[Row]:
    """Return the rows of one pass: labelled rows, and synthetic rows from the functions in `layout.made`."""
    drawn: list[Row] = []
    for task, labelled in rows.items():
        most = layout.most.get(task, sys.maxsize)
        drawn += random.sample(labelled, most) if most < len(labelled) else labelled
        if labelled and task in layout.made:
            maker, count = layout.made[task]
            drawn += maker(rows, count, random)
    return drawn


class _School:
    """Turns rows into lessons (training examples) and collects them."""

    def __init__(self, vocabulary: Vocabulary, envelope: Envelope) -> None:
        self._scene = Scene(vocabulary, LONGEST, form=AnswerForm.of(envelope, vocabulary))
        self.lessons = Lessons(self._scene.end)
        self.too_long: Counter[str] = Counter()
        self._vocabulary = vocabulary
        self._envelope = envelope

    def teach(self, row: Row, turn: int, random: Random | None = None, *, left_out: bool = False) -> None:
        """Make a lesson of a row for the training pass `turn`. If the row is too long, only count it.

        With `random`, the row and the instruction are varied. `left_out`: whether the row is from a source that the
        model does not learn from.
        """
        task = get_task(row["task"])
        fields, answer, instruction = row["input"], row["output"], None
        if random:
            fields, answer = varied(task.name, fields, answer, random)
            instruction = random.choice([None, random.choice(PARAPHRASES[task.name])])
        question = task.question({"input": fields}, instruction=instruction)
        question.space.parse(answer)  # an invalid label must not be learned
        prompt = self._envelope.wrap(question.instruction, question.text, question.options)
        tokens = prompt.tokens(self._vocabulary)
        answer_tokens = [*self._scene.continuation(answer), self._scene.end]
        if len(tokens) + len(answer_tokens) > LONGEST:
            self.too_long[task.name] += 1
            return
        texts = question.space.alternatives
        choices = [self._scene.continuation(text)[0] for text in texts]
        gold = texts.index(answer) if texts else -1
        self.lessons.lessons.append(
            Lesson(task.name, [*tokens, *answer_tokens], len(answer_tokens), choices, gold, turn, left_out)
        )
