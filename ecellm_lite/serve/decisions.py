"""`POST /v1/decisions`: typed decisions in OpenAI's format, for OpenAI's own clients.

A decision is a predicate (true or false), a choice or a score, with probabilities.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, Tag, field_validator
from starlette.responses import Response

from ecellm_lite.serve.answer_replies import DecisionsReply
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import BODY, ROWS, replies
from ecellm_lite.serve.errors import row_error_response
from ecellm_lite.serve.form import Form, by_type, text_or
from ecellm_lite.serve.inputs import Input, Part, content_text, input_text
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.questions import (
    MOST,
    MOST_ORDERS,
    Decided,
    Question,
    calibration_header,
    decide,
    log_rows,
    reading,
    task_of,
)
from ecellm_lite.serve.replies import PromptList
from ecellm_lite.serve.service import Served
from ecellm_lite.tasks.questions import LONGEST_VALUE, MAX_CHOICES, MAX_LEVELS

router = APIRouter(tags=["decisions"], route_class=JsonRoute)

Instructions = Annotated[
    Annotated[str, Tag("~text")] | Annotated[list[Part], Field(min_length=1), Tag("~parts")],
    text_or("parts"),
]
Name = Annotated[str, Field(max_length=256)]


class Predicate(Form):
    """A question about a statement: is it true of the input?"""

    type: Literal["predicate"]
    instructions: Instructions
    name: Name | None = None


class OfferedChoice(Form):
    """One of a question's choices. The string "true" and the boolean true are different choices."""

    value: Annotated[str, Field(min_length=1, max_length=LONGEST_VALUE)] | bool
    description: str | None = None


class Choice(Form):
    """A question that asks which of several choices is correct."""

    type: Literal["choice"]
    instructions: Instructions
    choices: list[OfferedChoice] = Field(min_length=2, max_length=MAX_CHOICES)
    name: Name | None = None

    @field_validator("choices")
    @classmethod
    def _unique(cls, choices: list[OfferedChoice]) -> list[OfferedChoice]:
        if len({(type(choice.value), choice.value) for choice in choices}) < len(choices):
            raise ValueError("two choices have the same value")
        return choices


class OfferedLevel(Form):
    """One level of a score."""

    label: str = Field(min_length=1, max_length=LONGEST_VALUE)
    description: str | None = None


class Score(Form):
    """A question that is answered with one level of a scale. The levels are listed from the lowest to the highest."""

    type: Literal["score"]
    instructions: Instructions
    levels: list[OfferedLevel] = Field(min_length=2, max_length=MAX_LEVELS)
    name: Name | None = None


AnyQuestion = Annotated[
    Annotated[Predicate, Tag("~predicate")] | Annotated[Choice, Tag("~choice")] | Annotated[Score, Tag("~score")],
    by_type("predicate", "choice", "score"),
]

_EXAMPLE: dict[str, Any] = {
    "model": "demo",
    "input": "These headphones sound great, but the left ear stopped working after a week.",
    "questions": [
        {"type": "predicate", "name": "satisfied", "instructions": "Is the customer satisfied?"},
        {
            "type": "choice",
            "instructions": "Which desk should answer?",
            "choices": [
                {"value": "sales"},
                {"value": "delivery"},
                {"value": "repairs", "description": "things that broke"},
            ],
        },
        {
            "type": "score",
            "instructions": "How urgent is it?",
            "levels": [{"label": "can wait"}, {"label": "this week"}, {"label": "today"}],
        },
    ],
}


class Decisions(Form):
    """An input and the questions about it. `option_orders` is not in OpenAI's API (see docs/serve.md)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: str
    input: Input
    questions: list[AnyQuestion] = Field(min_length=1, max_length=MOST)
    prompt_cache_key: str | None = Field(default=None, description="Accepted, but has no effect.")
    prompt_cache_options: dict[str, Any] | None = Field(default=None, description="Accepted, but has no effect.")
    safety_identifier: str | None = Field(default=None, description="Accepted, but has no effect.")
    option_orders: int = Field(
        default=1,
        ge=1,
        le=MOST_ORDERS,
        description="Ask each choice question with its choices in this many orders, and average the probabilities.",
    )


@router.post(
    "/v1/decisions", summary="Typed decisions, in OpenAI's form", responses=replies(DecisionsReply, 404, *ROWS)
)
async def decisions(body: Decisions, request: Request, service: Served) -> Response:
    """Answer 1 to 400 questions about one input. The model reads the input only once.

    A question that cannot be answered gets a refusal. If no question can be answered, the whole request fails.
    """
    model = await service.model(body.model)
    state = input_text(body.input)
    questions = _questions(body)
    log_rows(request, len(questions))
    decided = await service.in_flight.share(
        request, lambda: decide(service, request, model, state, questions, orders=body.option_orders)
    )
    if all(each.error for each in decided) and decided[0].error:
        return row_error_response(decided[0].error, "input")
    answers = [_answer(question, each) for question, each in zip(body.questions, decided, strict=True)]
    return JsonResponse(
        {"answers": answers, "model": model.title, "usage": _usage(decided)},
        headers=calibration_header(decided),
    )


@router.post("/v1/decisions/prompt", summary="Show the prompt", responses=replies(PromptList, 404, *BODY))
async def prompt(body: Decisions, service: Served) -> dict[str, Any]:
    """Return the exact prompt of each question, in order. The model does not run."""
    model = await service.model(body.model)
    row = {"state": input_text(body.input)}
    task_questions = await asyncio.to_thread(
        lambda: [task_of(each.definition, place).question(row) for place, each in enumerate(_questions(body))]
    )
    return {"prompts": [model.envelope.prompt(each.instruction, each.text, each.options) for each in task_questions]}


def _questions(body: Decisions) -> list[Question]:
    return [
        Question(definition_of(question, content_text(question.instructions, f"questions.{place}.instructions")))
        for place, question in enumerate(body.questions)
    ]


def definition_of(question: Predicate | Choice | Score, instructions: str) -> Mapping[str, Any]:
    """Return a question as data, in the format that tasks/questions.py reads.

    `instructions`: the question's instructions as text.
    """
    definition: dict[str, Any] = {"type": question.type, "instructions": instructions}
    if isinstance(question, Choice):
        texts = {choice.value for choice in question.choices if isinstance(choice.value, str)}
        definition["choices"] = [
            {"value": _text(choice.value, texts), "description": choice.description} for choice in question.choices
        ]
    elif isinstance(question, Score):
        definition["levels"] = [level.model_dump() for level in question.levels]
    return definition


def _text(value: str | bool, texts: set[str]) -> str:
    """Return a choice's value as text for the model.

    `texts` are the question's choices that are strings. If "true" is one of them, the boolean true becomes "true
    (boolean)".
    """
    if isinstance(value, str):
        return value
    text = "true" if value else "false"
    return f"{text} (boolean)" if text in texts else text


def _answer(question: Predicate | Choice | Score, decided: Decided) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": question.type, "name": question.name}
    if decided.error:
        return {"type": "refusal", "name": question.name}
    if isinstance(question, Predicate):
        return {**answer, "probability": decided.shares[0]}
    if isinstance(question, Choice):
        values = [choice.value for choice in question.choices]
        probabilities = [
            {"value": value, "probability": share} for value, share in zip(values, decided.shares, strict=True)
        ]
        return {
            **answer,
            "choice": values[decided.best],
            "confidence": decided.confidence,
            "probabilities": probabilities,
        }
    levels = [
        {"value": place, "label": level.label, "probability": share}
        for place, (level, share) in enumerate(zip(question.levels, decided.shares, strict=True))
    ]
    return {**answer, "score": decided.mean, "confidence": decided.agreement, "probabilities": levels}


def _usage(decided: Sequence[Decided]) -> dict[str, Any]:
    read = reading(decided)
    return {
        "input_tokens": read.tokens,
        "input_tokens_details": {"cached_tokens": read.cached, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read.tokens,
    }
