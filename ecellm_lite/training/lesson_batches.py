"""Groups lessons into batches and parts. The model learns from one batch per step, and computes one part per call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from random import Random

from ecellm_lite.training.lessons import Lesson

GROUP = 16  # batches whose lessons are sorted by length together
LEAST_SHARED = 16  # tokens


def batches(lessons: Sequence[Lesson], rows: int, random: Random) -> Iterator[list[Lesson]]:
    """Yield batches of `rows` lessons of similar length, in a random order."""
    order = random.sample(lessons, len(lessons))
    size = rows * GROUP
    sorted_batches: list[list[Lesson]] = []
    for first in range(0, len(order), size):
        group = sorted(order[first : first + size], key=lambda lesson: len(lesson.tokens))
        sorted_batches += [group[start : start + rows] for start in range(0, len(group), rows)]
    yield from random.sample(sorted_batches, len(sorted_batches))


def shared_tokens(part: Sequence[Lesson]) -> int:
    """Return how many tokens at the beginning are the same in all lessons.

    Return 0 if they are too few to be worth a call of the model. The last token before an answer does not count,
    because it must be computed for each lesson.
    """
    if len(part) == 1:
        return 0
    ordered = sorted([*lesson.tokens] for lesson in part)
    first, last = ordered[0], ordered[-1]
    most = min(len(lesson.tokens) - lesson.answer - 1 for lesson in part)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first[:most], last, strict=False)))
    return shared if shared >= LEAST_SHARED else 0


def parts(batch: Sequence[Lesson], tokens: int) -> list[list[Lesson]]:
    """Split a batch into parts of at most `tokens` tokens, padding included. A longer lesson gets a part of its own."""
    split: list[list[Lesson]] = [[]]
    longest = 0
    for lesson in batch:
        longest = max(longest, len(lesson.tokens))
        if split[-1] and longest * (len(split[-1]) + 1) > tokens:
            split.append([])
            longest = len(lesson.tokens)
        split[-1].append(lesson)
    return split


@dataclass(frozen=True, slots=True)
class Packing:
    """The tokens of several lessons, one lesson after the other, without padding.

    If a lesson begins with the same tokens as the lesson before it, these tokens are stored once.

    - `positions`: for each token, its position in its lesson.
    - `rows`: for each lesson, the indices of its tokens in `tokens`.
    - `shared`: for each lesson, how many of its first tokens are also those of the lesson before it.
    - `answers`: where the logits that predict the answers are, lesson after lesson. A token is predicted by the logits
      after the token before it. So for each token of an answer, this is the index in `tokens` of the token before it.
    """

    tokens: Sequence[int]
    positions: Sequence[int]
    rows: Sequence[Sequence[int]]
    shared: Sequence[int]
    answers: Sequence[int]


def packed(part: Sequence[Lesson]) -> Packing:
    """Return lessons as one sequence of tokens, to be computed in one call.

    The sequence is shorter if neighboring lessons begin with the same tokens.
    """
    tokens: list[int] = []
    positions: list[int] = []
    rows: list[list[int]] = []
    shared: list[int] = []
    answers: list[int] = []
    before: tuple[Sequence[int], Sequence[int]] = ([], [])  # the tokens of the lesson before, and where they are
    for lesson in part:
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(lesson.tokens, before[0], strict=False)))
        row = [*before[1][:alike], *range(len(tokens), len(tokens) + len(lesson.tokens) - alike)]
        tokens += lesson.tokens[alike:]
        positions += range(alike, len(lesson.tokens))
        answers += row[-lesson.answer - 1 : -1]
        rows.append(row)
        shared.append(alike)
        before = (lesson.tokens, row)
    return Packing(tokens, positions, rows, shared, answers)
