"""Tests a scheduler that answers the rows of several adapters in turn.

All rows in a call of the model must have the same adapter, and may share a prefix only with rows of this adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, LogitsOf, scattered
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.errors import EcellmError
from tests.engine.test_scheduler import PREFIX, finish, prompts

ADAPTERS: tuple[str | None, ...] = (None, "shop-a", "shop-b")


def seeded(seed: int) -> LogitsOf:
    return lambda tokens: scattered([seed, *tokens])


class Shops(FakeBackend):
    """A fake engine with two adapters. It records the adapter of each call, and refuses a call that mixes adapters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(scattered, adapters={"shop-a": seeded(1), "shop-b": seeded(2)}, **settings)
        self.calls: list[str | None] = []

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        self.calls.append(self.adapted)
        return super().decode(chunks)


def asked(adapter: str | None, prompt: Sequence[int], tokens: int = 3, **settings: Any) -> Request:
    return Request(prompt, len(PREFIX), Text(tokens), adapter=adapter, **settings)


def alone(request: Request) -> Any:
    """Return the outcome of a request when no other request runs."""
    same = asked(request.adapter, request.prompt)
    finish(Scheduler(Shops()), [same])
    return same.outcome


def distinct(count: int) -> list[list[int]]:
    """Return different prompts. Identical prompts would be computed only once."""
    return [[*PREFIX, *f"{number * 7919 % 1000:03}{number:030}".encode()] for number in range(count)]


def switches(calls: Sequence[str | None]) -> int:
    return sum(one != other for one, other in pairwise(calls))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_mixed_rows_get_the_answers_of_their_own_adapter(deterministic: bool, seconds: float) -> None:
    requests = [asked(ADAPTERS[number % 3], prompt) for number, prompt in enumerate(prompts([5, 60, 20] * 10))]
    finish(Scheduler(Shops(), deterministic=deterministic, turn_seconds=seconds), requests)
    assert [request.outcome for request in requests] == [alone(request) for request in requests]
    answers = {request.adapter: request.outcome for request in requests[:3]}
    assert len({repr(outcome) for outcome in answers.values()}) == 3


def test_the_same_row_for_two_adapters_is_computed_twice() -> None:
    [prompt] = prompts([20])
    requests = [asked(adapter, prompt) for adapter in (*ADAPTERS, "shop-a")]
    scheduler = Scheduler(Shops())
    finish(scheduler, requests)
    outcomes = [request.outcome for request in requests]
    assert outcomes[1] == outcomes[3]
    assert all(one != other for one, other in ((outcomes[0], outcomes[1]), (outcomes[1], outcomes[2])))


def test_a_prefix_belongs_to_its_adapter() -> None:
    scheduler = Scheduler(Shops())
    cached: list[int] = []
    for adapter in ("shop-a", "shop-b", "shop-a", None):
        request = asked(adapter, [*PREFIX, *b" row of", len(cached) + 65])
        finish(scheduler, [request])
        cached.append(request.cached)
    assert [cached[0], cached[1], cached[3]] == [0, 0, 0]
    assert cached[2] >= len(PREFIX)


def test_no_adapter_waits_for_all_rows_of_another() -> None:
    backend = Shops(batch=64)
    scheduler = Scheduler(backend, turn_seconds=0)
    many = [asked("shop-a", prompt) for prompt in distinct(200)]
    for request in many:
        scheduler.submit(request)
    for _ in range(5):
        scheduler.step()
    late = [asked("shop-b", prompt) for prompt in prompts([31] * 3)]
    finish(scheduler, late)
    assert sum(request.done for request in many) < 50
    finish(scheduler, many)
    assert all(request.outcome for request in many)


def test_adapters_change_as_rarely_as_possible() -> None:
    backend = Shops(batch=64)
    requests = [asked(ADAPTERS[number % 3], prompt) for number, prompt in enumerate(distinct(90))]
    finish(Scheduler(backend, turn_seconds=3600), requests)
    assert switches(backend.calls) == 2


def test_an_urgent_row_of_another_adapter_comes_first() -> None:
    scheduler = Scheduler(Shops(batch=64), turn_seconds=3600)
    many = [asked("shop-a", prompt) for prompt in distinct(200)]
    for request in many:
        scheduler.submit(request)
    scheduler.step()
    urgent = asked("shop-b", prompts([32])[0], urgent=True)
    finish(scheduler, [urgent])
    assert sum(request.done for request in many) < 20


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.sampled_from(ADAPTERS), st.integers(1, 120), st.booleans()), min_size=1, max_size=25),
    cells=st.integers(260, 900),
    batch=st.integers(16, 200),
    seconds=st.sampled_from([0.0, 3600.0]),
)
def test_every_row_ends_with_any_memory_size(
    rows: list[tuple[str | None, int, bool]], cells: int, batch: int, seconds: float
) -> None:
    drawn = prompts([length for _, length, _ in rows])
    requests = [asked(adapter, prompt, urgent=urgent) for (adapter, _, urgent), prompt in zip(rows, drawn, strict=True)]
    finish(Scheduler(Shops(cells=200, max_cells=cells, batch=batch), turn_seconds=seconds), requests)
    assert [request.outcome for request in requests] == [alone(request) for request in requests]


def test_a_failing_row_fails_no_other() -> None:
    class Picky(Shops):
        def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
            if self.adapted == "shop-b" and any(33 in chunk.tokens for chunk in chunks):
                raise EcellmError("The call failed.")
            return super().decode(chunks)

    requests = [asked(ADAPTERS[number % 3], prompt) for number, prompt in enumerate(prompts([20] * 12))]
    bad = asked("shop-b", [*PREFIX, 33, 33, 34])
    finish(Scheduler(Picky(), turn_seconds=0), [*requests[:7], bad, *requests[7:]])
    assert bad.error is not None
    assert [request.outcome for request in requests] == [alone(request) for request in requests]


def test_states_on_disk_belong_to_the_hash_of_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "states").mkdir(mode=0o700)

    def cached(adapter: str | None, sha256: str) -> int:
        files = PrefixFiles(tmp_path / "states", "0" * 64, "", adapters={"shop-a": sha256, "shop-b": "b" * 64})
        request = asked(adapter, [*PREFIX, *b"row"], storable=True)
        finish(Scheduler(Shops(), files=files), [request])
        assert request.outcome == alone(request)
        return request.cached

    assert [cached("shop-a", "1" * 64), cached("shop-a", "1" * 64)] == [0, len(PREFIX)]
    assert cached("shop-a", "2" * 64) == 0  # another adapter under the same name
    assert cached(None, "1" * 64) == cached("shop-b", "1" * 64) == 0


def test_closing_fails_the_waiting_rows_of_all_adapters() -> None:
    scheduler = Scheduler(Shops())
    requests = [asked(adapter, prompt) for adapter in ADAPTERS for prompt in prompts([20, 30])]
    for request in requests:
        scheduler.submit(request)
    scheduler.step()
    scheduler.fail(EcellmError("The engine stopped."))
    assert all(request.done for request in requests)
    assert scheduler.waiting == scheduler.running == 0
