"""Offers tools over MCP (Model Context Protocol), on standard input and output: one for each task, and `decide`.

`decide` answers typed questions about a text: yes or no, one of several choices, or a score.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

from ecellm_lite.answerer import Answerer
from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.tasks.field_schemas import row_schema
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task
from ecellm_lite.version import __version__

MOST_QUESTIONS = 400

_TEXT = {"type": "string", "minLength": 1}
_QUESTION = {
    "type": "object",
    "required": ["type", "instructions"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["predicate", "choice", "score"], "description": "Yes or no, one of several, or a scale."},
        "instructions": {**_TEXT, "description": "The question itself."},
        "choices": {
            "type": "array",
            "minItems": 2,
            "maxItems": 255,
            "description": "For a choice.",
            "items": {
                "type": "object",
                "required": ["value"],
                "properties": {"value": _TEXT, "description": {"type": "string"}},
            },
        },
        "levels": {
            "type": "array",
            "minItems": 2,
            "maxItems": 10,
            "description": "For a score, the lowest first.",
            "items": {
                "type": "object",
                "required": ["label"],
                "properties": {"label": _TEXT, "description": {"type": "string"}},
            },
        },
    },
}
DECIDE = Tool(
    name="decide",
    title="Typed decisions",
    description="Answer questions about a text with probabilities: yes or no, one of several choices, or a score.",
    input_schema={
        "type": "object",
        "required": ["state", "questions"],
        "additionalProperties": False,
        "properties": {
            "state": {**_TEXT, "description": "The text that the questions are about."},
            "questions": {"type": "array", "minItems": 1, "maxItems": MOST_QUESTIONS, "items": _QUESTION},
        },
    },
)


def tool_of(task: Task) -> Tool:
    """Return the MCP tool that answers a row of a task."""
    return Tool(
        name=task.name,
        title=task.name.replace("_", " ").capitalize(),
        description=f"{task.summary} The answer: {task.answers}",
        input_schema=row_schema(task.fields),
    )


async def call(answerer: Answerer, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
    """Call a tool and return its result.

    If the arguments are wrong, the result is an error that says how to correct the call.
    """
    try:
        if name == DECIDE.name:
            answers = await _decide(answerer, arguments)
            return _result({"answers": answers}, failed=all(answer["error"] for answer in answers))
        if name not in answerer.tasks:
            raise UsageError(f"There is no tool {name[:80]!r}", step=f"use decide or {', '.join(answerer.tasks)}")
        answer = await asyncio.wrap_future(answerer.submit(get_task(name), arguments))
        return _result(answer.as_dict(), failed=answer.error is not None)
    except EcellmError as error:
        return _result({"error": {"code": error.code, "message": str(error), "field": error.field}}, failed=True)


async def serve(answerer: Answerer) -> None:
    """Answer the MCP client on standard input and output until it closes the input.

    Raises UsageError if a task of the user has the name of the tool `decide`.
    """
    if DECIDE.name in answerer.tasks:
        message = f"One of your own tasks is named {DECIDE.name!r}, like the tool for questions"
        raise UsageError(message, step="give the task another name, in its file and as the file's name")

    async def tools(*_: object) -> ListToolsResult:
        return ListToolsResult(tools=[DECIDE, *(tool_of(get_task(name)) for name in answerer.tasks)])

    async def called(_: object, params: CallToolRequestParams) -> CallToolResult:
        return await call(answerer, params.name, params.arguments or {})

    server: Server[Any] = Server("ecellm-lite", version=__version__, on_list_tools=tools, on_call_tool=called)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def _decide(answerer: Answerer, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    if unknown := [name for name in arguments if name not in ("state", "questions")]:
        message = f"decide has no argument {unknown[0][:80]!r}"
        raise InputError(message, step="give only state and questions", field=unknown[0][:80])
    state, questions = arguments.get("state"), arguments.get("questions")
    if not isinstance(state, str) or not isinstance(questions, list) or not 0 < len(questions) <= MOST_QUESTIONS:
        raise InputError("decide needs a state and a list of questions", step=f"give 1 to {MOST_QUESTIONS} questions")
    if not all(isinstance(question, dict) for question in questions):
        raise InputError("A question is an object", step="give its type and instructions", field="questions")
    tasks = [question_task(question, f"questions.{place}") for place, question in enumerate(questions)]
    futures = [asyncio.wrap_future(answerer.submit(task, {"state": state})) for task in tasks]
    return [answer.as_dict() for answer in await asyncio.gather(*futures)]


def _result(value: dict[str, Any], *, failed: bool = False) -> CallToolResult:
    text = json.dumps(value, ensure_ascii=False)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=value, is_error=failed)
