"""The texts that completions and chat completions generate, with OpenAI's token counts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.decoding import Listener
from ecellm_lite.pipe.options import request_options
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.in_flight import unless_disconnected
from ecellm_lite.serve.model_source import ModelSource
from ecellm_lite.serve.service import Service
from ecellm_lite.serve.workers import Submits
from ecellm_lite.tasks.texts import TEXTS


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

    `seed`: gives the same texts again, but only if the engine also computes them in the same batches.
    `listener`: called with the whole text so far each time the text grows. Give it only for a single text.
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
        len(text.tokens) or (answer.usage.answer_tokens if answer.usage else 0)
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


def token_text(token: Mapping[str, Any]) -> str:
    """Return a token's bytes as text, with U+FFFD in place of bytes that are not UTF-8."""
    return bytes(token["bytes"]).decode("utf-8", "replace")


def _text(answer: Answer) -> Text:
    if isinstance(answer.value, Mapping) and answer.type == "text":
        return Text(answer.value["text"], answer.value["ended"], answer.value["tokens"])
    return Text(answer.text or "", not answer.shortened, ())
