"""Tests the tree of prefixes of prompts, the order of rows with a common prefix, identical rows, and drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.prefixes import Match, Prefixes, common_length
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.engine.waiting import GROUP, Waiting
from tests.engine.test_scheduler import Counting, finish
from tests.support.product_rows import INSTRUCTION, fill, product_rows


@given(one=st.lists(st.integers(0, 3), max_size=80), other=st.lists(st.integers(0, 3), max_size=80))
def test_common_counts_the_shared_first_tokens(one: list[int], other: list[int]) -> None:
    length = common_length(one, other)
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]


def test_a_prefix_shares_the_cells_of_its_origin() -> None:
    backend = FakeBackend()
    prefixes = Prefixes(backend, range(8))
    first = prefixes.add(list(b"abcdef"), Match())
    second = prefixes.add(list(b"abcdefghi"), first)
    fill(prefixes, backend)
    assert backend.used == prefixes.cells == 9
    assert prefixes.find(list(b"abcdefghij")) == second
    # Within a node: a row uses the part that it has in common.
    assert prefixes.find(list(b"abcdxy")) == Match(first.prefix, 4)
    # A whole prompt may be in memory, but its last token is computed again for its logits.
    assert prefixes.find(list(b"abcdef")) == Match(first.prefix, 5)
    assert prefixes.find(list(b"xyz")) == Match()


def test_a_prefix_that_others_extend_is_not_evicted() -> None:
    backend = FakeBackend()
    prefixes = Prefixes(backend, range(3))
    root = prefixes.add(list(b"abc"), Match())
    prefixes.add(list(b"abcdef"), root)
    other = prefixes.add(list(b"xyz"), Match())
    fill(prefixes, backend)
    prefixes.hold(other)
    assert prefixes.evict()
    assert prefixes.find(list(b"abcdefg")) == Match(root.prefix, 3), "the leaf went first, though the root is older"
    assert prefixes.evict()
    assert not prefixes.evict(), "a node that a row holds stays"
    assert backend.used == prefixes.cells == 3


def test_an_evicted_prefix_keeps_the_part_that_others_share() -> None:
    """Two instructions begin with "Below is a".

    If the memory is short, the older instruction is cut to this beginning.
    """
    backend = FakeBackend()
    prefixes = Prefixes(backend, range(4))
    old = prefixes.add(list(b"Below is an old instruction"), Match(), instruction=True)
    fill(prefixes, backend)
    shared = prefixes.find(list(b"Below is a new instruction"))
    new = prefixes.add(list(b"Below is a new instruction"), shared, instruction=True)
    fill(prefixes, backend)
    prefixes.hold(new)
    assert prefixes.evict()
    assert old.prefix is not None
    assert bytes(old.prefix.tokens) == b"Below is a"
    assert backend.used == prefixes.cells == len(b"Below is a new instruction")
    assert not prefixes.evict()
    assert list(prefixes.unsaved()) == [new.prefix], "half an instruction is not saved"


def test_the_inherited_part_of_a_prefix_is_matched_at_its_origin() -> None:
    backend = FakeBackend()
    prefixes = Prefixes(backend, range(8))
    short = prefixes.add(list(b"a" * 50), Match())
    long = prefixes.add([*b"a" * 50, *b"b" * 50], short)
    fill(prefixes, backend)
    prefixes.hold(short)  # used last, so that the longer one is looked at first
    match = prefixes.find([*b"a" * 40, *b"c" * 9])
    assert match == Match(short.prefix, 40)
    prefixes.release(short)
    prefixes.hold(match)
    while prefixes.evict():
        assert backend.used == prefixes.cells
    assert long.prefix is not None
    assert backend.used == 40


def test_prefixes_are_evicted_for_a_row_that_needs_the_whole_memory() -> None:
    backend = FakeBackend(cells=256)
    scheduler = Scheduler(backend)
    for opening in (b"Below is an old instruction", b"Below is a new instruction"):
        row = Request([*opening, *b"x" * (200 - len(opening))], len(opening), Text(56))
        finish(scheduler, [row])
        assert row.outcome, row.error


def test_adding_to_a_full_tree_returns_the_longest_match() -> None:
    backend = FakeBackend()
    prefixes = Prefixes(backend, range(1))
    match = prefixes.add(list(b"abc"), Match())
    prefixes.hold(match)
    assert prefixes.add(list(b"abcdef"), match) == match


def test_rows_that_share_a_text_are_computed_together_and_answered_in_order() -> None:
    """The rows are mixed: 20 rows for each of 5 products. Each product's text is computed once."""
    prompts = product_rows(5, 20)
    runs: dict[bool, list[Request]] = {}
    computed: dict[bool, int] = {}
    for grouped in (True, False):
        backend = FakeBackend(sequences=64)
        runs[grouped] = [Request(prompt, len(INSTRUCTION), Text(3)) for prompt in prompts]
        finish(Scheduler(backend, grouped=grouped), runs[grouped])
        computed[grouped] = backend.decoded
    assert [request.outcome for request in runs[True]] == [request.outcome for request in runs[False]]
    own = sum(len(prompt) - len(INSTRUCTION) for prompt in prompts)
    assert computed[False] >= own
    text = len(prompts[0]) - len(INSTRUCTION) - len(b"candidate 0")
    assert computed[True] <= computed[False] - 5 * 19 * (text - 2)


def test_rows_of_a_task_share_their_text_beyond_the_instruction() -> None:
    prompts = [[*INSTRUCTION, *b'{"title": "', *b"%d" % (n * 7919)] for n in range(60)]
    backend = FakeBackend()
    finish(Scheduler(backend), [Request(prompt, len(INSTRUCTION), Text(1)) for prompt in prompts])
    alone = sum(len(prompt) - len(INSTRUCTION) for prompt in prompts)
    assert backend.decoded < alone - 59 * 4


def test_no_row_is_overtaken_by_a_later_group() -> None:
    waiting = Waiting()
    requests = [Request([*[n % 7] * 40, n], 0, Text(1)) for n in range(3 * GROUP)]
    for request in requests:
        waiting.put(request)
    left = []
    while (first := waiting.first()) is not None:
        assert waiting.pop() is first
        left.append(requests.index(first))
    for start in range(0, 3 * GROUP, GROUP):
        assert sorted(left[start : start + GROUP]) == list(range(start, start + GROUP))
    assert left != sorted(left)


def test_identical_rows_are_computed_once() -> None:
    backend = Counting()
    prompt = [*INSTRUCTION, *b"is it blue?"]
    same = [Request(list(prompt), len(INSTRUCTION), Predicate()) for _ in range(5)]
    others = [
        Request(list(prompt), len(INSTRUCTION), Text(4)),
        Request(list(prompt), len(INSTRUCTION), Text(4), seed=1),
    ]
    finish(Scheduler(backend), [*same, *others])
    assert backend.forks == 3, "another space or another seed is another question"
    assert len({id(request.outcome) for request in same}) == 1
    assert [request.cached for request in same[1:]] == [len(prompt)] * 4


def test_an_identical_row_is_answered_though_the_first_was_cancelled() -> None:
    backend = FakeBackend()
    scheduler = Scheduler(backend)
    first, second, third = (Request([*INSTRUCTION, *b"is it?"], 0, Text(4)) for _ in range(3))
    scheduler.submit(first)
    scheduler.submit(second)
    first.cancelled = True
    while not second.done:
        scheduler.step()
    assert second.outcome
    # A row that nobody waits for is dropped, so the next identical one is computed.
    fourth = Request([*INSTRUCTION, *b"is it not?"], 0, Text(4))
    fourth.cancelled = True
    scheduler.submit(fourth)
    scheduler.step()
    fifth = Request([*INSTRUCTION, *b"is it not?"], 0, Text(4))
    finish(scheduler, [third, fifth])
    assert fifth.outcome
    assert not fourth.done


def test_each_duplicate_in_a_job_has_its_own_line() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        rows = [{"id": n, "review": "the same" if n % 2 else f"another {n}"} for n in range(40)]
        answers = list(runtime.answers("sentiment_analysis", rows))
    assert [answer.id for answer in answers] == list(range(40))
    assert (
        len({answer.probability for answer in answers if answer.id and isinstance(answer.id, int) and answer.id % 2})
        == 1
    )


class Copying(FakeBackend):
    """An engine whose answer repeats the prompt, like an answer that quotes a document."""

    def __init__(self, length: int) -> None:
        self.calls = 0
        super().__init__(lambda tokens: self._next(tokens, length))

    def _next(self, tokens: Sequence[int], length: int) -> Logits:
        logits = scattered(tokens) * 0
        logits[tokens[max(0, len(tokens) - length)]] = 1.0
        return logits

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        self.calls += 1
        return super().decode(chunks)


@pytest.mark.parametrize("rows", [1, 12])
def test_drafts_save_calls_and_do_not_change_answers(rows: int) -> None:
    document = b"The strap is long enough for a tall person, and the zip has held for two years of travel."
    prompt = list(document)
    copying = Copying(len(prompt))
    requests = [Request([*prompt], 0, Text(60), seed=n) for n in range(rows)]
    finish(Scheduler(copying), requests)
    assert requests[0].outcome is not None
    assert bytes(requests[0].outcome.tokens) == (document + document)[:60]
    if rows == 1:
        assert copying.calls < 30
        assert requests[0].decoded + requests[0].wasted >= 59
    else:
        assert copying.calls > 50, "a full call tries no drafts"
        assert sum(request.wasted for request in requests) == 0


@given(
    texts=st.lists(st.text("ab", min_size=1, max_size=30), min_size=1, max_size=6),
    tokens=st.integers(1, 50),
    batch=st.integers(1, 40),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_any_drafts_give_the_same_text(texts: list[str], tokens: int, batch: int, temperature: float) -> None:
    """Drafts save calls of the model, and must not change the text."""

    def logits(sequence: Sequence[int]) -> Logits:
        values = scattered(sequence[-2:])
        values[ord("a")] += 4
        values[ord("b")] += 4
        return values

    def run(**settings: Any) -> list[object]:
        requests = [Request([*text.encode()], 0, Text(tokens, temperature), seed=3) for text in dict.fromkeys(texts)]
        finish(Scheduler(FakeBackend(logits, **settings)), requests)
        return [request.outcome for request in requests]

    assert run(batch=batch) == run(batch=1)


def test_without_drafts_no_token_is_guessed() -> None:
    prompt = list(b"The strap is long enough, and the zip has held.")
    copying = Copying(len(prompt))
    request = Request([*prompt], 0, Text(40))
    finish(Scheduler(copying, drafts=False), [request])
    assert request.wasted == 0
    assert copying.calls >= 40
