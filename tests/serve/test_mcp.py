"""Tests the tools for the Model Context Protocol (MCP) with the protocol's own client."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ecellm_lite import Runtime, UsageError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.tasks.field_schemas import row_schema
from ecellm_lite.tasks.registry import CASLIE_TASKS, TASKS
from tests.pipe.host import ROOT
from tests.support.answer_checks import EXAMPLES

QUESTIONS = [
    {"type": "predicate", "instructions": "Is it about a parcel?"},
    {"type": "choice", "instructions": "Which desk?", "choices": [{"value": "billing"}, {"value": "delivery"}]},
]


@pytest.mark.parametrize("task", TASKS)
def test_each_example_fits_its_tasks_schema(task: str) -> None:
    schema = row_schema(TASKS[task].fields)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(EXAMPLES[task], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_a_host_finds_and_calls_the_tools() -> None:
    mcp = pytest.importorskip("mcp", reason="the protocol's library is in the extra 'mcp'")
    server = mcp.StdioServerParameters(command=sys.executable, args=["-m", "tests.serve.fake_mcp"], cwd=ROOT)

    async def converse() -> list[Any]:
        async with mcp.Client(server) as client:
            return [
                await client.list_tools(),
                await client.call_tool("sentiment_analysis", {"review": "It works."}),
                await client.call_tool("decide", {"state": "My parcel never came.", "questions": QUESTIONS}),
                await client.call_tool("sentiment_analysis", {}),
                await client.call_tool(
                    "decide", {"state": "x", "questions": [QUESTIONS[0], {"type": "wish", "instructions": "?"}]}
                ),
                await client.call_tool("nonsense", {}),
                await client.call_tool("decide", {"state": "x", "questions": QUESTIONS, "context": "y"}),
                await client.call_tool("decide", {"state": "x " * 100_000, "questions": QUESTIONS}),
            ]

    tools, answer, decisions, no_field, no_question, no_tool, no_argument, no_answer = asyncio.run(converse())
    assert {tool.name for tool in tools.tools} == {"decide", *TASKS, *CASLIE_TASKS}
    with Runtime.over(FakeBackend()) as runtime:
        expected = runtime.answer("sentiment_analysis", {"review": "It works."})
    assert answer.structured_content["probabilities"] == expected.probabilities
    assert [one["type"] for one in decisions.structured_content["answers"]] == ["predicate", "choice"]
    assert [answer.is_error, decisions.is_error] == [False, False]
    assert no_field.structured_content["error"]["field"] == "review"
    assert no_question.structured_content["error"]["field"] == "questions.1.type"
    assert no_argument.structured_content["error"]["field"] == "context"
    assert {one["error"]["code"] for one in no_answer.structured_content["answers"]} == {"context_exceeded"}
    assert all(result.is_error for result in (no_field, no_question, no_tool, no_argument, no_answer))


def test_a_task_of_the_user_cannot_have_the_name_of_the_tool_for_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp", reason="the protocol's library is in the extra 'mcp'")
    from ecellm_lite.serve.mcp_tools import serve

    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "decide.toml").write_text("")
    with Runtime.over(FakeBackend()) as runtime, pytest.raises(UsageError):
        asyncio.run(serve(runtime))
