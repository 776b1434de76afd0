"""Tests that the engine takes more memory when rows wait or answers are long, but never in deterministic mode."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ecellm_lite import ModelError
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import END, FakeBackend, scattered
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from tests.engine.test_scheduler import finish


@pytest.mark.parametrize(
    ("space", "one", "many"),
    [
        (Choice((Option("A", "A"), Option("B", "B"))), 1024, 2048),  # two batches of rows, and no more
        (Text(2), 2048, 4096),  # half as much again for the answers, and more rows
    ],
)
def test_memory_grows_with_the_waiting_rows(space: Space, one: int, many: int) -> None:
    backend = FakeBackend(cells=256, max_cells=4096)
    scheduler = Scheduler(backend)
    finish(scheduler, [Request(list(b"short" * 20), 0, space)])
    assert backend.cells == 256
    finish(scheduler, [Request(list(b"x" * 900), 0, space)])
    assert backend.cells == one
    finish(scheduler, [Request([n % 250, *b"y" * 300], 0, space) for n in range(30)])
    assert backend.cells == many


def test_memory_grows_for_a_long_answer() -> None:
    def endless(tokens: Sequence[int]) -> Logits:
        logits = scattered(tokens)
        logits[END] = -9
        return logits

    backend = FakeBackend(endless, cells=256, max_cells=4096)
    request = Request(list(b"x" * 100), 0, Text(700))
    finish(Scheduler(backend), [request])
    roomy = Request(list(b"x" * 100), 0, Text(700))
    finish(Scheduler(FakeBackend(endless)), [roomy])
    assert request.outcome == roomy.outcome
    assert 256 < backend.cells <= 2048


def test_memory_grows_while_rows_keep_coming() -> None:
    backend = FakeBackend(cells=256, max_cells=4096)
    scheduler = Scheduler(backend)
    requests = []
    for number in range(60):
        requests.append(Request([number, *b"z" * 150], 0, Text(2)))
        scheduler.submit(requests[-1])
        requests.append(Request([number, *b"y" * 150], 0, Text(2)))
        scheduler.submit(requests[-1])
        scheduler.step()
    assert backend.cells > 256
    while not all(request.done for request in requests):
        scheduler.step()
    assert all(request.outcome for request in requests)


def test_rows_are_answered_in_turn_if_memory_cannot_grow() -> None:
    class Small(FakeBackend):
        def grow(self, cells: int) -> None:
            if cells > 512:
                raise ModelError("llama.cpp cannot make a context.")
            super().grow(cells)

    requests = [Request([n, *b"x" * 300], 0, Text(2)) for n in range(12)]
    finish(Scheduler(Small(cells=256, max_cells=4096)), requests)
    assert all(request.outcome for request in requests)


def test_deterministic_memory_does_not_depend_on_what_ran_before() -> None:
    backend = FakeBackend(cells=256, max_cells=2048)
    Scheduler(backend, deterministic=True)
    assert backend.cells == 2048
