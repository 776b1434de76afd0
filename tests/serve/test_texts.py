"""Tests of completions and chat with OpenAI's client: texts, log-probabilities, JSON by a schema, streams, errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers import structured
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.tasks.texts import TEXTS
from tests.serve.serving import Server, serving, until
from tests.support.gated import Gated

openai = pytest.importorskip("openai", reason="OpenAI's client comes with the extra 'demo'")

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it loud?"}]
SCHEMA = {"type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]}
JSON = {"type": "json_schema", "json_schema": {"name": "noise", "schema": SCHEMA, "strict": True}}

WRONG = {"type": "json_schema", "json_schema": {"name": "wrong", "schema": {"type": "x"}}}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key="placeholder", max_retries=0) as client:
        yield client


def chat(client: Any, **body: Any) -> Any:
    from openai.types.chat import ChatCompletion

    raw = client.chat.completions.with_raw_response.create(
        **{"model": "fake", "messages": MESSAGES, "max_completion_tokens": 8, **body}
    )
    return ChatCompletion.model_validate(json.loads(raw.text), strict=True)


def complete(client: Any, **body: Any) -> Any:
    from openai.types import Completion

    raw = client.completions.with_raw_response.create(**{"model": "fake", "prompt": "Once", "max_tokens": 8, **body})
    return Completion.model_validate(json.loads(raw.text), strict=True)


def test_a_prompt_is_read_unchanged(client: Any) -> None:
    completion = complete(client)
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(TEXTS["prompt"], {"prompt": "Once"}, space=Text(8, whole=True))
    assert completion.choices[0].text == answer.text
    assert completion.usage.prompt_tokens == 5  # with the vocabulary's own first one
    assert completion.choices[0].finish_reason in ("stop", "length")


def test_a_conversation_is_written_in_the_models_envelope(client: Any) -> None:
    [choice] = chat(client).choices
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(TEXTS["text"], {"text": "Is it loud?"}, instruction="Be short.", space=Text(8))
    assert choice.message.content == answer.text
    parts = [{"type": "text", "text": "Is it loud?"}]
    same = chat(client, messages=[MESSAGES[0], {"role": "user", "content": parts}])
    assert same.choices[0].message.content == answer.text
    turns = [*MESSAGES, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Sure?"}]
    assert chat(client, messages=turns).usage.prompt_tokens > chat(client).usage.prompt_tokens


def test_log_probabilities_of_the_tokens_are_given(client: Any) -> None:
    [choice] = chat(client, logprobs=True, top_logprobs=3).choices
    for token in choice.logprobs.content:
        assert token.logprob <= 0
        assert [one.logprob for one in token.top_logprobs] == sorted(
            (o.logprob for o in token.top_logprobs), reverse=True
        )
        assert token.logprob == token.top_logprobs[0].logprob  # the likeliest was taken
        assert len(token.top_logprobs) == 3
        assert sum(math.exp(one.logprob) for one in token.top_logprobs) <= 1
    old = complete(client, logprobs=2).choices[0].logprobs
    assert len(old.tokens) == len(old.token_logprobs) == len(old.top_logprobs) == len(old.text_offset)


def test_a_text_always_obeys_its_schema(client: Any) -> None:
    [choice] = chat(client, response_format=JSON, max_completion_tokens=40).choices
    assert isinstance(json.loads(choice.message.content)["loud"], bool)
    assert choice.finish_reason == "stop"
    assert chat(client).usage.completion_tokens <= 8


@pytest.mark.parametrize("schema", [{"const": "loud"}, {"enum": ["very loud", "quiet"]}, SCHEMA])
def test_the_tokens_of_json_are_counted_also_if_the_model_did_not_read_them(
    client: Any, schema: dict[str, Any]
) -> None:
    named = {"type": "json_schema", "json_schema": {"name": "noise", "schema": schema}}
    completion = chat(client, response_format=named, max_completion_tokens=40)
    with Runtime.over(FakeBackend()) as runtime:
        space = structured.schema(schema, max_tokens=40)
        answer = runtime.answer(TEXTS["text"], {"text": "Is it loud?"}, instruction="Be short.", space=space)
    assert completion.choices[0].message.content == answer.text
    assert answer.usage
    assert completion.usage.completion_tokens == answer.usage.answer_tokens > 0


def test_a_stop_text_ends_a_text(client: Any) -> None:
    whole = complete(client, max_tokens=12).choices[0].text
    cut = complete(client, max_tokens=12, stop=[whole[3:5], "never said at all"]).choices[0]
    assert cut.text == whole[: whole.index(whole[3:5])]
    assert cut.finish_reason == "stop"


def test_several_texts_depend_on_their_seeds(client: Any) -> None:
    def texts(**more: Any) -> list[str]:
        return [choice.text for choice in complete(client, temperature=2, **more).choices]

    first = texts(n=3, seed=7)
    assert len(set(first)) == 3
    assert first == texts(n=3, seed=7)
    assert len(complete(client, prompt=["a", "b"], n=2).choices) == 4


@pytest.mark.parametrize("more", [{}, {"response_format": JSON, "max_completion_tokens": 40}])
def test_a_stream_has_the_same_text_in_pieces(client: Any, more: dict[str, Any]) -> None:
    whole = chat(client, **more).choices[0]
    body = {"model": "fake", "messages": MESSAGES, "max_completion_tokens": 8, **more}
    pieces = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces[:-1]) == whole.message.content
    assert pieces[-2].choices[0].finish_reason == whole.finish_reason
    assert pieces[-1].usage.completion_tokens > 0
    assert len({piece.id for piece in pieces}) == 1


def test_a_stream_begins_before_its_text_is_written() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server, openai.OpenAI(base_url=server.base_url, api_key="x") as client:
        backend.gate.set()
        stream = client.completions.create(model="fake", prompt="Once", max_tokens=2000, stream=True)
        pieces = iter(stream)
        first = next(pieces).choices[0].text
        backend.gate.clear()
        assert first
        assert server.service.admission.waiting == 1  # it goes on
        backend.gate.set()
        text = first + "".join(piece.choices[0].text for piece in pieces)
        again = client.completions.create(model="fake", prompt="Once", max_tokens=2000)
        assert text == again.choices[0].text


def test_a_stream_that_nobody_reads_is_dropped() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        backend.gate.set()
        with server.begin("/v1/completions", {"model": "fake", "prompt": "Once", "max_tokens": 3000, "stream": True}):
            until(lambda: server.service.admission.waiting == 1)
        until(lambda: server.service.admission.waiting == 0)


def test_a_completion_is_streamed_too(client: Any) -> None:
    pieces = list(client.completions.create(model="fake", prompt="Once", max_tokens=8, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == complete(client).choices[0].text


def test_a_stream_has_the_log_probabilities_of_its_tokens(client: Any) -> None:
    wanted = {"model": "fake", "max_tokens": 8}
    with client.chat.completions.stream(**wanted, messages=MESSAGES, logprobs=True, top_logprobs=2) as stream:
        for _ in stream:
            pass
        streamed = stream.current_completion_snapshot
    whole = chat(client, logprobs=True, top_logprobs=2)
    assert streamed.choices[0].logprobs.content == whole.choices[0].logprobs.content
    pieces = list(client.completions.create(**wanted, prompt="Once", logprobs=2, stream=True))
    assert [piece.choices[0].logprobs for piece in pieces if piece.choices[0].logprobs] == [
        complete(client, logprobs=2).choices[0].logprobs
    ]


def test_a_stream_has_no_log_probabilities_if_none_are_wanted(client: Any) -> None:
    chunks = [
        *client.completions.create(model="fake", prompt="Once", max_tokens=8, stream=True),
        *client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=8, stream=True),
    ]
    assert all(chunk.choices[0].logprobs is None for chunk in chunks)


def test_too_many_prompts_are_refused(client: Any) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as error:
        complete(client, prompt=["x"] * 129)
    assert error.value.param == "prompt"


@pytest.mark.parametrize(
    ("more", "kind", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "BadRequestError", "tools"),
        ({"top_p": 0.5}, "BadRequestError", "top_p"),
        ({"presence_penalty": 1}, "BadRequestError", "presence_penalty"),
        ({"logit_bias": {"1": 2}}, "BadRequestError", "logit_bias"),
        ({"modalities": ["text", "audio"]}, "BadRequestError", "modalities"),
        ({"stop": ["a"], "response_format": JSON}, "BadRequestError", "response_format"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "BadRequestError",
            "messages.0.content.0",
        ),
        ({"messages": []}, "UnprocessableEntityError", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "UnprocessableEntityError", "messages.0.role"),
        ({"stop": ["a"] * 5}, "UnprocessableEntityError", "stop"),
        ({"stream": True, "n": 2}, "BadRequestError", "n"),
        ({"stop": [""]}, "UnprocessableEntityError", "stop.0"),
        ({"max_completion_tokens": 0}, "UnprocessableEntityError", "max_completion_tokens"),
        ({"max_tokens": -1}, "UnprocessableEntityError", "max_tokens"),
        ({"top_logprobs": 2}, "UnprocessableEntityError", "top_logprobs"),
        ({"extra_body": {"guided_regex": "x"}}, "UnprocessableEntityError", "guided_regex"),
        ({"model": "gpt-6"}, "NotFoundError", "model"),
        ({"messages": [{"role": "user", "content": "x" * 100_000}]}, "UnprocessableEntityError", None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "x"}}}},
            "UnprocessableEntityError",
            None,
        ),
    ],
)
def test_unsupported_options_are_refused(client: Any, more: dict[str, Any], kind: str, param: str | None) -> None:
    with pytest.raises(getattr(openai, kind)) as error:
        chat(client, **more)
    if param:
        assert error.value.param == param


def test_options_without_effect_are_accepted(client: Any) -> None:
    chat(
        client,
        top_p=1,
        presence_penalty=0,
        n=1,
        user="me",
        store=False,
        parallel_tool_calls=True,
        reasoning_effort="low",
    )
