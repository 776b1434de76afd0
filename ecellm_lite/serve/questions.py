"""Answers questions about a state: a text or data, such as a customer's mail.

The endpoints in decisions.py and systemone.py use this module. All questions of a request are answered together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from starlette.requests import Request

from ecellm_lite.answers.answer import Answer, RowError, corrects
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
    """A question about a state.

    `definition`: the question as data: its type, instructions and choices or levels (see tasks/questions.py).
    """

    definition: Mapping[str, Any]

    @property
    def options(self) -> int:
        """The number of options. A predicate has 2: true and false."""
        return len(self.definition.get("choices") or self.definition.get("levels") or (True, False))

    def in_orders(self, count: int) -> list[tuple[Mapping[str, Any], int]]:
        """Return up to `count` copies of the definition, each with its choices in another order.

        The choices are rotated: A, B, C becomes B, C, A, which is a rotation by 1. Each copy comes with the number by
        which it was rotated. If the definition has no choices, it is returned once, unchanged.
        """
        choices = self.definition.get("choices")
        if not choices:
            return [(self.definition, 0)]
        turns = sorted({turn * len(choices) // count for turn in range(count)})
        return [({**self.definition, "choices": [*choices[turn:], *choices[:turn]]}, turn) for turn in turns]


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer to a question, or an error.

    `shares`: the probability of each option, in the question's order. Empty if there is an error.
    `answers`: the model's answers, one for each order in which the choices were asked.
    `error`: why the question has no answer.
    """

    shares: Sequence[float]
    answers: Sequence[Answer]
    error: RowError | None = None

    @property
    def best(self) -> int:
        """The index of the most probable option."""
        return max(range(len(self.shares)), key=self.shares.__getitem__)

    @property
    def confidence(self) -> float:
        """How certain the answer is: 0 if all options are equally probable, 1 if one option has probability 1.

        The formula is (p - 1/k) / (1 - 1/k), for k options and the largest probability p.
        """
        return confidence(self.shares)

    @property
    def mean(self) -> float:
        """The mean position on the scale: the levels' indices from 0, weighted by the levels' probabilities."""
        return sum(place * share for place, share in enumerate(self.shares))

    @property
    def agreement(self) -> float:
        """How closely the probabilities of a score's levels gather at one level: 1 if that level has probability 1.

        The formula is that of llama.cpp's server: 1 - a / b, or 0 if that is negative:

        - a: the mean distance of the levels from the most probable level, weighted by the levels' probabilities.
        - b: the mean distance of the levels from the middle of the scale, all with equal weight.
        """
        count, mode = len(self.shares), self.best
        distance = sum(share * abs(place - mode) for place, share in enumerate(self.shares))
        return max(0.0, 1 - distance / fmean(abs(place - (count - 1) / 2) for place in range(count)))


@dataclass(frozen=True, slots=True)
class Reading:
    """How many tokens the model read for a request.

    `tokens`: the tokens of all prompts. If all prompts begin with the same tokens, these are counted once.
    `cached`: how many of these tokens were still in the model's memory and did not have to be computed.
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
    """Return the model's answer to each question, in order.

    `state`: the text that the questions are about.
    `orders`: how often each question is asked, each time with the choices in another order. The probabilities are
    averaged.

    Raises RefusedError:

    - if the state's length in characters, times the number of questions, exceeds LONGEST;
    - if a question is invalid (the error names the question);
    - if too many rows already wait for an answer;
    - if the model cannot be loaded.

    If a question fails later, the error is in that question's Decided.
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
    """Return how many tokens the model read for a request. The answers to its questions have the counts."""
    usages = [answer.usage for each in decided for answer in each.answers if answer.usage]
    cached = min((usage.cached_tokens or 0 for usage in usages), default=0)
    read = sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in usages)
    return Reading(read + cached, cached)


def calibration_header(decided: Sequence[Decided]) -> dict[str, str]:
    """Return the header X-Ecellm-Calibrated.

    Its value `2/3` means that 2 of 3 questions have calibrated probabilities.
    """
    count = sum(all(corrects(answer.calibration) for answer in each.answers) for each in decided)
    return {"X-Ecellm-Calibrated": f"{count}/{len(decided)}"}


def log_rows(request: Request, questions: int) -> None:
    """Set the number of rows in the log entry of this request. Each question counts as a row."""
    exchange_of(request).rows = questions


def task_of(definition: Mapping[str, Any], place: int) -> Task:
    """Return the task that asks a question.

    Raises RefusedError (422) for an invalid question. `place` is the question's index, which the error names.
    """
    try:
        return question_task(definition, f"questions.{place}")
    except InputError as error:
        raise RefusedError(422, "invalid_question", error.message, step=error.step, field=error.field) from None


def _decided(turned: Sequence[tuple[Answer, int]]) -> Decided:
    answers = [answer for answer, _ in turned]
    if error := next((answer.error for answer in answers if answer.error), None):
        return Decided((), answers, error)
    rows = []
    for answer, turn in turned:
        shares = list((answer.probabilities or {}).values())
        rows.append([*shares[len(shares) - turn :], *shares[: len(shares) - turn]] if turn else shares)
    return Decided([fmean(column) for column in zip(*rows, strict=True)], answers)
