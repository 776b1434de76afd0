"""`POST /v1/systemone`: typed decisions in TypeSafe's format, for TypeSafe's clients.

The possible answers to a question are "yes" and "no", or labels, or levels. Each of them gets a probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, Tag, field_validator
from starlette.responses import Response

from ecellm_lite.serve.answer_replies import SystemOneReply
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import ROWS, replies
from ecellm_lite.serve.errors import RefusedError, row_error_response
from ecellm_lite.serve.form import Form, by_type
from ecellm_lite.serve.inputs import check_json
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.questions import MOST, Decided, Question, calibration_header, decide, log_rows, reading
from ecellm_lite.serve.service import Served
from ecellm_lite.tasks.questions import LONGEST_VALUE, MAX_CHOICES, MAX_LEVELS
from ecellm_lite.tasks.written import written_json

router = APIRouter(tags=["decisions"], route_class=JsonRoute)

Label = Annotated[str, Field(min_length=1, max_length=LONGEST_VALUE)]
Content = str | dict[str, Any] | list[Any]


class NoulCriteria(Form):
    """The criteria of a yes-or-no question: when the answer is "yes", and when it is "no"."""

    true: Content | None = None
    false: Content | None = None


class Noul(Form):
    """A yes-or-no question, which TypeSafe calls `noul`."""

    type: Literal["noul"]
    instructions: Content | None = None
    criteria: NoulCriteria | None = None


class Choice(Form):
    """A question that asks which of several labels is correct."""

    type: Literal["choice"]
    instructions: Content | None = None
    criteria: dict[Label, Content | None] = Field(min_length=2, max_length=MAX_CHOICES)


class Score(Form):
    """A question that asks which of several levels applies. The levels are listed from the lowest to the highest."""

    type: Literal["score"]
    instructions: Content | None = None
    criteria: list[Content] = Field(min_length=2, max_length=MAX_LEVELS, json_schema_extra={"uniqueItems": True})


class Box(Form):
    """A question about a region of an image. It is refused, because the server's models cannot see images."""

    model_config = ConfigDict(extra="allow")

    type: Literal["box"]


AnyQuestion = Annotated[
    Annotated[Noul, Tag("~noul")]
    | Annotated[Choice, Tag("~choice")]
    | Annotated[Score, Tag("~score")]
    | Annotated[Box, Tag("~box")],
    by_type("noul", "choice", "score", "box"),
]

_EXAMPLE: dict[str, Any] = {
    "model": "demo",
    "state": {"mail": "These headphones sound great, but the left ear stopped working after a week."},
    "questions": {
        "satisfied": {"type": "noul", "instructions": "Is the customer satisfied?"},
        "desk": {
            "type": "choice",
            "criteria": {"billing": "refunds", "delivery": "parcels", "repairs": "what broke"},
        },
        "urgency": {"type": "score", "criteria": ["can wait", "today", "at once"]},
    },
}


class SystemOne(Form):
    """A request: the text or data to judge (`state`), and the questions about it.

    The keys of `questions` are their ids.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: str
    state: Content
    questions: dict[str, AnyQuestion] = Field(min_length=1, max_length=MOST)
    assets: Any = Field(default=None, description="Images are not supported.")

    @field_validator("state")
    @classmethod
    def _bounded(cls, state: Any) -> Any:
        check_json(state)
        return state


@router.post(
    "/v1/systemone", summary="Typed decisions, in TypeSafe's form", responses=replies(SystemOneReply, 404, *ROWS)
)
async def systemone(body: SystemOne, request: Request, service: Served) -> Response:
    """Answer 1 to 400 questions about the text or data in `state`. The model reads it once for all questions.

    If one question cannot be answered, the whole request fails.
    """
    model = await service.model(body.model)
    if body.assets:
        raise RefusedError(400, "unsupported_image", "The model sees no images", step="send no assets", field="assets")
    state = _text(body.state)
    questions = [Question(_definition(id_, question)) for id_, question in body.questions.items()]
    log_rows(request, len(questions))
    decided = await service.in_flight.share(request, lambda: decide(service, request, model, state, questions))
    for id_, each in zip(body.questions, decided, strict=True):
        if each.error:
            return row_error_response(each.error, f"questions.{id_[:80]}")
    answers = {
        id_: _answer(question, each) for (id_, question), each in zip(body.questions.items(), decided, strict=True)
    }
    usage = {"input_tokens": reading(decided).tokens, "output_tokens": 0}
    return JsonResponse({"model": model.title, "answers": answers, "usage": usage}, headers=calibration_header(decided))


def _definition(id_: str, question: Noul | Choice | Score | Box) -> Mapping[str, Any]:
    instructions = _text(getattr(question, "instructions", None) or id_)
    if isinstance(question, Noul):
        criteria = question.criteria or NoulCriteria()
        meanings = [f"{word}: {_text(text)}" for word, text in (("yes", criteria.true), ("no", criteria.false)) if text]
        return {"type": "predicate", "instructions": "\n".join([instructions, *meanings])}
    if isinstance(question, Choice):
        choices = [
            {"value": label, "description": None if meaning is None else _text(meaning)}
            for label, meaning in question.criteria.items()
        ]
        return {"type": "choice", "instructions": instructions, "choices": choices}
    if isinstance(question, Score):
        levels = [{"label": _text(level)} for level in question.criteria]
        return {"type": "score", "instructions": instructions, "levels": levels}
    message = f"The question {id_[:80]!r} is about a place in an image, and the model sees no images"
    raise RefusedError(400, "unsupported_image", message, step="leave it out", field=f"questions.{id_[:80]}")


def _text(content: Content) -> str:
    """Return a string unchanged, and any other content as JSON."""
    return content if isinstance(content, str) else written_json(content)


def _answer(question: Noul | Choice | Score | Box, decided: Decided) -> dict[str, Any]:
    if isinstance(question, Choice):
        probabilities = dict(zip(question.criteria, decided.shares, strict=True))
        choice = list(question.criteria)[decided.best]
        return {
            "type": "choice",
            "choice": choice,
            "confidence": decided.confidence,
            "probabilities": probabilities,
        }
    if isinstance(question, Score):
        places = [str(place) for place in range(len(question.criteria))]
        return {
            "type": "score",
            "score": decided.mean,
            "confidence": decided.agreement,
            "legend": dict(zip(places, question.criteria, strict=True)),
            "probabilities": dict(zip(places, decided.shares, strict=True)),
        }
    return {"type": "noul", "noul": decided.shares[0]}
