"""Tests the runtime with the fake engine: the order of answers, errors of single rows, threads and interrupts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ecellm_lite import (
    Answer,
    ContextError,
    EcellmError,
    InputError,
    Runtime,
    UsageError,
)
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.errors import ClosedError
from tests.support.answer_checks import EXAMPLES
from tests.support.gated import Gated
from tests.support.refusals import refusal


def test_answers_come_in_order_with_errors_in_their_place() -> None:
    rows: list[Any] = [{"id": number, "review": "x" * (1 + number * 37 % 300)} for number in range(150)]
    rows[3] = {"id": 3}
    rows[70] = InputError("Line 71 is not JSON: write one object a line.")
    rows[100] = {"id": 100, "review": "y" * 100_000}
    with Runtime.over(FakeBackend()) as runtime:
        answers = list(runtime.answers("sentiment_analysis", rows))
    assert [answer.id for answer in answers] == [None if number == 70 else number for number in range(150)]
    failed = {place: answer.error.code for place, answer in enumerate(answers) if answer.error}
    assert failed == {3: "input", 70: "input", 100: "context_exceeded"}
    assert all(answer.value is None for answer in answers if answer.error)
    assert answers[100].usage is None or answers[100].usage.decoded_tokens == 0


def test_batching_changes_only_the_time() -> None:
    rows = [{"review": f"row {number} " * (number % 9 + 1)} for number in range(80)]
    with Runtime.over(FakeBackend()) as together, Runtime.over(FakeBackend(), deterministic=True) as alone:
        batched = [answer.probabilities for answer in together.answers("sentiment_analysis", rows)]
        single = [alone.answer("sentiment_analysis", row).probabilities for row in rows]
    assert batched == single


def test_the_instruction_is_read_once() -> None:
    backend = FakeBackend()
    with Runtime.over(backend) as runtime:
        first = runtime.answer("sentiment_analysis", {"review": "good"})
        before = backend.decoded
        second = runtime.answer("sentiment_analysis", {"review": "fine"})
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens is not None
    assert second.usage.cached_tokens > 200
    assert backend.decoded - before == second.usage.prompt_tokens - second.usage.cached_tokens


def test_more_instructions_than_sequences_are_answered() -> None:
    with Runtime.over(FakeBackend(sequences=4, cells=2048)) as runtime:
        for number in range(30):
            answer = runtime.answer(
                "sentiment_analysis", {"review": "good"}, instruction=f"Rate it, rule {number}." * 3
            )
            assert answer.error is None


def test_deterministic_answers_have_no_time_and_no_cache_counts() -> None:
    with Runtime.over(FakeBackend(), deterministic=True) as runtime:
        first = runtime.answer("sentiment_analysis", {"review": "good"})
        second = runtime.answer("sentiment_analysis", {"review": "good"})
    assert first == second
    assert first.seconds is None
    assert first.usage is not None
    assert first.usage.cached_tokens is None


def test_rows_wait_for_memory_and_none_is_lost() -> None:
    backend = FakeBackend(cells=1400, sequences=8, batch=64)
    rows = [{"question": "how long?", "documents": ["d" * (1 + number * 53 % 500)]} for number in range(40)]
    with Runtime.over(backend) as runtime:
        answers = list(runtime.answers("answer_generation", rows, space=Text(max_tokens=300)))
    assert all(answer.error is None for answer in answers)
    with Runtime.over(FakeBackend()) as roomy:
        assert [answer.text for answer in answers] == [
            answer.text for answer in roomy.answers("answer_generation", rows, space=Text(max_tokens=300))
        ]


def test_a_prompt_longer_than_the_context_is_an_error() -> None:
    with Runtime.over(FakeBackend(cells=400)) as runtime:
        for length in (400, 1_000_000):  # the longer one is never tokenized
            with pytest.raises(ContextError) as error:
                runtime.answer("sentiment_analysis", {"review": "x" * length})
            assert error.value.settings == ("context", "shorten")


def test_an_answer_longer_than_the_context_is_an_error() -> None:
    row = {"title": "word " * 8, "attributes": ["a"] * 20}
    prompt = 640
    with (
        Runtime.over(FakeBackend(cells=prompt + 200)) as runtime,
        pytest.raises(ContextError),
    ):
        runtime.answer("attribute_value_extraction", row)


def test_several_threads_share_the_model() -> None:
    rows = [{"id": number, "review": f"review {number}"} for number in range(60)]
    by_thread: dict[int, list[Answer]] = {}
    with Runtime.over(FakeBackend()) as runtime:
        alone = [runtime.answer("sentiment_analysis", row).probabilities for row in rows]

        def work(thread: int) -> None:
            by_thread[thread] = list(runtime.answers("sentiment_analysis", rows))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert all([answer.probabilities for answer in by_thread[number]] == alone for number in range(4))


def test_rows_of_an_abandoned_iterator_are_dropped() -> None:
    backend = Gated()
    backend.gate.set()

    def rows() -> Iterator[dict[str, str]]:
        number = 0
        while True:
            yield {"review": f"endless {number}"}
            number += 1

    with Runtime.over(backend) as runtime:
        answers = runtime.answers("sentiment_analysis", rows())
        next(answers)
        backend.gate.clear()
        before = backend.decoded
        answers.close()  # type: ignore[attr-defined]
        backend.gate.set()
        usage = runtime.answer("sentiment_analysis", {"review": "after"}).usage
        assert usage
        # The call that was running, and the one that was prepared when the rows were dropped.
        assert backend.decoded - before - usage.prompt_tokens <= 2 * backend.batch


def test_a_call_that_fails_is_repeated_row_by_row() -> None:
    rows = [{"review": f"row {number}"} for number in range(20)]
    calls = 0

    def logits(tokens: Sequence[int]) -> Logits:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return scattered(tokens)

    with Runtime.over(FakeBackend(logits)) as runtime, Runtime.over(FakeBackend()) as sound:
        first, again = (
            [answer.probabilities for answer in runtime.answers("sentiment_analysis", rows)] for _ in range(2)
        )
        assert first == again == [answer.probabilities for answer in sound.answers("sentiment_analysis", rows)]


def test_a_fault_fails_only_its_own_row() -> None:
    class Broken(Text):
        def decode(self, scene: Any) -> Any:
            yield from ()
            raise ZeroDivisionError("oops")

    with Runtime.over(FakeBackend()) as runtime:
        answers = list(runtime.answers("answer_generation", [EXAMPLES["answer_generation"]] * 2, space=Broken()))
    assert [answer.error.code for answer in answers if answer.error] == ["internal", "internal"]


def test_unknown_tasks_and_closed_runtimes_are_refused() -> None:
    runtime = Runtime.over(FakeBackend())
    with refusal(UsageError, "sentiment_analysis", settings=("task",)):
        runtime.answer("sentiment_analisys", {"review": "x"})
    answers = runtime.answers("sentiment_analysis", ({"review": f"x{n}"} for n in range(1000)))
    next(answers)
    runtime.close()
    with pytest.raises(ClosedError):
        list(answers)
    runtime.close()
    with pytest.raises(ClosedError):
        runtime.answer("sentiment_analysis", {"review": "x"})


def test_an_unknown_task_is_reported_at_the_first_answer() -> None:
    with Runtime.over(FakeBackend()) as runtime, pytest.raises(UsageError):
        next(iter(runtime.answers("nonsense", [])))


def test_a_long_job_does_not_block_other_threads() -> None:
    rows = ({"review": f"row {number}"} for number in range(100_000))
    with Runtime.over(FakeBackend()) as runtime:
        stop = threading.Event()

        def work() -> None:
            for _ in runtime.answers("sentiment_analysis", rows):
                if stop.is_set():
                    return

        job = threading.Thread(target=work)
        job.start()
        try:
            for number in range(5):
                assert runtime.answer("sentiment_analysis", {"review": f"between {number}"}).error is None
            assert job.is_alive()
        finally:
            stop.set()
            job.join(60)


@pytest.mark.parametrize("row_id", [{}, [1], 1.5, float("nan"), True, 1 << 80])
def test_an_id_is_a_text_or_a_number(row_id: Any) -> None:
    with Runtime.over(FakeBackend()) as runtime:
        [bad, good] = runtime.answers("sentiment_analysis", [{"id": row_id, "review": "x"}, {"id": 2, "review": "x"}])
    assert bad.error is not None
    assert bad.error.code == "input"
    assert bad.id is None
    assert (good.id, good.error) == (2, None)


def test_invalid_ids_fail_only_their_own_row() -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    rows = [{"id": deep, "review": "x"}, {"id": "\ud800", "review": "x"}, {"\ud800\x1b[2J": 1}, {"review": deep}]
    with Runtime.over(FakeBackend()) as runtime:
        lines = [json.dumps(answer.as_dict()) for answer in runtime.answers("sentiment_analysis", rows)]
    assert [json.loads(line)["error"] is None for line in lines] == [False, True, False, False]
    for line in lines:
        line.encode("ascii")
        assert "\\u001b" not in line


def test_a_failed_call_fails_only_the_row_that_caused_it() -> None:
    class Picky(FakeBackend):
        def decode(self, chunks: Sequence[Any]) -> list[Logits]:
            if any(b"poison" in self.vocabulary.detokenize(chunk.tokens) for chunk in chunks):
                raise EcellmError("llama.cpp failed to compute a batch.")
            return super().decode(chunks)

    rows = [{"id": number, "review": "poison" if number == 7 else f"row {number}"} for number in range(20)]
    with Runtime.over(Picky()) as runtime, Runtime.over(FakeBackend()) as sound:
        answers = list(runtime.answers("sentiment_analysis", rows))
        expected = [answer.probabilities for answer in sound.answers("sentiment_analysis", rows)]
    assert [answer.id for answer in answers if answer.error] == [7]
    assert [a.probabilities for a in answers if a.id != 7] == [p for number, p in enumerate(expected) if number != 7]


def test_an_answer_space_that_raises_fails_its_row() -> None:
    class Broken(Text):
        def decode(self, scene: Any) -> Any:
            raise ZeroDivisionError("oops")

    with Runtime.over(FakeBackend()) as runtime, refusal(EcellmError, "ZeroDivisionError"):
        runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=Broken())


@pytest.mark.parametrize(
    "settings_",
    [
        {"kv_type": "q4_0"},
        {"context": 0},
        {"context": -5},
        {"threads": -1},
        {"gpu_layers": "some"},
        {"deterministic": True, "kv_type": "q8_0"},
    ],
)
def test_incompatible_settings_are_refused(settings_: dict[str, Any]) -> None:
    from ecellm_lite.engine.settings import Settings

    with pytest.raises(UsageError):
        Settings(**settings_)
