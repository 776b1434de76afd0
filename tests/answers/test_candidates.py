"""Tests the choice among candidate answers: their probabilities, and how few calls of the model are needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.answers.candidates import Candidates, walk, weigh
from ecellm_lite.answers.decoding import Logits, Step
from ecellm_lite.answers.tape import Tape
from ecellm_lite.engine.fake import scattered

END = 9
T = TypeVar("T")

rows_of_tokens = st.lists(
    st.lists(st.integers(0, 8), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12, unique=True
)


def run(
    generator: Generator[Step, Logits, T], answer: list[int] | None = None, tries: Iterable[int] = ()
) -> tuple[T, list[Step]]:
    """Run a generator as the scheduler does. The logits of each step depend on all tokens of the answer so far.

    `answer`: a list that is changed to hold the tokens of the answer so far.
    `tries`: the number of drafted tokens to try in the first step, in the second step, and so on. A step without a
    number tries all of its drafted tokens.
    """
    seen: list[int] = answer if answer is not None else []
    steps: list[Step] = []
    trying = iter(tries)
    try:
        step = next(generator)
        while True:
            steps.append(step)
            assert step.keep <= len(seen)
            assert 0 <= step.forced <= len(step.tokens) - step.drafted
            tried = min(step.drafted, next(trying, step.drafted))
            seen[step.keep :] = step.tokens[: len(step.tokens) - step.drafted + tried]
            rows = [scattered(seen[: len(seen) - back]) for back in reversed(range(tried + 1))]
            step = generator.send(np.stack(rows) if tried else rows[0])
    except StopIteration as stop:
        value: T = stop.value
        return value, steps


def exact(rows: Sequence[Sequence[int]]) -> list[float]:
    """Return the probability of each candidate, computed by brute force. `rows` are the candidates' tokens."""
    closed = [(*row, END) for row in rows]
    shares = []
    for row in closed:
        share = 1.0
        for depth in range(len(row)):
            allowed = sorted({other[depth] for other in closed if other[:depth] == row[:depth] and len(other) > depth})
            logits = scattered(list(row[:depth])).astype(np.float64)
            total = sum(math.exp(logits[token]) for token in allowed)
            share *= math.exp(logits[row[depth]]) / total
        shares.append(share)
    return shares


@given(rows_of_tokens, st.integers(0, 5), st.lists(st.integers(0, 5), max_size=5))
def test_weigh_is_exact(rows: list[tuple[int, ...]], drafts: int, tries: list[int]) -> None:
    alone, singly = run(weigh(Candidates(rows, END), Tape()))
    assert np.allclose(alone.shares, exact(rows), atol=1e-6)
    assert abs(alone.shares.sum() - 1) < 1e-9
    assert 0 <= alone.coverage <= 1
    assert len(singly) <= max(len(rows) - 1, 0)
    drafted, steps = run(weigh(Candidates(rows, END), Tape(), drafts=drafts), tries=tries)
    assert drafted.shares.tolist() == alone.shares.tolist()
    assert drafted.coverage == alone.coverage
    assert len(steps) <= len(singly)
    assert all(step.drafted <= drafts for step in steps)


@pytest.mark.parametrize(("drafts", "steps"), [(0, 29), (7, 4), (100, 1)])
def test_candidates_that_are_prefixes_of_others_share_calls(drafts: int, steps: int) -> None:
    rows = [range(1, length + 1) for length in range(1, 31)]
    weighed, calls = run(weigh(Candidates(rows, 0), Tape(), drafts=drafts))
    assert len(calls) == steps
    assert sum(len(step.tokens) for step in calls) == 29
    assert len(weighed.shares) == 30


def test_letters_use_no_drafts() -> None:
    _, steps = run(weigh(Candidates([[3, 1], [1, 1], [2, 1]], END), Tape(), drafts=7))
    assert steps == [Step(0)]


@given(rows_of_tokens)
def test_walk_takes_the_likeliest_branch_and_leaves_the_row_on_the_tape(rows: list[tuple[int, ...]]) -> None:
    tape = Tape()
    walked, steps = run(walk(Candidates(rows, END), tape))
    assert tape.tokens == list(rows[walked.index])
    assert math.isclose(walked.probability, exact(rows)[walked.index], rel_tol=1e-6)
    # The model chooses only where rows differ: at most one time fewer than there are rows.
    assert len(steps) <= len(rows) - 1 if len(rows) > 1 else not steps


def test_letters_need_only_the_logits_of_the_prompt() -> None:
    weighed, steps = run(weigh(Candidates([[3], [1], [2]], END), Tape()))
    assert steps == [Step(0)]
    assert len(weighed.shares) == 3


def test_a_single_candidate_needs_no_call() -> None:
    weighed, steps = run(weigh(Candidates([[3, 4]], END), Tape()))
    assert steps == []
    assert weighed.shares.tolist() == [1.0]


def test_forced_tokens_are_decoded_with_the_next_choice() -> None:
    # 5 and 6 need no call; then 1 and 2 differ, and 7 is never shown to the model.
    tape = Tape()
    walked, steps = run(walk(Candidates([[5, 6, 1, 7], [5, 6, 2, 7]], END), tape))
    assert steps == [Step(0, (5, 6), forced=2)]
    assert tape.tokens == [5, 6, walked.index + 1, 7]


def test_a_candidate_that_is_a_prefix_of_another_competes_by_the_end_token() -> None:
    weighed, _ = run(weigh(Candidates([[1], [1, 2]], END), Tape()))
    logits = scattered([1]).astype(np.float64)
    both = np.exp(logits[[END, 2]])
    assert np.allclose(weighed.shares, both / both.sum(), atol=1e-6)


def test_tokens_read_again_count_as_forced() -> None:
    rows = [[1, 5, 1], [1, 5, 2], [2, 6, 1], [2, 6, 2]]
    answer: list[int] = []
    _, steps = run(weigh(Candidates(rows, END), Tape()), answer)
    assert steps == [Step(0), Step(0, (1, 5), forced=1), Step(0, (2, 6), forced=1)]


def test_the_order_of_the_candidates_does_not_matter() -> None:
    rows = [(1, 2), (1, 3), (4,), (4, 5)]
    for order in itertools.permutations(range(4)):
        weighed, _ = run(weigh(Candidates([rows[index] for index in order], END), Tape()))
        assert np.allclose(weighed.shares, [exact(rows)[index] for index in order], atol=1e-6)
