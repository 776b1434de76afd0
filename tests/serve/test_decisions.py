"""Tests of decisions that OpenAI's own client asks for.

The client must understand the responses, and get the engine's probabilities unchanged.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ClosedError
from ecellm_lite.serve.in_flight import InFlight
from ecellm_lite.serve.keys import Key, Keys
from ecellm_lite.tasks.questions import question_task
from tests.serve.serving import PATIENCE, Server, serving, until
from tests.support.gated import Gated

openai = pytest.importorskip("openai", reason="OpenAI's client comes with the extra 'demo'")

STATE = "My parcel never came, and I want my money back. " * 4
PREDICATE = {"type": "predicate", "instructions": "Does the customer want a refund?", "name": "refund"}
CHOICE = {
    "type": "choice",
    "instructions": "Which desk?",
    "choices": [
        {"value": "billing", "description": "invoices"},
        {"value": "delivery"},
        {"value": True},
        {"value": "true"},
    ],
}
SCORE = {
    "type": "score",
    "instructions": "How urgent?",
    "levels": [{"label": "low"}, {"label": "mid"}, {"label": "high"}],
}


JSON = {"Content-Type": "application/json"}
TWICE = [{"value": "a"}, {"value": "a"}]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key="placeholder", max_retries=0) as client:
        yield client


def decide(client: Any, **body: Any) -> Any:
    """Ask for a decision with OpenAI's client. Check that the response has exactly the keys that the client knows."""
    from openai.types import Decision

    raw = client.decisions.with_raw_response.create(**{"model": "fake", "input": STATE, **body})
    data = json.loads(raw.text)
    decision = Decision.model_validate(data, strict=True)
    assert decision.to_dict(exclude_unset=False) == data
    return decision


def test_all_kinds_are_answered_in_order(client: Any) -> None:
    decision = decide(client, questions=[SCORE, PREDICATE, CHOICE])
    score, predicate, choice = decision.answers
    assert (score.type, score.name, predicate.name, choice.name) == ("score", None, "refund", None)
    assert sum(one.probability for one in score.probabilities) == pytest.approx(1, abs=1e-9)
    assert [(one.value, one.label) for one in score.probabilities] == [(0, "low"), (1, "mid"), (2, "high")]
    assert score.score == pytest.approx(sum(one.value * one.probability for one in score.probabilities))
    assert 0 <= score.confidence <= 1
    assert 0 < predicate.probability < 1
    assert [one.value for one in choice.probabilities] == ["billing", "delivery", True, "true"]
    assert sum(one.probability for one in choice.probabilities) == pytest.approx(1, abs=1e-9)
    best = max(choice.probabilities, key=lambda one: one.probability)
    assert choice.choice is best.value or choice.choice == best.value
    assert choice.confidence == pytest.approx((best.probability - 1 / 4) / (1 - 1 / 4))


def test_a_question_has_the_same_answer_alone_and_among_others(client: Any) -> None:
    together = decide(client, questions=[PREDICATE, SCORE, CHOICE]).answers
    assert [decide(client, questions=[one]).answers[0] for one in (PREDICATE, SCORE, CHOICE)] == together


def test_the_state_is_read_once_for_forty_questions() -> None:
    backend = FakeBackend(sequences=64, cells=1 << 14)
    questions = [{"type": "predicate", "instructions": f"Is it about thing {number}?"} for number in range(40)]
    with serving(Runtime.over(backend)) as server, _client(server) as client:
        state = "A word and another one. " * 40
        before = backend.decoded
        decision = decide(client, input=state, questions=questions)
        assert len(decision.answers) == 40
        assert backend.decoded - before == decision.usage.input_tokens
        assert len(state) / 2 < decision.usage.input_tokens < len(state) + 40 * 120
        again = decide(client, input=state, questions=questions[:1])
        assert again.usage.input_tokens_details.cached_tokens > len(state) / 2


def test_an_input_may_be_messages_and_json(client: Any) -> None:
    data = {"price": 1.5, "tags": ["a", None]}
    messages = [
        {"role": "system", "content": "You sort mail."},
        {"role": "user", "content": [{"type": "input_text", "text": "Look:"}, {"type": "input_json", "data": data}]},
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "found"},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Well."}, {"type": "refusal", "refusal": "No."}],
        },
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Go on."}]},
    ]
    assert len(decide(client, input=messages, questions=[PREDICATE]).answers) == 1
    plain = decide(client, input="Look", questions=[PREDICATE]).answers
    assert decide(client, input=[{"role": "user", "content": "Look"}], questions=[PREDICATE]).answers == plain
    parts = [{"type": "input_text", "text": "Look"}]
    assert decide(client, input=[{"role": "user", "content": parts}], questions=[PREDICATE]).answers == plain


def test_a_fraction_in_json_keeps_its_spelling(server: Server) -> None:
    def ask(number: str, kind: str = "input_json") -> Any:
        data = '{"price": %s}' % number  # noqa: UP031 - it is JSON
        part = f'{{"type": "{kind}", "data": {data}}}'
        if kind == "input_text":
            part = json.dumps({"type": kind, "text": data})
        message = f'{{"role": "user", "content": [{part}]}}'
        body = f'{{"model": "fake", "input": [{message}], "questions": [{json.dumps(PREDICATE)}]}}'
        return server.post("/v1/decisions", body.encode()).json["answers"]

    assert ask("19.50") == ask("19.50", "input_text") != ask("19.5")


def test_many_choices_are_answered_by_their_values(client: Any) -> None:
    choices = [{"value": f"desk {number}"} for number in range(255)]
    [answer] = decide(client, questions=[{"type": "choice", "instructions": "?", "choices": choices}]).answers
    assert len(answer.probabilities) == 255
    assert sum(one.probability for one in answer.probabilities) == pytest.approx(1, abs=1e-9)


def test_orders_of_choices_are_averaged(client: Any) -> None:
    def shares(choices: list[Any], **more: Any) -> dict[Any, float]:
        question = {**CHOICE, "choices": choices}
        [answer] = decide(client, questions=[question], **more).answers
        return {(type(one.value), one.value): one.probability for one in answer.probabilities}

    choices: Any = CHOICE["choices"]
    turned = [shares([*choices[turn:], *choices[:turn]]) for turn in range(4)]
    averaged = shares(choices, extra_body={"option_orders": 4})
    for value, share in averaged.items():
        assert share == pytest.approx(sum(one[value] for one in turned) / 4)


def test_only_a_question_that_does_not_fit_is_refused() -> None:
    long = {"type": "predicate", "instructions": "x" * 5000, "name": "long"}
    with serving(Runtime.over(FakeBackend(cells=2048))) as server, _client(server) as client:
        decision = decide(client, questions=[PREDICATE, long])
        assert [answer.type for answer in decision.answers] == ["predicate", "refusal"]
        assert decision.answers[1].name == "long"
        with pytest.raises(openai.UnprocessableEntityError) as error:
            decide(client, questions=[long])
        assert error.value.code == "context_exceeded"


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({"model": "gpt-6-luna"}, "NotFoundError", "model"),
        ({"questions": []}, "UnprocessableEntityError", "questions"),
        ({"questions": [PREDICATE] * 401}, "UnprocessableEntityError", "questions"),
        ({"questions": [{"type": "wish", "instructions": "?"}]}, "UnprocessableEntityError", "questions.0"),
        ({"questions": [PREDICATE, {"type": "predicate"}]}, "UnprocessableEntityError", "questions.1.instructions"),
        ({"questions": [{**CHOICE, "choices": [{"value": "a"}]}]}, "UnprocessableEntityError", "questions.0.choices"),
        ({"questions": [{**CHOICE, "choices": [{"value": 1}, {"value": 2}]}]}, "UnprocessableEntityError", None),
        (
            {"questions": [{**CHOICE, "choices": [{"value": "a"}] * 2}]},
            "UnprocessableEntityError",
            "questions.0.choices",
        ),
        ({"questions": [{**SCORE, "levels": [{"label": "a"}] * 2}]}, "UnprocessableEntityError", "questions.0.levels"),
        ({"questions": [{**PREDICATE, "more": 1}]}, "UnprocessableEntityError", "questions.0.more"),
        ({"input": " "}, "UnprocessableEntityError", "input.state"),
        ({"input": []}, "UnprocessableEntityError", "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "UnprocessableEntityError", "input.0.role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
            "BadRequestError",
            "input.0.content.0",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]},
            "UnprocessableEntityError",
            "input.0.call_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_json", "data": [{}] * 10_001}]}]},
            "UnprocessableEntityError",
            "input.0.content.0.data",
        ),
    ],
)
def test_errors_have_their_class_and_place(client: Any, body: dict[str, Any], kind: str, param: str | None) -> None:
    with pytest.raises(getattr(openai, kind)) as error:
        decide(client, **{"questions": [PREDICATE], **body})
    if param:
        assert error.value.param == param
    assert error.value.type == "invalid_request_error"
    assert error.value.request_id


def test_prompts_are_shown_without_asking_the_model(server: Server) -> None:
    body = {"model": "fake", "input": STATE, "questions": [PREDICATE, SCORE]}
    prompts = server.post("/v1/decisions/prompt", body).json["prompts"]
    with Runtime.over(FakeBackend()) as runtime:
        definition = {"type": "predicate", "instructions": PREDICATE["instructions"]}
        assert prompts[0] == runtime.prompt(question_task(definition), {"state": STATE})
    assert len(prompts) == 2
    doubled = {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": " "}]}
    refused = server.post("/v1/decisions/prompt", {**body, "questions": [PREDICATE, doubled]})
    assert (refused.status, refused.error["param"]) == (422, "questions.1.choices")
    texts = {"type": "choice", "instructions": "Which?", "choices": ["a", "b"]}
    refused = server.post("/v1/decisions", {**body, "questions": [texts]})
    assert (refused.status, refused.error["param"]) == (422, "questions.0.choices.0")
    assert '{"value": …}' in refused.error["message"]


def test_the_other_error_classes() -> None:
    backend = Gated()
    runtime = Runtime.over(backend)
    with serving(runtime, keys=Keys([Key.of("a", "k" * 20, 2)])) as server:
        with _client(server) as client, pytest.raises(openai.AuthenticationError):
            decide(client, questions=[PREDICATE])
        with _client(server, "k" * 20) as client, ThreadPoolExecutor(1) as thread:
            with pytest.raises(openai.UnprocessableEntityError):
                decide(client, questions=[PREDICATE] * 3)
            waiting = thread.submit(decide, client, questions=[PREDICATE] * 2)
            until(lambda: server.service.admission.waiting == 2)
            with pytest.raises(openai.RateLimitError) as full:
                decide(client, questions=[PREDICATE])
            assert int(full.value.response.headers["retry-after"]) >= 1
            with pytest.raises(openai.APIStatusError) as large:
                decide(client, questions=[PREDICATE], input="x" * (5 << 20))
            assert large.value.status_code == 413
            with pytest.raises(openai.PermissionDeniedError):
                decide(client, questions=[PREDICATE], extra_headers={"Origin": "https://shop.example"})
            with pytest.raises(openai.BadRequestError):
                client.post(
                    "/decisions",
                    cast_to=object,
                    content=b"{",
                    options={"headers": {"Content-Type": "application/json"}},
                )
            closing = threading.Thread(target=runtime.close)
            closing.start()
            until(lambda: _closed(runtime))
            backend.gate.set()
            closing.join(PATIENCE)
            with pytest.raises(openai.InternalServerError):
                waiting.result()
            with pytest.raises(openai.InternalServerError):
                decide(client, questions=[PREDICATE])


def _closed(runtime: Runtime) -> bool:
    """Return whether the runtime accepts no more requests. Its engine may still be in a call."""
    try:
        runtime.tokenize("Mug")
    except ClosedError:
        return True
    return False


def test_the_models_are_listed(client: Any, server: Server) -> None:
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_identical_requests_in_flight_share_one_answer() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        body = {"model": "fake", "input": STATE, "questions": [PREDICATE]}
        replies: list[Any] = []
        threads = [
            threading.Thread(target=lambda: replies.append(server.post("/v1/decisions", body))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(server.service.in_flight) == 1 and server.service.admission.waiting == 1)
        time.sleep(0.2)  # the others come in
        backend.gate.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert len({reply.body for reply in replies}) == 1
        assert server.service.admission.waiting == 0
        assert len(server.service.in_flight) == 0


def test_a_repeated_request_continues_the_work_of_the_first() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        body = {"model": "fake", "input": STATE, "questions": [PREDICATE]}
        with server.begin("/v1/decisions", body):
            until(lambda: server.service.admission.waiting == 1)
        until(lambda: bool(server.log))
        assert server.service.admission.waiting == 1  # for some seconds
        backend.gate.set()
        until(lambda: server.service.admission.waiting == 0)
        before = backend.decoded
        assert server.post("/v1/decisions", body).status == 200
        assert backend.decoded == before


def test_abandoned_work_is_dropped() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        in_flight = InFlight(grace=0.05)
        object.__setattr__(server.service, "in_flight", in_flight)
        body = {"model": "fake", "input": STATE, "questions": [PREDICATE]}
        with server.begin("/v1/decisions", body):
            until(lambda: server.service.admission.waiting == 1)
        until(lambda: server.service.admission.waiting == 0)
        assert len(in_flight) == 0
        backend.gate.set()


def test_a_client_that_joins_gets_the_whole_grace() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        in_flight = InFlight(grace=0.4)
        object.__setattr__(server.service, "in_flight", in_flight)
        body = {"model": "fake", "input": STATE, "questions": [PREDICATE]}
        with server.begin("/v1/decisions", body):
            until(lambda: server.service.admission.waiting == 1)
        time.sleep(0.3)
        with server.begin("/v1/decisions", body):
            time.sleep(0.05)
        time.sleep(0.2)  # the first client's grace is over, the second's is not
        assert len(in_flight) == 1
        until(lambda: len(in_flight) == 0)
        backend.gate.set()


def _client(server: Server, key: str = "placeholder") -> Any:
    return openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0)
