"""`POST /v1/chat/completions`: answers a conversation with free text, or with JSON that fits a schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, Tag
from starlette.responses import Response

from ecellm_lite.pipe.options import LONGEST_ANSWER, MOST_LOGPROBS
from ecellm_lite.serve.answer_replies import ChatReply
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import ROWS, replies
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.form import Form, by_type, text_or
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.sampling import Sampling, only
from ecellm_lite.serve.service import Served
from ecellm_lite.serve.text_stream import event_stream, stream_text
from ecellm_lite.serve.texts import Text, TextRequest, generate_texts, response_head, token_text

router = APIRouter(tags=["text"], route_class=JsonRoute)

MOST_TOKENS = 512  # of an answer, if the request sets no limit
ANY_OBJECT = {"type": "object", "additionalProperties": True}


class TextPart(Form):
    """A text as one part of a message."""

    type: Literal["text"]
    text: str


class OtherPart(Form):
    """A part of a message that is not text, such as an image or a sound. A request with such a part is refused."""

    model_config = ConfigDict(extra="allow")

    type: Literal["image_url", "input_audio", "file", "refusal"]


class Message(Form):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("~text")]
        | Annotated[
            list[
                Annotated[
                    Annotated[TextPart, Tag("~text")]
                    | Annotated[OtherPart, Tag("~image_url")]
                    | Annotated[OtherPart, Tag("~input_audio")]
                    | Annotated[OtherPart, Tag("~file")]
                    | Annotated[OtherPart, Tag("~refusal")],
                    by_type("text", "image_url", "input_audio", "file", "refusal"),
                ]
            ],
            Tag("~parts"),
        ],
        text_or("parts"),
    ]
    name: str | None = None
    refusal: str | None = None


class NamedSchema(Form):
    """A JSON schema and its name."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class AsText(Form):
    """The response format `text`: free text."""

    type: Literal["text"]


class AsObject(Form):
    """The response format `json_object`: any JSON object."""

    type: Literal["json_object"]


class AsSchema(Form):
    """The response format `json_schema`: JSON that always fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


Format = Annotated[
    Annotated[AsText, Tag("~text")]
    | Annotated[AsObject, Tag("~json_object")]
    | Annotated[AsSchema, Tag("~json_schema")],
    by_type("text", "json_object", "json_schema"),
]


class Chat(Sampling):
    """A conversation to answer. The model reads it in the chat form that the model was trained with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "demo", "messages": [{"role": "user", "content": "Is it loud?"}]}]}
    )

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=LONGEST_ANSWER)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LONGEST_ANSWER)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    response_format: Format | None = None
    tools: list[Any] | None = only([], "Not supported.")
    tool_choice: Any = only("none", "Not supported.")
    functions: list[Any] | None = only([], "Not supported.")
    function_call: Any = only("none", "Not supported.")
    parallel_tool_calls: bool | None = Field(default=None, description="Accepted, but has no effect.")
    modalities: list[str] | None = only(["text"], "Only text is supported.")
    audio: Any = only(None, "Not supported.")
    prediction: Any = only(None, "Not supported.")
    web_search_options: Any = only(None, "Not supported.")
    metadata: dict[str, str] | None = Field(default=None, description="Accepted, but has no effect.")
    store: bool | None = Field(default=None, description="Accepted, but has no effect.")
    service_tier: str | None = Field(default=None, description="Accepted, but has no effect.")
    prompt_cache_key: str | None = Field(default=None, description="Accepted, but has no effect.")
    safety_identifier: str | None = Field(default=None, description="Accepted, but has no effect.")
    prompt_cache_options: dict[str, Any] | None = Field(default=None, description="Accepted, but has no effect.")
    prompt_cache_retention: str | None = Field(default=None, description="Accepted, but has no effect.")
    reasoning_effort: str | None = Field(
        default=None, description="Accepted, but has no effect: the models here do not reason."
    )
    verbosity: str | None = Field(default=None, description="Accepted, but has no effect.")


@router.post(
    "/v1/chat/completions", summary="Text from a conversation", responses=replies(ChatReply, 404, *ROWS, stream=True)
)
async def chat(body: Chat, request: Request, service: Served) -> Response:
    """Answer a conversation. With `stream`, the text is sent as server-sent events while the model writes it."""
    model = await service.model(body.model)
    most = body.max_completion_tokens or body.max_tokens or MOST_TOKENS
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    if body.top_logprobs is not None and not body.logprobs:
        message = "top_logprobs needs logprobs"
        raise RefusedError(422, "logprobs", message, step="set logprobs to true", field="top_logprobs")
    options = body.options(most, logprobs, _schema(body.response_format))
    system, messages = conversation(body.messages)
    if system:
        options["instruction"] = system
    text_request = TextRequest("chat", {"messages": messages}, options)
    if body.stream:
        body.refuse_several()
        opening = response_head("chat.completion.chunk", "chatcmpl", model.title)
        growth = stream_text(service, request, model, text_request, body.seed)
        pieces = _pieces(opening, growth, with_logprobs=logprobs is not None, with_usage=body.usage_streamed)
        return await event_stream(pieces)
    texts, usage = await generate_texts(service, request, model, [text_request], body.n, body.seed)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text.text, "refusal": None},
            "finish_reason": text.finish,
            "logprobs": None if logprobs is None else _logprobs(text),
        }
        for index, text in enumerate(texts)
    ]
    return JsonResponse(
        {**response_head("chat.completion", "chatcmpl", model.title), "choices": choices, "usage": usage}
    )


def conversation(messages: Sequence[Message]) -> tuple[str, list[dict[str, str]]]:
    """Return a conversation's system message, and the messages of the user and the model.

    The system message is empty if there is none. Several system messages become one. If there are only system messages,
    an empty user message is added. Raises RefusedError (400) for a part that is not text.
    """
    texts = [(message.role, _content(message, place)) for place, message in enumerate(messages)]
    system = "\n\n".join(text for role, text in texts if role in ("system", "developer"))
    turns = [{"role": role, "content": text} for role, text in texts if role in ("user", "assistant")]
    return system, turns or [{"role": "user", "content": ""}]


def _content(message: Message, place: int) -> str:
    if isinstance(message.content, str):
        return message.content
    for index, part in enumerate(message.content):
        if isinstance(part, OtherPart):
            raise RefusedError(
                400,
                "unsupported_content",
                f"The model reads only text, and this part is {part.type}",
                step="send text",
                field=f"messages.{place}.content.{index}",
            )
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _schema(wanted: AsText | AsObject | AsSchema | None) -> Mapping[str, Any] | None:
    if isinstance(wanted, AsSchema):
        return wanted.json_schema.schema_
    return ANY_OBJECT if isinstance(wanted, AsObject) else None


async def _pieces(
    opening: Mapping[str, Any],
    growth: AsyncIterator[str | tuple[Text, Mapping[str, Any]]],
    *,
    with_logprobs: bool,
    with_usage: bool,
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the pieces of a stream. The piece with the finish reason has the log-probabilities of all tokens."""

    def piece(delta: Mapping[str, Any], end: str | None = None, logprobs: Any = None) -> Mapping[str, Any]:
        return {**opening, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": end}]}

    begun = False
    async for grown in growth:
        if not begun:  # a request that failed earlier has raised its error by now
            yield piece({"role": "assistant", "content": ""})
            begun = True
        if isinstance(grown, str):
            yield piece({"content": grown})
            continue
        text, usage = grown
        yield piece({}, text.finish, _logprobs(text) if with_logprobs else None)
        if with_usage:
            yield {**opening, "choices": [], "usage": usage}


def _logprobs(text: Text) -> dict[str, Any]:
    return {"content": list(map(_logprob, text.tokens)), "refusal": None}


def _logprob(token: Mapping[str, Any]) -> dict[str, Any]:
    """Return a token's log-probability in the format of OpenAI's chat completions."""
    top = [
        {"token": token_text(candidate), "bytes": candidate["bytes"], "logprob": candidate["logprob"]}
        for candidate in token["top"]
    ]
    return {"token": token_text(token), "bytes": token["bytes"], "logprob": token["logprob"], "top_logprobs": top}
