"""Converts the options of a request from the protocol's JSON to an Answerer's RequestOptions, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ecellm_lite.answerer import RequestOptions
from ecellm_lite.answers import structured
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import ProtocolError, UsageError
from ecellm_lite.tasks.task import Task

_KINDS: dict[str, tuple[type, ...]] = {
    "instruction": (str,),
    "shorten": (bool,),
    "min_probability": (int, float),
    "calibration": (str, bool),
    "seed": (int,),
    "adapter": (str,),
    "deadline_ms": (int, float),
    "priority": (str,),
    "schema": (dict,),
    "grammar": (str,),
    "max_tokens": (int,),
    "temperature": (int, float),
    "stop": (list,),
    "logprobs": (int,),
    "stream": (bool,),
}
_OF_TEXT = ("stop", "logprobs")
_SPACE = ("schema", "grammar", "max_tokens", "temperature", *_OF_TEXT)
MOST_STOPS, LONGEST_STOP, MOST_LOGPROBS = 4, 200, 20
LONGEST_ANSWER = 1 << 16  # tokens
HOTTEST = 10.0


def request_options(task: Task, wire: Mapping[str, Any]) -> RequestOptions:
    """Return the options of a request for a task. An option that is null counts as absent.

    Raises ProtocolError for an invalid option, and GrammarError for a schema or grammar that does not compile.
    """
    for name in wire:
        if name not in _KINDS:
            raise ProtocolError(
                f"There is no option {name[:80]!r}", step=f"send {', '.join(_KINDS)}", field=f"options.{name[:80]}"
            )
    values = {name: value for name, value in wire.items() if value is not None}
    for name, value in values.items():
        kinds = _KINDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _wrong(name, value)
    if values.get("calibration") in (True, ""):
        raise _wrong("calibration", values["calibration"])
    if not 0 <= values.get("seed", 0) < 1 << 32:
        raise _wrong("seed", values["seed"])
    space = _space(task, values)
    options = {name: value for name, value in values.items() if name not in (*_SPACE, "stream")}
    return cast("RequestOptions", {**options, "space": space})


def wire_options(options: RequestOptions) -> dict[str, Any]:
    """Return request options in the form of the pipe's protocol.

    Raises UsageError if the option `space` cannot be sent. The protocol can send only a JSON schema, a grammar, or
    limits for free text.
    """
    wire: dict[str, Any] = dict(options)
    space = wire.pop("space", None)
    if wire.pop("listener", None):
        wire["stream"] = True
    if space is not None:
        if (limits := space.as_options()) is None:
            raise UsageError(
                f"A {type(space).__name__} cannot be sent to another process",
                step="use a JSON schema, a grammar or a text's limits",
                settings=("space",),
            )
        wire |= limits
    if "calibration" in wire and wire["calibration"] not in (False, "auto"):
        wire["calibration"] = str(wire["calibration"])
    return wire


def _space(task: Task, options: Mapping[str, Any]) -> Space | None:
    if not any(name in options for name in _SPACE):
        return None
    if "schema" in options and "grammar" in options:
        raise ProtocolError("The options have a schema and a grammar", step="send one of them", field="options.schema")
    if not 1 <= options.get("max_tokens", 1) <= LONGEST_ANSWER:
        raise _wrong("max_tokens", options["max_tokens"])
    if not 0 <= options.get("temperature", 0) <= HOTTEST:
        raise _wrong("temperature", options["temperature"])
    limits: dict[str, Any] = {name: options[name] for name in ("max_tokens", "temperature") if name in options}
    if of_text := _of_text(options):
        if "schema" in options or "grammar" in options:
            raise ProtocolError(
                "stop and logprobs are for free text", step="leave them out, or the schema", field="options"
            )
        limits |= of_text
    if "schema" in options:
        return structured.schema(options["schema"], **limits)
    if "grammar" in options:
        return structured.grammar(options["grammar"], **limits)
    if task.free_text is None:
        raise ProtocolError(
            f"max_tokens, temperature, stop and logprobs are for free text, and {task.name} has no free-text answers",
            step="leave them out",
            field="options",
        )
    return replace(task.free_text, **limits)


def _of_text(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for free text, such as `stop`. Raises ProtocolError for an invalid option."""
    stop, logprobs = options.get("stop", []), options.get("logprobs", 0)
    texts = all(isinstance(text, str) and 0 < len(text) <= LONGEST_STOP for text in stop)
    if not texts or len(stop) > MOST_STOPS:
        raise _wrong("stop", stop)
    if not 0 <= logprobs <= MOST_LOGPROBS:
        raise _wrong("logprobs", logprobs)
    values = {name: options[name] for name in _OF_TEXT if name in options}
    return {**values, "stop": tuple(stop)} if "stop" in values else values


def _wrong(name: str, value: Any) -> ProtocolError:
    return ProtocolError(
        f"The option {name} is {str(value)[:80]!r}", step="see the protocol's page", field=f"options.{name}"
    )
