"""What completions and chat completions have in common: parameters, errors for unsupported values, and streams."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, Tag
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.decoding import Listener
from ecellm_lite.errors import EcellmError
from ecellm_lite.pipe.options import HOTTEST, LONGEST_STOP, MOST_STOPS, request_options
from ecellm_lite.serve.errors import GoneError, RefusedError, error_body
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.form import Form, text_or
from ecellm_lite.serve.in_flight import unless_disconnected
from ecellm_lite.serve.model_source import ModelSource
from ecellm_lite.serve.service import Service
from ecellm_lite.serve.workers import Submits
from ecellm_lite.tasks.texts import TEXTS

MOST_CHOICES = 16  # texts of one request


Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Stops = Annotated[
    Annotated[Stop, Tag("~text")] | Annotated[list[Stop], Field(max_length=MOST_STOPS), Tag("~texts")],
    text_or("texts"),
]


def only(harmless: Any, description: str) -> Any:
    """Return a pydantic field for a parameter of OpenAI's API that this server does not support.

    The OpenAPI document allows only null and `harmless`, a value that changes nothing. The method `refuse` refuses
    other values with the HTTP status 400. A check by pydantic would give the status 422 instead.
    """
    return Field(default=None, description=description, json_schema_extra={"enum": [harmless, None]})


class StreamOptions(Form):
    """What a stream contains besides the text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Sampling(Form):
    """The parameters that completions and chat share.

    A value that this server does not support is refused, not ignored.
    """

    model: str
    n: int = Field(
        default=1,
        ge=1,
        le=MOST_CHOICES,
        description="How many texts to generate. Without a temperature they are all the same.",
    )
    seed: int | None = Field(default=None, ge=-(1 << 63), le=1 << 63)
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(
        default=None, ge=0, le=HOTTEST, description="If it is missing, each token is the most likely one."
    )
    top_p: float | None = only(1, "Only 1 is supported.")
    frequency_penalty: float | None = only(0, "Only 0 is supported.")
    presence_penalty: float | None = only(0, "Only 0 is supported.")
    logit_bias: dict[str, float] | None = only({}, "Not supported.")
    user: str | None = Field(default=None, description="Accepted, but has no effect.")

    def refuse(self) -> None:
        """Raise RefusedError (400) if a parameter has a value that is not supported."""
        for name, harmless in _HARMLESS.items():
            value = getattr(self, name, None)
            if value is not None and value != harmless:
                raise RefusedError(
                    400, "unsupported_parameter", f"{name} is not supported here", step="leave it out", field=name
                )

    @property
    def usage_streamed(self) -> bool:
        """Whether the last piece of a stream has the token counts (OpenAI's `usage`)."""
        return self.stream_options is not None and self.stream_options.include_usage

    def refuse_several(self, prompts: int = 1) -> None:
        """Raise RefusedError (400) if the request would generate several texts.

        Call this for a request with `stream`.
        """
        if self.n > 1 or prompts > 1:
            message = "A stream can have only one text"
            raise RefusedError(
                400, "unsupported_parameter", message, step="ask for one text, or leave out stream", field="n"
            )

    def stops(self) -> list[str]:
        """Return the stop texts. Generation ends before the first stop text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


# The values of unsupported parameters that are accepted, because they ask for nothing.
_HARMLESS: Mapping[str, Any] = {
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    "modalities": ["text"],
    "audio": None,
    "prediction": None,
    "web_search_options": None,
    "suffix": "",
    "best_of": 1,
    "echo": False,
}


@dataclass(frozen=True, slots=True)
class Text:
    """A generated text.

    `ended`: true if the model ended the text or wrote a stop text. False if the text reached a length limit.
    `tokens`: the `bytes`, `logprob` and `top` (most probable tokens) of each token. Empty if the text is JSON.
    """

    text: str
    ended: bool
    tokens: Sequence[Mapping[str, Any]]

    @property
    def finish(self) -> str:
        """Why the text ended, in OpenAI's words: "stop" or "length"."""
        return "stop" if self.ended else "length"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text to generate.

    `kind`: a key of TEXTS in tasks/texts.py.
    `row`: a row of the task TEXTS[kind].
    `options`: the options of a request to the pipe (docs/pipe.md).
    """

    kind: str
    row: Mapping[str, Any]
    options: Mapping[str, Any]


def options_of(body: Sampling, most: int, logprobs: int | None, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options for a request's body, in the form of the pipe's protocol (docs/pipe.md).

    `most`: the maximum number of tokens to generate.
    `logprobs`: how many of the most probable tokens to report for each token, or None.
    `schema`: the JSON schema of the answer, or None for plain text.

    Raises RefusedError for parameters that are invalid or exclude each other.
    """
    body.refuse()
    stops = body.stops()
    options: dict[str, Any] = {"max_tokens": most, "temperature": body.temperature or 0.0}
    if schema is None:
        return {**options, "logprobs": logprobs or 0, **({"stop": stops} if stops else {})}
    if stops or logprobs is not None:
        message = "stop and logprobs do not go with a JSON schema"
        raise RefusedError(400, "unsupported_parameter", message, step="leave them out", field="response_format")
    return {**options, "schema": schema}


async def generate_texts(
    service: Service,
    request: Request,
    model: ModelSource,
    text_requests: Sequence[TextRequest],
    count: int,
    seed: int | None,
    listener: Listener | None = None,
) -> tuple[list[Text], dict[str, Any]]:
    """Return `count` texts for each of `text_requests`, and the token counts in OpenAI's format.

    The texts are in one list, in the order of `text_requests`. Raises the error of the first text that failed.

    The same seed gives the same texts again only if the engine also forms the same batches. `listener` is called each
    time the text grows, with the whole text so far. Give a listener only for a single text.
    """
    first = seed if seed is not None else secrets.randbits(32)

    def submit(engine: Submits) -> list[Future[Answer]]:
        futures = []
        for text_request in text_requests:
            options = request_options(TEXTS[text_request.kind], text_request.options)
            options["listener"] = listener
            for number in range(count):
                options["seed"] = (first + number) % (1 << 32)
                futures.append(engine.submit(TEXTS[text_request.kind], text_request.row, **options))
        return futures

    exchange_of(request).rows = len(text_requests) * count
    answers = await unless_disconnected(
        request, service.answers(request, model, "text", len(text_requests) * count, submit)
    )
    for answer in answers:
        if answer.error:
            raise answer.error.exception()
    prompt = sum(answer.usage.prompt_tokens for answer in answers[::count] if answer.usage)
    cached = sum(answer.usage.cached_tokens or 0 for answer in answers[::count] if answer.usage)
    texts = [_text(answer) for answer in answers]
    completion = sum(
        len(text.tokens) or (answer.usage.decoded_tokens + answer.usage.forced_tokens if answer.usage else 0)
        for text, answer in zip(texts, answers, strict=True)
    )
    return texts, {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def response_head(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """Return the fields with which each response and each piece of a stream begins.

    `kind`: the value of OpenAI's field `object`.
    `prefix`: the beginning of the response's id.
    """
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


async def stream_text(
    service: Service, request: Request, model: ModelSource, text_request: TextRequest, seed: int | None
) -> AsyncIterator[str | tuple[Text, dict[str, Any]]]:
    """Yield the parts of a text as the model writes them, and at the end a pair (whole text, token counts).

    Raises the text's error if the text fails.
    """
    loop = asyncio.get_running_loop()
    updates: asyncio.Queue[str] = asyncio.Queue()
    work = asyncio.create_task(
        generate_texts(
            service,
            request,
            model,
            [text_request],
            1,
            seed,
            lambda text: _quietly(loop.call_soon_threadsafe, updates.put_nowait, text),
        )
    )
    yielded = 0
    try:
        while True:
            update = asyncio.create_task(updates.get())
            await asyncio.wait((work, update), return_when=asyncio.FIRST_COMPLETED)
            if not update.done():
                update.cancel()
                break
            yield update.result()[yielded:]
            yielded = len(update.result())
        [text], usage = work.result()
        if len(text.text) > yielded:
            yield text.text[yielded:]
        yield text, usage
    finally:
        work.cancel()


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: the client is gone
        call(*arguments)


async def event_stream(pieces: AsyncIterator[Mapping[str, Any]]) -> StreamingResponse:
    """Return a response that sends the pieces as server-sent events, and then OpenAI's end mark.

    If the first piece fails, raise its error. Later errors are sent as events.
    """
    first = await anext(pieces)

    async def events() -> AsyncIterator[str]:
        yield _event(first)
        try:
            async for piece in pieces:
                yield _event(piece)
        except GoneError:
            return
        except EcellmError as error:  # the HTTP status has been sent already
            yield _event(error_body(500, error.code, str(error)))
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(piece: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(piece, allow_nan=False)}\n\n"


def token_text(token: Mapping[str, Any]) -> str:
    """Return a token's bytes as text, with U+FFFD in place of bytes that are not UTF-8."""
    return bytes(token["bytes"]).decode("utf-8", "replace")


def _text(answer: Answer) -> Text:
    if isinstance(answer.value, Mapping) and answer.type == "text":
        return Text(answer.value["text"], answer.value["ended"], answer.value["tokens"])
    return Text(answer.text or "", not answer.shortened, ())
