"""Typed questions about one state (a text or data).

Both decision endpoints ask all questions of a request together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from starlette.requests import Request

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.errors import InputError
from ecellm_lite.models.calibrations import CalibrationChoice
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.model_source import ModelSource
from ecellm_lite.serve.service import Service
from ecellm_lite.serve.workers import Submits
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.task import Task

MOST = 400  # questions of one request
MOST_ORDERS = 26

# Characters of state and questions in one request: the state is sent to the engine's process with each question.
LONGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `definition` is in the form that tasks/questions.py describes."""

    definition: Mapping[str, Any]

    @property
    def options(self) -> int:
        """The number of options; 2 for a predicate."""
        return len(self.definition.get("choices") or self.definition.get("levels") or (True, False))

    def in_orders(self, count: int) -> list[tuple[Mapping[str, Any], int]]:
        """Return the definition with its choices in up to `count` different orders.

        Each order is a rotation of the original one. It comes with the number of places by which it was rotated. A
        question without choices is returned once, unchanged.
        """
        choices = self.definition.get("choices")
        if not choices:
            return [(self.definition, 0)]
        turns = sorted({turn * len(choices) // count for turn in range(count)})
        return [({**self.definition, "choices": [*choices[turn:], *choices[:turn]]}, turn) for turn in turns]


@dataclass(frozen=True, slots=True)
class Decided:
    """The outcome of a question.

    `shares`: the probability of each option, in the question's order. Empty if there is an error.
    `answers`: the model's answers, one for each order of the choices.
    `error`: why the question has no answer.
    """

    shares: Sequence[float]
    answers: Sequence[Answer]
    error: RowError | None = None

    @property
    def best(self) -> int:
        """The index of the likeliest option."""
        return max(range(len(self.shares)), key=self.shares.__getitem__)

    @property
    def confidence(self) -> float:
        """How certain the answer is: 0 if all k shares are equal, 1 if the largest share is 1.

        For a largest share p, it is (p - 1/k) / (1 - 1/k).
        """
        return confidence(self.shares)

    @property
    def mean(self) -> float:
        """The mean of the levels' indices from 0, weighted by their shares."""
        return sum(place * share for place, share in enumerate(self.shares))

    @property
    def agreement(self) -> float:
        """How closely a score's shares lie around the likeliest level, from 0 to 1.

        As in llama.cpp's server, it is 1 - a / b, or 0 if that is negative:

        - a: the mean distance of the levels from the likeliest one, weighted by their shares.
        - b: the mean distance of the levels from the middle of the scale, all with equal weight.
        """
        count, mode = len(self.shares), self.best
        distance = sum(share * abs(place - mode) for place, share in enumerate(self.shares))
        return max(0.0, 1 - distance / fmean(abs(place - (count - 1) / 2) for place in range(count)))


@dataclass(frozen=True, slots=True)
class Reading:
    """How many prompt tokens a request had, and how many of them were cached.

    The tokens with which all prompts of the request begin are counted once.
    """

    tokens: int
    cached: int


async def decide(
    service: Service,
    request: Request,
    model: ModelSource,
    state: str,
    questions: Sequence[Question],
    *,
    orders: int = 1,
) -> list[Decided]:
    """Return what the model decides about each question, in order.

    `orders`: the number of orders in which a question's choices are asked. The shares are averaged over them.

    Raises RefusedError if the state is too long for so many questions, if a question is invalid (the error names its
    place), or if the queue is full.
    If a question fails later, its Decided has the error.
    """
    if len(questions) * len(state) > LONGEST:
        message = f"{len(questions)} questions about {len(state):,} characters are too much for one request"
        raise RefusedError(413, "too_much_text", message, step="ask fewer at a time", field="questions")
    turned = [question.in_orders(orders) for question in questions]
    tasks = [(task_of(definition, place), turn) for place, each in enumerate(turned) for definition, turn in each]

    def submit(engine: Submits) -> list[Future[Answer]]:
        # A calibration is for one order of the options, so a mean over several orders cannot use it.
        calibration: CalibrationChoice = "auto" if orders == 1 else False
        return [engine.submit(task, {"state": state}, calibration=calibration) for task, _ in tasks]

    answers = iter(await service.answers(request, model, "question", len(tasks), submit, together=True))
    return [_decided([(next(answers), turn) for _, turn in each]) for each in turned]


def reading(decided: Sequence[Decided]) -> Reading:
    """Return the token counts of a request, from the outcomes of its questions."""
    usages = [answer.usage for each in decided for answer in each.answers if answer.usage]
    cached = min((usage.cached_tokens or 0 for usage in usages), default=0)
    read = sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in usages)
    return Reading(read + cached, cached)


def calibration_header(decided: Sequence[Decided]) -> dict[str, str]:
    """Return the header that says how many answers were calibrated."""
    count = sum(all(answer.calibration for answer in each.answers) for each in decided)
    return {"X-Ecellm-Calibrated": f"{count}/{len(decided)}"}


def count_rows(request: Request, questions: int) -> None:
    """Note in the log how many questions a request has."""
    exchange_of(request).rows = questions


def task_of(definition: Mapping[str, Any], place: int) -> Task:
    """Return the task of a question. Raises RefusedError (422), which names `place`, if the question is invalid."""
    try:
        return question_task(definition)
    except InputError as error:
        field = (error.field or "task").removeprefix("task").lstrip(".")
        param = f"questions.{place}.{field}" if field else f"questions.{place}"
        raise RefusedError(422, "invalid_question", error.message, step=error.step, field=param) from None


def _decided(turned: Sequence[tuple[Answer, int]]) -> Decided:
    answers = [answer for answer, _ in turned]
    if error := next((answer.error for answer in answers if answer.error), None):
        return Decided((), answers, error)
    rows = []
    for answer, turn in turned:
        shares = list((answer.probabilities or {}).values())
        rows.append([*shares[len(shares) - turn :], *shares[: len(shares) - turn]] if turn else shares)
    return Decided([fmean(column) for column in zip(*rows, strict=True)], answers)
