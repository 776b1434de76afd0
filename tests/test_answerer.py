"""Tests a Runtime as an Answerer: many callers, cancelled rows, closing, forked processes, deadlines, slow input."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

import pytest

from ecellm_lite import Answer, InputError, Runtime, UsageError
from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ClosedError, DeadlineError
from ecellm_lite.serve.workers import Workers
from tests.support.answer_checks import EXAMPLES
from tests.support.gated import PATIENCE, Gated


def test_a_runtime_is_an_answerer() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answerer: Answerer = runtime
        future = answerer.submit("sentiment_analysis", {"id": 7, "review": "good"})
        answer = future.result(PATIENCE)
        assert (answer.id, answer.error) == (7, None)
        assert "sentiment_analysis" in answerer.tasks
        assert answerer.answer("sentiment_analysis", {"review": "good"}).probabilities == answer.probabilities


def test_a_bad_row_is_an_answer_and_a_bad_request_raises() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.submit("sentiment_analysis", {"id": 1}).result(PATIENCE)
        assert answer.error
        assert (answer.id, answer.error.code) == (1, "input")
        with pytest.raises(UsageError):
            runtime.submit("nonsense", {"review": "good"})
        with pytest.raises(UsageError):
            runtime.submit("sentiment_analysis", {"review": "good"}, min_probability=2)
        with pytest.raises(InputError):
            runtime.answer("sentiment_analysis", {"id": 1})


def test_an_unknown_option_raises_and_is_named() -> None:
    options: Any = {"min_probability": 0.5, "min_probabilty": 0.99}
    rows: list[dict[str, Any]] = [{"review": "good"}, {}]
    with Runtime.over(FakeBackend()) as runtime:
        calls: list[Callable[[], object]] = [
            lambda: runtime.submit("sentiment_analysis", rows[0], **options),
            lambda: runtime.answer("sentiment_analysis", rows[1], **options),
            lambda: list(runtime.answers("sentiment_analysis", rows, **options)),
            lambda: list(Workers([runtime]).answers("sentiment_analysis", rows, **options)),
            lambda: Workers([runtime]).submit("sentiment_analysis", rows[0], **options),
        ]
        for call in calls:
            with pytest.raises(TypeError, match="'min_probabilty'"):
                call()


def test_options_of_one_request_do_not_affect_others() -> None:
    row = EXAMPLES["answer_generation"]
    with Runtime.over(FakeBackend()) as runtime:
        plain = runtime.answer("answer_generation", row)
        drawn = [
            runtime.submit("answer_generation", row, space=Text(20, temperature=1.0), seed=seed) for seed in (1, 2, 1)
        ]
        strict = runtime.submit("sentiment_analysis", {"review": "good"}, min_probability=1.0)
        other = runtime.submit("answer_generation", row, instruction="Say something else of it.")
        texts = [future.result(PATIENCE).text for future in drawn]
        assert texts[0] == texts[2] != texts[1]
        assert strict.result(PATIENCE).abstained
        assert other.result(PATIENCE).text != plain.text
        assert runtime.answer("answer_generation", row).text == plain.text


def test_64_threads_each_get_their_own_answers() -> None:
    names = [name for name in EXAMPLES if name != "answer_generation"]
    results: dict[int, Answer] = {}
    with Runtime.over(FakeBackend(sequences=64, cells=1 << 14)) as runtime:
        alone = {name: runtime.answer(name, EXAMPLES[name]) for name in names}

        def ask(thread: int) -> None:
            futures = []
            for number in range(thread, 2000, 64):
                name = names[number % len(names)]
                futures.append((number, runtime.submit(name, {**EXAMPLES[name], "id": number})))
            for number, future in futures:
                results[number] = future.result(PATIENCE)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(results) == 2000
    for number, answer in results.items():
        first = alone[names[number % len(names)]]
        assert (answer.id, answer.task, answer.value) == (number, first.task, first.value)


def test_a_single_row_is_answered_before_later_jobs() -> None:
    backend = Gated()
    ended: list[str] = []
    with Runtime.over(backend) as runtime:
        job = [runtime.submit("sentiment_analysis", {"review": f"row {number} of a job"}) for number in range(500)]
        single = runtime.submit("product_matching", EXAMPLES["product_matching"])
        later = [runtime.submit("sentiment_analysis", {"review": f"later row {number}"}) for number in range(500)]
        for future in (*job, *later):
            future.add_done_callback(lambda _: ended.append("job"))
        single.add_done_callback(lambda _: ended.append("single"))
        backend.gate.set()
        for future in (*job, *later, single):
            assert future.result(PATIENCE).error is None
    # It may end with its group of 128, or shortly after, because of rows admitted meanwhile.
    assert ended.index("single") < 500 + 2 * 128


def test_a_cancelled_row_needs_no_more_calls() -> None:
    backend = Gated()
    with Runtime.over(backend) as runtime:
        long = runtime.submit("answer_generation", EXAMPLES["answer_generation"], space=Text(2000))
        waiting = [runtime.submit("sentiment_analysis", {"review": f"row {number}"}) for number in range(300)]
        assert long.cancel()
        assert all(future.cancel() for future in waiting)
        backend.gate.set()
        assert runtime.answer("sentiment_analysis", {"review": "good"}).error is None
        assert backend.calls < 10
        with pytest.raises(CancelledError):
            long.result(PATIENCE)


def test_cancelling_one_of_two_identical_rows_leaves_the_other_its_answer() -> None:
    backend = Gated()
    with Runtime.over(backend) as runtime:
        first, second = (runtime.submit("sentiment_analysis", {"review": "good"}) for _ in range(2))
        first.cancel()
        backend.gate.set()
        assert second.result(PATIENCE).error is None


def test_closing_fails_waiting_rows() -> None:
    backend = Gated()
    runtime = Runtime.over(backend)
    futures = [runtime.submit("sentiment_analysis", {"review": f"row {number}"}) for number in range(300)]
    threading.Timer(0.05, backend.gate.set).start()
    runtime.close()
    runtime.close()
    assert any(isinstance(future.exception(PATIENCE), ClosedError) for future in futures)
    with pytest.raises(ClosedError):
        runtime.submit("sentiment_analysis", {"review": "good"})


def test_a_callback_may_submit_a_row() -> None:
    second: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
    with Runtime.over(FakeBackend()) as runtime:
        for _ in range(2):  # the same row twice: they are computed once
            first = runtime.submit("sentiment_analysis", {"review": "good"})
            first.add_done_callback(lambda _: second.put(runtime.submit("sentiment_analysis", {"review": "once more"})))
        assert all(second.get(timeout=PATIENCE).result(PATIENCE).error is None for _ in range(2))


def test_a_garbage_collected_runtime_ends_its_thread() -> None:
    backend = FakeBackend()
    runtime = Runtime.over(backend)
    runtime.answer("sentiment_analysis", {"review": "good"})
    thread = runtime._driver._thread
    del runtime
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert backend._closed


def test_an_idle_engine_uses_no_processor_time() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        runtime.answer("sentiment_analysis", {"review": "good"})
        before = time.process_time()
        time.sleep(1)
        assert time.process_time() - before < 0.05  # of a second; polling would take more


def test_answers_are_given_while_the_input_waits() -> None:
    """`answers` must not wait for more rows here: the input yields a row only after the answer to the previous one."""
    sent: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    with Runtime.over(FakeBackend()) as runtime:
        answers = runtime.answers("sentiment_analysis", iter(sent.get, None))
        for number in range(5):
            sent.put({"id": number, "review": f"row {number}"})
            assert next(answers).id == number
        sent.put(None)
        assert list(answers) == []


def test_an_error_of_the_input_is_raised_after_the_earlier_answers() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1, "review": "good"}
        raise OSError("the disk is gone")

    with Runtime.over(FakeBackend()) as runtime:
        answers = runtime.answers("sentiment_analysis", rows())
        assert next(answers).id == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(answers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_cannot_use_the_model() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        runtime.answer("sentiment_analysis", {"review": "good"})
        child = os.fork()
        if child == 0:
            try:
                runtime.answer("sentiment_analysis", {"review": "good"})
            except ClosedError:
                runtime.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert runtime.answer("sentiment_analysis", {"review": "good"}).error is None


def _note(order: list[int], place: int, _: Future[Answer]) -> None:
    order.append(place)


def test_a_deadline_is_kept_while_the_model_computes() -> None:
    backend = Gated()
    with Runtime.over(backend) as runtime:
        late = runtime.submit("sentiment_analysis", {"id": 1, "review": "late"}, deadline_ms=20)
        answer = late.result(PATIENCE)  # the gate is still closed: the engine is in the middle of a call
        with pytest.raises(DeadlineError):
            runtime.answer("sentiment_analysis", {"review": "later"}, deadline_ms=1)
        backend.gate.set()
        assert answer.error
        assert (answer.id, answer.error.code, answer.value, answer.usage) == (1, "deadline", None, None)
        early = runtime.answer("sentiment_analysis", {"review": "early"}, deadline_ms=1000 * PATIENCE)
        assert early.error is None
        wrong: Any
        for wrong in (0, -1, True, float("nan"), "soon"):
            with pytest.raises(UsageError):
                runtime.submit("sentiment_analysis", {"review": "good"}, deadline_ms=wrong)
        with pytest.raises(UsageError):
            runtime.submit("sentiment_analysis", {"review": "good"}, priority=wrong)


def test_a_row_past_its_deadline_is_dropped_and_an_identical_one_answered() -> None:
    backend = Gated()
    row = EXAMPLES["answer_generation"]
    with Runtime.over(backend) as runtime:
        long = runtime.submit("answer_generation", row, space=Text(500), deadline_ms=20)
        assert long.result(PATIENCE).error
        twin_row = {"review": "asked twice"}
        first = runtime.submit("sentiment_analysis", twin_row, deadline_ms=20)
        twin = runtime.submit("sentiment_analysis", twin_row)
        assert first.result(PATIENCE).error
        backend.gate.set()
        assert twin.result(PATIENCE).error is None
        assert backend.calls < 20


def test_urgent_rows_are_answered_first_in_order_of_arrival() -> None:
    backend = Gated()
    order: list[int] = []
    with Runtime.over(backend) as runtime:
        futures = [runtime.submit("sentiment_analysis", {"review": f"night {n}"}) for n in range(500)]
        futures += [
            runtime.submit("sentiment_analysis", {"review": f"urgent {n}"}, priority="urgent") for n in range(20)
        ]
        futures.append(runtime.submit("sentiment_analysis", {"review": "night 499"}, priority="urgent"))
        for place, future in enumerate(futures):
            future.add_done_callback(partial(_note, order, place))
        backend.gate.set()
        for future in futures:
            future.result(PATIENCE)
    urgent = [place for place in order if place >= 500]
    assert urgent == sorted(urgent)
    assert order.index(urgent[0]) < 20
    assert order.index(urgent[-1]) < 60
