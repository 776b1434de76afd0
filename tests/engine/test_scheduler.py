"""Tests that the scheduler fills its batches, and computes a shared prefix once.

When memory is short, rows wait or start again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.errors import ContextError, EcellmError

PREFIX = list(b"an instruction that every row shares")


def prompts(lengths: Sequence[int]) -> list[list[int]]:
    return [
        [*PREFIX, *(65 + (place * 7 + index) % 26 for index in range(length))] for place, length in enumerate(lengths)
    ]


def finish(scheduler: Scheduler, requests: Sequence[Request]) -> None:
    for request in requests:
        scheduler.submit(request)
    for _ in range(10_000):
        if all(request.done for request in requests):
            return
        scheduler.step()
    raise AssertionError("the scheduler does not come to an end")


class Counting(FakeBackend):
    """An engine that records the number of tokens and rows of each call, and the sequences that were started."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(scattered, **settings)
        self.calls: list[int] = []
        self.rows: list[int] = []
        self.forks = 0

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        self.calls.append(sum(len(chunk.tokens) for chunk in chunks))
        self.rows.append(len(chunks))
        return super().decode(chunks)

    def fork(self, source: int, target: int, length: int) -> None:
        self.forks += 1
        super().fork(source, target, length)


def test_calls_are_filled_up_to_the_batch_size() -> None:
    backend = Counting(batch=100)
    requests = [Request(prompt, len(PREFIX), Text(1)) for prompt in prompts([30] * 20)]
    finish(Scheduler(backend), requests)
    # The prefix alone, then 600 tokens of rows in calls of 100.
    assert backend.calls[0] == len(PREFIX)
    assert backend.calls[1:] == [100] * 6
    assert backend.forks == 20


def test_more_written_answers_run_together_in_a_larger_memory() -> None:
    most = {}
    for cells in (1024, 700, 230):
        backend = Counting(cells=cells, batch=64)
        requests = [Request(prompt, len(PREFIX), Text(40)) for prompt in prompts([32] * 40)]
        finish(Scheduler(backend, drafts=False), requests)
        most[cells] = max(backend.rows)
    # At most two thirds of the memory for rows of 32 tokens plus a reserve of 64, and at most two batches.
    assert most == {1024: 6, 700: 4, 230: 4}


def test_chosen_answers_wait_until_a_call_has_room() -> None:
    backend = Counting(cells=1024, batch=64)
    options = Choice((Option("A", "A: red pepper"), Option("B", "B: red apple")))
    requests = [Request(prompt, len(PREFIX), options) for prompt in prompts([32] * 40)]
    finish(Scheduler(backend), requests)
    assert max(backend.rows) <= 4


def test_only_the_prefix_stays_in_memory() -> None:
    backend = FakeBackend()
    finish(Scheduler(backend), [Request(prompt, len(PREFIX), Text(5)) for prompt in prompts([10, 300, 1])])
    assert backend.used == len(PREFIX)


def test_rows_that_lose_their_memory_start_again_with_the_same_answer() -> None:
    lengths = [50] * 8
    roomy = [Request(prompt, len(PREFIX), Text(120)) for prompt in prompts(lengths)]
    finish(Scheduler(FakeBackend()), roomy)
    backend = Counting(cells=len(PREFIX) + 300, batch=64)
    tight = [Request(prompt, len(PREFIX), Text(120)) for prompt in prompts(lengths)]
    finish(Scheduler(backend), tight)
    assert backend.forks > len(tight), "no row had to give up its room: the test shows nothing"
    assert [request.outcome for request in tight] == [request.outcome for request in roomy]


def test_prefixes_are_evicted_for_rows() -> None:
    backend = FakeBackend(cells=400)
    scheduler = Scheduler(backend)
    for letter in b"abcdefgh":
        prompt = [letter] * 100 + list(b"row")
        request = Request(prompt, 100, Text(3))
        finish(scheduler, [request])
        assert request.outcome
    long = Request([*b"x" * 380], 0, Text(3))
    finish(scheduler, [long])
    assert long.outcome


def test_deterministic_mode_reads_every_prompt_in_the_same_two_calls() -> None:
    backend = Counting()
    scheduler = Scheduler(backend, deterministic=True)
    rows = prompts([20, 30])
    finish(scheduler, [Request(rows[0], len(PREFIX), Text(1)), Request(rows[1], len(PREFIX), Text(1))])
    assert backend.calls == [len(PREFIX), 20, 30]
    finish(scheduler, [Request(list(b"something else altogether, of course"), 20, Text(1))])
    finish(scheduler, [Request(rows[0], len(PREFIX), Text(1))])
    assert backend.calls[3:] == [20, 16, len(PREFIX), 20]


def test_deterministic_rows_run_together_over_a_stable_backend() -> None:
    backend = Counting(stable=True)
    scheduler = Scheduler(backend, deterministic=True)
    finish(scheduler, [Request(prompt, len(PREFIX), Text(1)) for prompt in prompts([20, 30, 25])])
    assert backend.calls == [len(PREFIX), 75]


def test_a_request_is_done_only_after_all_its_fields_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    was = Request.__setattr__

    def spied(request: Request, name: str, value: object) -> None:
        was(request, name, value)
        if name != "done" and getattr(request, "outcome", None) is not None:
            seen.append(request.seconds)

    monkeypatch.setattr(Request, "__setattr__", spied)
    finish(Scheduler(FakeBackend()), [Request(prompt, len(PREFIX), Text(6)) for prompt in prompts([5, 9])])
    assert seen
    assert all(seen)


def test_an_empty_state_is_not_saved(tmp_path: Path) -> None:
    class Forgetful(FakeBackend):
        def save(self, sequence: int) -> bytes:
            return b""

    files = PrefixFiles(tmp_path / "prefixes", "a model", "here")
    finish(Scheduler(Forgetful(), files=files), [Request(prompts([5])[0], len(PREFIX), Text(6), storable=True)])
    assert not list(tmp_path.rglob("*.prefix"))
    finish(Scheduler(FakeBackend(), files=files), [Request(prompts([5])[0], len(PREFIX), Text(6), storable=True)])
    assert list(tmp_path.rglob("*.prefix"))


def test_deterministic_mode_takes_no_part_of_a_longer_prefix() -> None:
    """A row that shares all but the last token of a stored prefix computes a separate, shorter prefix.

    In practice, this happens when the tokenizer joins the instruction's last token with the row's first character.
    """
    backend = Counting()
    scheduler = Scheduler(backend, deterministic=True)
    rows = prompts([20, 30])
    finish(scheduler, [Request(rows[0], len(PREFIX), Text(1))])
    finish(scheduler, [Request(rows[1], len(PREFIX) - 1, Text(1))])
    assert backend.calls == [len(PREFIX), 20, len(PREFIX) - 1, 31]


def test_a_prompt_that_is_only_a_prefix_still_gets_its_logits() -> None:
    request = Request(list(PREFIX), len(PREFIX), Text(2))
    finish(Scheduler(FakeBackend()), [request])
    assert request.outcome


def test_a_row_too_large_for_the_memory_fails_alone() -> None:
    class Endless(Text):
        def decode(self, scene: Scene) -> Decoding:
            from ecellm_lite.answers.decoding import Step

            for count in range(10_000):
                yield Step(count, (65,), 1)
            return Outcome("", "", ())

    backend = FakeBackend(cells=500)
    backend.max_length = 10_000
    requests = [Request(prompts([40])[0], len(PREFIX), space) for space in (Endless(), Text(20))]
    finish(Scheduler(backend), requests)
    assert isinstance(requests[0].error, ContextError)
    assert requests[1].outcome


def test_a_prefix_that_cannot_be_computed_fails_only_its_own_row() -> None:
    class Picky(FakeBackend):
        def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
            if any(200 in chunk.tokens for chunk in chunks):
                raise EcellmError("llama.cpp failed to compute a batch.")
            return super().decode(chunks)

    good = [Request(prompt, len(PREFIX), Text(8)) for prompt in prompts([30, 60])]
    bad = Request([200] * 40 + [65] * 10, 40, Text(8))
    for order in ([good[0], bad, good[1]], [bad, *good], [*good, bad]):
        requests = [Request(one.prompt, one.shared, one.space) for one in order]
        finish(Scheduler(Picky()), requests)
        assert [request.error is not None for request in requests] == [one is bad for one in order]


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 150), min_size=1, max_size=12),
    answers=st.integers(1, 60),
    cells=st.integers(300, 900),
    sequences=st.integers(2, 9),
    batch=st.integers(1, 200),
)
def test_any_memory_size_gives_the_same_answers(
    lengths: list[int], answers: int, cells: int, sequences: int, batch: int
) -> None:
    expected = [Request(prompt, len(PREFIX), Text(answers)) for prompt in prompts(lengths)]
    finish(Scheduler(FakeBackend(), deterministic=True), expected)
    requests = [Request(prompt, len(PREFIX), Text(answers)) for prompt in prompts(lengths)]
    finish(Scheduler(FakeBackend(cells=cells, sequences=sequences, batch=batch)), requests)
    assert [request.outcome for request in requests] == [request.outcome for request in expected]
