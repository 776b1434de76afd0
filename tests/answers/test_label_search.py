"""Tests the search among many labels: with enough detours, it finds exactly the most probable labels.

A detour is an extra question to the model, about a label that is not the likeliest. A limit on the detours also limits
the number of model calls.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.answers.candidates import Candidates
from ecellm_lite.answers.label_search import SearchResult, search
from ecellm_lite.answers.tape import Tape
from tests.answers.test_candidates import END, exact, rows_of_tokens, run

EVERY = 1000


def find(rows: list[tuple[int, ...]], detours: int, best: int, least: float = 0.0) -> tuple[SearchResult, int]:
    result, steps = run(search(Candidates(rows, END), Tape(), detours=detours, best=best, least=least))
    return result, len(steps)


def questions(rows: list[tuple[int, ...]], index: int) -> int:
    """Return how many tokens of `rows[index]` the model must choose. `rows` are the labels' tokens.

    The model need not choose a token if all labels that begin with the same tokens continue with this token.
    """
    closed = [(*row, END) for row in rows]
    row = closed[index]
    return sum(
        len({other[depth] for other in closed if other[:depth] == row[:depth] and len(other) > depth}) > 1
        for depth in range(len(row))
    )


@given(rows_of_tokens, st.integers(1, 12))
def test_enough_detours_give_the_likeliest_labels(rows: list[tuple[int, ...]], best: int) -> None:
    result, _ = find(rows, EVERY, best)
    shares = sorted(exact(rows), reverse=True)[:best]
    assert len(result.labels) == len(shares)
    assert tuple(result.tokens) == rows[result.labels[0][0]]
    for (index, probability), share in zip(result.labels, shares, strict=True):
        assert abs(probability - exact(rows)[index]) < 1e-6
        assert abs(probability - share) < 1e-6


@given(rows_of_tokens, st.integers(0, 5), st.integers(1, 12))
def test_the_detours_limit_the_calls_and_the_unexplored_share_is_reported(
    rows: list[tuple[int, ...]], detours: int, best: int
) -> None:
    result, calls = find(rows, detours, best)
    shares = exact(rows)
    assert calls <= max(questions(rows, index) for index in range(len(rows))) + detours
    assert result.labels
    assert len({index for index, _ in result.labels}) == len(result.labels)
    for index, probability in result.labels:
        assert abs(probability - shares[index]) < 1e-6
    assert -1e-9 <= result.unexplored <= 1 - sum(probability for _, probability in result.labels) + 1e-6
    if len(result.labels) < min(best, len(rows)):
        missing = sum(shares) - sum(probability for _, probability in result.labels)
        assert abs(result.unexplored - missing) < 1e-6


@given(rows_of_tokens)
def test_labels_below_the_least_probability_are_not_searched(rows: list[tuple[int, ...]]) -> None:
    (first, calls), (_, more) = find(rows, EVERY, 12, least=1.1), find(rows, EVERY, 1)
    assert first.labels[0][1] == max(probability for _, probability in first.labels)
    assert calls == more
