"""Tests the order of the queue: the oldest row goes first, and rows that share enough text with it come next."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.engine.families import FAMILY, INSTRUCTIONS, by_family
from ecellm_lite.engine.prefixes import LEAST_SAVING, common_length
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Question

CLIENTS = 32


def row(task: int, *text: int, instruction: int = 40) -> Request:
    """Return a request whose prompt is `instruction` copies of the token `task`, followed by the tokens `text`."""
    return Request([task] * instruction + list(text), instruction, Text(1), opening=instruction)


def places(requests: Sequence[Request]) -> list[int]:
    """Return the index in `requests` of each request, in the order in which the requests leave the queue."""
    return [requests.index(request) for request in by_family(requests)]


def test_rows_that_share_only_their_instruction_are_taken_in_order_of_arrival() -> None:
    requests = [row(200 - n % 4, 99 - n, n) for n in range(60)]
    assert places(requests) == list(range(60))


def test_rows_of_one_product_are_taken_together_at_the_oldest_ones_turn() -> None:
    product = [7] * LEAST_SAVING
    requests = [row(1, 5), row(1, *product, 9), row(1, 4), row(2, *product, 8), row(1, *product, 8), row(1, 3)]
    assert places(requests) == [0, 4, 1, 2, 3, 5]


def test_other_rows_are_taken_before_the_rest_of_a_large_family() -> None:
    product = [7] * 100
    requests = [row(1, *product, n) for n in range(2 * FAMILY)]
    requests[1:1] = [row(2, 5), row(3, 5)]
    order = places(requests)
    assert sorted(order) == list(range(2 * FAMILY + 2))
    assert order.index(1) == FAMILY
    assert order.index(2) == FAMILY + 1


def test_rows_with_the_same_of_many_instructions_are_taken_together() -> None:
    few = [row(n % INSTRUCTIONS, n) for n in range(60)]
    many = [row(n % (INSTRUCTIONS + 1), n) for n in range(60)]
    assert places(few) == list(range(60))
    tasks = [request.prompt[0] for request in by_family(many)]
    assert tasks == sorted(tasks)


def test_questions_about_one_text_form_a_family_but_reviews_do_not() -> None:
    first, second = (
        "It is loud, but the zip has held for years.",
        "Broke after two days; I had expected more.",
    )

    def asked(state: str, question: str) -> Question:
        return question_task({"type": "predicate", "instructions": question}).question({"state": state})

    def review(text: str) -> Question:
        return get_task("sentiment_analysis").question({"review": text})

    questions = [
        asked(first, "Is it loud?"),
        review(second),
        asked(second, "Is it loud?"),
        asked(first, "Did it break?"),
        review(first),
    ]
    with Runtime.over(FakeBackend()) as runtime:
        assert places([runtime.request(question) for question in questions]) in ([0, 3, 1, 2, 4], [3, 0, 1, 2, 4])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 9)), max_size=80))
def test_only_rows_of_an_older_rows_family_overtake_others(rows: list[tuple[int, int, int]]) -> None:
    requests = [row(task, *[product] * 40, end) for task, product, end in rows]
    order = places(requests)
    assert sorted(order) == list(range(len(requests)))
    for turn, place in enumerate(order):
        part = order[max(0, turn - FAMILY + 1) : turn + FAMILY]  # where the rest of the row's part of its family is
        relatives = [one for one in part if related(requests[one], requests[place])]
        assert min(relatives) <= min(order[turn:])


def related(one: Request, other: Request) -> bool:
    return common_length(one.prompt, other.prompt) >= one.opening + LEAST_SAVING


def test_no_client_waits_while_others_are_answered_twice() -> None:
    """Each client sends a new row as soon as it has an answer.

    A row's wait is the number of other rows that are answered while it waits. If the longest wait is about the
    number of clients, no client got two answers while another waited.
    """
    options = Choice((Option("A", "A: a red pepper"), Option("B", "B: a red apple")))
    scheduler = Scheduler(FakeBackend(cells=256, max_cells=1024, sequences=64, batch=64))
    requests = [Request([n * 7 % 4] * 20 + list(b"%d" % (n * 7919)), 20, options, opening=20) for n in range(200)]
    answered = 0
    begun: list[int] = []  # for each row sent, how many rows were answered before
    longest = 0
    while answered < len(requests):
        for request in requests[len(begun) : answered + CLIENTS]:
            begun.append(answered)
            scheduler.submit(request)
        scheduler.step()
        answered = sum(request.done for request in requests)
        waits = [answered - start for request, start in zip(requests, begun, strict=False) if not request.done]
        longest = max([longest, *waits])
    assert longest <= CLIENTS * 5 // 4
