"""`POST /v1/completions`: the model continues a prompt exactly as it was sent, without an envelope (text around it)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, Tag
from starlette.responses import Response

from ecellm_lite.pipe.options import LONGEST_ANSWER, MOST_LOGPROBS
from ecellm_lite.serve.answer_replies import CompletionsReply
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import ROWS, replies
from ecellm_lite.serve.form import text_or
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.sampling import Sampling, only
from ecellm_lite.serve.service import Served
from ecellm_lite.serve.text_stream import event_stream, stream_text
from ecellm_lite.serve.texts import Text, TextRequest, generate_texts, response_head, token_text

router = APIRouter(tags=["text"], route_class=JsonRoute)

MOST_PROMPTS = 128
Prompts = Annotated[
    Annotated[str, Field(min_length=1, max_length=1 << 20), Tag("~text")]
    | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS), Tag("~texts")],
    text_or("texts"),
]


class Completions(Sampling):
    """One or several prompts to continue. No envelope is put around them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "demo", "prompt": "The best umbrella is"}]})

    prompt: Prompts
    max_tokens: int | None = Field(default=16, ge=1, le=LONGEST_ANSWER, description="OpenAI has the same default.")
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    suffix: str | None = only("", "Not supported.")
    best_of: int | None = only(1, "Only 1 is supported.")
    echo: bool | None = only(False, "Not supported.")


@router.post(
    "/v1/completions", summary="Text from a prompt", responses=replies(CompletionsReply, 404, *ROWS, stream=True)
)
async def completions(body: Completions, request: Request, service: Served) -> Response:
    """Continue each prompt. With `stream`, the text is sent as server-sent events while the model writes it."""
    model = await service.model(body.model)
    options = body.options(16 if body.max_tokens is None else body.max_tokens, body.logprobs, None)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    text_requests = [TextRequest("prompt", {"prompt": prompt}, options) for prompt in prompts]
    opening = response_head("text_completion", "cmpl", model.title)
    if body.stream:
        body.refuse_several(len(prompts))
        growth = stream_text(service, request, model, text_requests[0], body.seed)
        pieces = _pieces(opening, growth, with_logprobs=body.logprobs is not None, with_usage=body.usage_streamed)
        return await event_stream(pieces)
    texts, usage = await generate_texts(service, request, model, text_requests, body.n, body.seed)
    choices = [
        {
            "index": index,
            "text": text.text,
            "finish_reason": text.finish,
            "logprobs": None if body.logprobs is None else _logprobs(text.tokens),
        }
        for index, text in enumerate(texts)
    ]
    return JsonResponse({**opening, "choices": choices, "usage": usage})


async def _pieces(
    opening: Mapping[str, Any],
    growth: AsyncIterator[str | tuple[Text, Mapping[str, Any]]],
    *,
    with_logprobs: bool,
    with_usage: bool,
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the pieces of a stream. The piece with the finish reason has the log-probabilities of all tokens."""

    def piece(text: str, end: str | None = None, logprobs: Any = None) -> Mapping[str, Any]:
        return {**opening, "choices": [{"index": 0, "logprobs": logprobs, "text": text, "finish_reason": end}]}

    async for grown in growth:
        if isinstance(grown, str):
            yield piece(grown)
            continue
        text, usage = grown
        yield piece("", text.finish, _logprobs(text.tokens) if with_logprobs else None)
        if with_usage:
            yield {**opening, "choices": [], "usage": usage}


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return log-probabilities in the format of OpenAI's older endpoint, `/v1/completions`."""
    names = [token_text(token) for token in tokens]
    offsets = [sum(map(len, names[:place])) for place in range(len(names))]
    return {
        "tokens": names,
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {token_text(candidate): candidate["logprob"] for candidate in token["top"]} for token in tokens
        ],
        "text_offset": offsets,
    }
