"""Turns the input of OpenAI's decision requests into the text that the model reads.

The input is a text, or a list of messages whose content may have several parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, field_validator

from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.form import Form, by_type, text_or
from ecellm_lite.tasks.written import written_json

DEEPEST, MOST_VALUES, LARGEST = 32, 10_000, 256 << 10  # limits of a JSON part: levels, values, bytes


class TextPart(Form):
    """A part of a message that is a text."""

    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Any = None


class JsonPart(Form):
    """A part of a message: a JSON object or a list of objects."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[dict[str, Any]]
    prompt_cache_breakpoint: Any = None

    @field_validator("data")
    @classmethod
    def _bounded(cls, data: Any) -> Any:
        check_json(data)
        return data


class ImagePart(Form):
    """A part of a message: an image. It is always refused, because these models cannot see images."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: Any = None


class OutputPart(Form):
    """A part of a message: text that an assistant wrote."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class RefusalPart(Form):
    """A part of a message: an assistant's refusal."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[
    Annotated[TextPart, Tag("~input_text")]
    | Annotated[JsonPart, Tag("~input_json")]
    | Annotated[ImagePart, Tag("~input_image")],
    by_type("input_text", "input_json", "input_image"),
]
Content = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[Part], Tag("~parts")],
    text_or("parts"),
]


class Message(Form):
    """A message of a conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "developer", "system", "assistant"]
    content: Annotated[
        Annotated[str, Tag("~text")]
        | Annotated[
            list[
                Annotated[
                    Annotated[TextPart, Tag("~input_text")]
                    | Annotated[JsonPart, Tag("~input_json")]
                    | Annotated[ImagePart, Tag("~input_image")]
                    | Annotated[OutputPart, Tag("~output_text")]
                    | Annotated[RefusalPart, Tag("~refusal")],
                    by_type("input_text", "input_json", "input_image", "output_text", "refusal"),
                ]
            ],
            Tag("~parts"),
        ],
        text_or("parts"),
    ]
    phase: str | None = None
    id: str | None = None
    status: str | None = None


class FunctionCall(Form):
    """A call of a function."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    namespace: str | None = None
    status: str | None = None


class FunctionCallOutput(Form):
    """The output of a function call."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: str | None = None


class CustomToolCall(Form):
    """A call of a custom tool."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    id: str | None = None
    namespace: str | None = None
    status: str | None = None


class CustomToolCallOutput(Form):
    """The output of a call of a custom tool."""

    type: Literal["custom_tool_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: str | None = None


_ITEMS = ("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output")
Item = Annotated[
    Annotated[Message, Tag("~message")]
    | Annotated[FunctionCall, Tag("~function_call")]
    | Annotated[FunctionCallOutput, Tag("~function_call_output")]
    | Annotated[CustomToolCall, Tag("~custom_tool_call")]
    | Annotated[CustomToolCallOutput, Tag("~custom_tool_call_output")],
    by_type(*_ITEMS, default="message"),
]
Input = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[Item], Field(min_length=1), Tag("~items")],
    text_or("items"),
]


def input_text(value: str | Sequence[Any]) -> str:
    """Return an input as text. Each message begins with its role, and each call with the name of the function or tool.

    If the input is a single user message, the role is left out. Raises RefusedError (400) for an image, and
    RefusedError (422) for a call's output if the call itself does not come before it.
    """
    if isinstance(value, str):
        return value
    if len(value) == 1 and isinstance(value[0], Message) and value[0].role == "user":
        return content_text(value[0].content, "input.0.content")
    calls: dict[str, str] = {}
    lines = []
    for index, item in enumerate(value):
        here = f"input.{index}"
        if isinstance(item, Message):
            lines.append(f"{item.role}: {content_text(item.content, f'{here}.content')}")
        elif isinstance(item, FunctionCall | CustomToolCall):
            calls[item.call_id] = item.name
            lines.append(f"{item.name}({item.arguments if isinstance(item, FunctionCall) else item.input})")
        else:
            if item.call_id not in calls:
                message = "An output has a call_id that no call before it has"
                raise RefusedError(422, "unknown_call", message, step="put its call before it", field=f"{here}.call_id")
            lines.append(f"{calls[item.call_id]} gave: {content_text(item.output, f'{here}.output')}")
    return "\n\n".join(lines)


def content_text(content: str | Sequence[Any], place: str) -> str:
    """Return the content of a message or a question as text. Raises RefusedError (400) for an image."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if isinstance(part, ImagePart):
            message = "The model sees no images"
            raise RefusedError(400, "unsupported_image", message, step="send text or JSON", field=f"{place}.{index}")
        if isinstance(part, JsonPart):
            texts.append(written_json(part.data))
        else:
            texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "\n".join(texts)


def check_json(data: Any) -> None:
    """Raise ValueError for JSON that is nested too deeply, or that has too many values or bytes."""
    waiting, values = [(data, 1)], 0
    while waiting:
        value, level = waiting.pop()
        values += 1
        if level > DEEPEST or values > MOST_VALUES:
            raise ValueError(f"the JSON is nested more than {DEEPEST} deep, or has more than {MOST_VALUES:,} values")
        if isinstance(value, dict):
            waiting += [(part, level + 1) for part in value.values()]
        elif isinstance(value, list):
            waiting += [(part, level + 1) for part in value]
    if len(written_json(data).encode("utf-8", "replace")) > LARGEST:
        raise ValueError(f"the JSON has more than {LARGEST:,} bytes")
