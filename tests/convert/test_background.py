"""Tests of background threads that read and write: items stay in order, errors reach the caller, all threads end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ecellm_lite.convert.background import ReadAhead, WriteBehind


class Broken(Exception):  # noqa: N818 - it says what it is
    pass


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def numbers(count: int, broken_at: int = -1) -> Iterator[int]:
    for number in range(count):
        if number == broken_at:
            raise Broken
        yield number


def test_items_are_read_in_order_and_no_further_ahead_than_the_limit() -> None:
    numbers: list[int] = []

    def watched() -> Iterator[int]:
        for number in range(50):
            numbers.append(number)
            yield number

    with ReadAhead(watched(), 2) as ahead:
        for place, number in enumerate(ahead):
            assert number == place
            assert len(numbers) <= place + 4


def test_an_error_of_the_reader_is_raised_after_its_items() -> None:
    seen: list[int] = []
    with ReadAhead(numbers(9, broken_at=4), 2) as ahead, pytest.raises(Broken):
        seen.extend(ahead)
    assert seen == [0, 1, 2, 3]


def test_the_reader_ends_when_its_consumer_ends() -> None:
    with ReadAhead(numbers(1000), 2) as ahead:
        assert next(iter(ahead)) == 0


def test_work_is_done_in_order() -> None:
    done: list[int] = []
    with WriteBehind(done.append, 2) as behind:
        for number in range(50):
            behind.put(number)
    assert done == list(range(50))


def test_queued_work_is_done_after_an_error_of_the_caller() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with suppress(Broken), WriteBehind(work, 2) as behind:
        for number in range(3):
            behind.put(number)
        raise Broken
    assert done == [0, 1, 2]


@pytest.mark.parametrize("broken_at", [0, 3, 9])
def test_an_error_of_the_work_is_raised(broken_at: int) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == broken_at:
            raise Broken
        done.append(number)

    def give_all() -> None:
        with WriteBehind(work, 1) as behind:
            for number in range(10):
                behind.put(number)

    with pytest.raises(Broken):
        give_all()
    assert done == list(range(broken_at))
