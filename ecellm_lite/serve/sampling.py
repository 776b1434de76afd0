"""The parameters that completions and chat completions share, and errors for those that are not supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Tag

from ecellm_lite.pipe.options import HOTTEST, LONGEST_STOP, MOST_STOPS
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.form import Form, text_or

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

    def options(self, most: int, logprobs: int | None, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters as options of the pipe's protocol (docs/pipe.md).

        `most`: the maximum number of tokens to generate.
        `logprobs`: how many of the most probable tokens to report for each token, or None.
        `schema`: the JSON schema of the answer, or None for plain text.

        Raises RefusedError for parameters that are invalid or exclude each other.
        """
        self.refuse()
        stops = self.stops()
        options: dict[str, Any] = {"max_tokens": most, "temperature": self.temperature or 0.0}
        if schema is None:
            return {**options, "logprobs": logprobs or 0, **({"stop": stops} if stops else {})}
        if stops or logprobs is not None:
            message = "stop and logprobs do not go with a JSON schema"
            raise RefusedError(400, "unsupported_parameter", message, step="leave them out", field="response_format")
        return {**options, "schema": schema}


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
