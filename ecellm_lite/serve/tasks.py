"""`/v1/tasks`: describes the tasks, and answers a row or a list of rows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response
from typing_extensions import Self

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.answers.options import OneOf
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.space import Space
from ecellm_lite.deadlines import LONGEST
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.pipe.options import HOTTEST, LONGEST_ANSWER, request_options
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import BODY, ROWS, replies
from ecellm_lite.serve.errors import RefusedError, row_error_response
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.form import Form
from ecellm_lite.serve.in_flight import unless_disconnected
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.replies import PromptReply, TaskList, TaskReply
from ecellm_lite.serve.service import Served
from ecellm_lite.serve.workers import Submits
from ecellm_lite.tasks.description import describe
from ecellm_lite.tasks.fields import encodable
from ecellm_lite.tasks.registry import get_task, task_names
from ecellm_lite.tasks.sentiment_analysis import TASK as EXAMPLE
from ecellm_lite.tasks.task import Task

router = APIRouter(tags=["tasks"], route_class=JsonRoute)

# On the command line a task may be the path of a file; a name sent over HTTP must never be read as a path.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Options(Form):
    """The options of a request. They are the same as in the pipe protocol (see docs/pipe.md)."""

    instruction: str | None = Field(default=None, min_length=1, description="Replaces the task's own instruction.")
    shorten: bool | None = Field(default=None, description="Shorten a row that is too long. The answer says how.")
    min_probability: float | None = Field(
        default=None, ge=0, le=1, description="If the answer is less probable, abstain."
    )
    calibration: Literal["auto", False] | None = Field(default=None, description="auto: the stored one. false: none.")
    seed: int | None = Field(default=None, ge=0, lt=1 << 32, description="Makes random text repeatable.")
    deadline_ms: float | None = Field(default=None, gt=0, le=LONGEST, description="The time limit of a row.")
    priority: Literal["normal", "urgent"] | None = Field(default=None, description="Urgent rows go before all others.")
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", description="A JSON schema for the answer.")
    grammar: str | None = Field(default=None, description="A grammar for the answer, GBNF or Lark.")
    max_tokens: int | None = Field(default=None, ge=1, le=LONGEST_ANSWER, description="The maximum length of a text.")
    temperature: float | None = Field(
        default=None, ge=0, le=HOTTEST, description="With 0, each token is the most likely one."
    )


class RowForm(Form):
    """A body that has a task's fields in its key `row`."""

    @model_validator(mode="before")
    @classmethod
    def _fields_in_a_row(cls, value: Any) -> Any:
        """Raise an error that shows the right form if the body has a task's fields directly, not in `row` or `rows`."""
        if not isinstance(value, dict) or {"row", "rows"} & value.keys():
            return value
        if fields := [name[:40] for name in value if name not in cls.model_fields]:
            keys = ", ".join(f"{json.dumps(encodable(name), ensure_ascii=False)}: …" for name in fields[:3])
            message = f'write the fields into a row, such as {{"row": {{{keys}}}}}'
            raise PydanticCustomError("extra_forbidden", "{message}", {"message": message})
        return value


class Rows(RowForm):
    """A row or a list of rows of one task."""

    model: str | None = Field(default=None, description="A name from /v1/models. The default is the first.")
    row: dict[str, Any] | None = Field(default=None, description="The task's fields, and optionally an id.")
    rows: list[Any] | None = Field(default=None, min_length=1, description="Several rows.")
    options: Options = Options()

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"row": EXAMPLE.example()}],
            "oneOf": [
                {"required": ["row"], "properties": {"row": {"type": "object"}, "rows": {"type": "null"}}},
                {"required": ["rows"], "properties": {"rows": {"type": "array"}, "row": {"type": "null"}}},
            ],
        }
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.row is None) == (self.rows is None):
            raise ValueError("give either row or rows")
        return self


class Answers(Form):
    """The answers to a list of rows, in order. A failed row's answer contains its error."""

    answers: list[Answer]


@router.get("/v1/tasks", summary="List the tasks", responses=replies(TaskList))
async def tasks() -> dict[str, Any]:
    """Return all tasks of this server, each with its fields, instruction, answers and an example."""
    return {"tasks": [_described(get_task(name)) for name in task_names()]}


@router.get("/v1/tasks/{task}", summary="Describe a task", responses=replies(TaskReply, 404))
async def task_by_name(task: str) -> dict[str, Any]:
    """Return a task by its name or abbreviation, with its fields, instruction, answers and an example."""
    return _described(served_task(task))


@router.post(
    "/v1/tasks/{task}", summary="Answer a row, or a list of rows", responses=replies(Answer | Answers, 404, *ROWS)
)
async def ask(task: str, body: Rows, request: Request, service: Served) -> Response:
    """Return the answer to `row`, or the answers to `rows` in order.

    If a single `row` fails, the response is an HTTP error. If one of several `rows` fails, its answer holds the error.
    """
    checked_task = served_task(task)
    rows: list[Any] = [body.row] if body.rows is None else body.rows
    if len(rows) > service.limits.rows:
        message = f"The request has {len(rows):,} rows"
        raise RefusedError(
            422, "too_many_rows", message, step=f"send at most {service.limits.rows:,} at a time", field="rows"
        )
    model = await service.model(body.model)
    options = body.options.model_dump(by_alias=True, exclude_none=True)

    def submit(engine: Submits) -> Sequence[Future[Answer]]:
        checked = request_options(checked_task, options)
        return [engine.submit(checked_task, row, **checked) for row in rows]

    exchange_of(request).rows = len(rows)
    answers = await unless_disconnected(request, service.answers(request, model, checked_task.name, len(rows), submit))
    if body.rows is not None:
        return JsonResponse({"answers": [answer.as_dict() for answer in answers]})
    [answer] = answers
    if answer.error:
        return row_error_response(answer.error, "row")
    return JsonResponse(answer.as_dict())


class OneRow(RowForm):
    """A row of a task."""

    model: str | None = Field(default=None, description="A name from /v1/models. The default is the first.")
    row: dict[str, Any]
    instruction: str | None = Field(default=None, min_length=1, description="Replaces the task's own instruction.")


@router.post("/v1/tasks/{task}/prompt", summary="Show the prompt", responses=replies(PromptReply, 404, *BODY))
async def prompt(task: str, body: OneRow, service: Served) -> Response:
    """Return a row's exact prompt, and the text of each option by its key. The model does not run."""
    checked_task = served_task(task)
    model = await service.model(body.model)
    try:
        question = await asyncio.to_thread(checked_task.question, body.row, instruction=body.instruction)
    except InputError as error:
        return row_error_response(RowError.of(error), "row")
    text = model.envelope.prompt(question.instruction, question.text, question.options, question.examples)
    return JsonResponse({"prompt": text, "labels": labels(question.space)})


def labels(space: Space) -> dict[str, str]:
    """Return a text for each option or ranked item, by its key: {"A": "A: very positive", …}.

    If the answer space has neither options nor items, the result is empty.
    """
    if isinstance(space, OneOf):
        return {option.key: option.line or option.text for option in space.offered}
    return dict(zip(space.letters, space.lines, strict=False)) if isinstance(space, Ranking) else {}


def served_task(name: str) -> Task:
    """Return a task by its name.

    Raises RefusedError (404) if there is no such task, and RefusedError (500) if the task's file is invalid.
    """
    try:
        if not _NAME.fullmatch(name):
            raise UsageError("There is no such task", step=f"use one of {', '.join(task_names())}")
        task = get_task(name)
    except UsageError as error:
        raise RefusedError(404, "task_not_found", error.message, step=error.step, field="task") from None
    except InputError as error:
        raise RefusedError(500, "task_damaged", f"The file of the task {name} is not valid") from error
    return task


def _described(task: Task) -> dict[str, Any]:
    description = describe(task)
    del description["file"]  # clients must not learn where it is
    description.pop("examples", None)  # they may be of customers
    return description
