"""Cascade: an Answerer over two or more others, from the cheapest to the best.

The first model answers each row. A row whose answer is not sure enough goes to the next model. An answer names the
model that gave it.

>>> from ecellm_lite import Cascade, Runtime
>>> with Cascade([Runtime("demo"), Runtime("eCeLLM-M:Q4_K_M")], escalate_below=0.9) as cascade:    # doctest: +SKIP
...     answer = cascade.answer("sentiment_analysis", {"review": "Works, but it is loud."})
...     print(answer.value, answer.model.name)
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ecellm_lite.answerer import Answerer, RequestOptions, Row, awaited
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import ContextError, DeadlineError, InputError, UsageError
from ecellm_lite.option_checks import checked_deadline, checked_probability, deadline_error
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

# A model that gets few rows now and then computes each alone. So rows for the next model wait until there are this many
# of them, or until the model before it has nothing left to do. A busy server always has something to do, so after
# LONGEST_WAIT seconds they go on with the next answer.
GATHERED = 32
LONGEST_WAIT = 2.0

# Rows read ahead of the next answer: enough that some dozens of them go to the next model together.
WINDOW = 512


@dataclass(frozen=True, slots=True)
class Work:
    """What one model of a cascade has done so far: the rows that it was asked, and the seconds during which it had any.

    On shared cores, the seconds of several models overlap.
    """

    model: ModelName
    rows: int
    seconds: float


def cascade_name(models: Sequence[ModelName], escalate_below: float) -> ModelName:
    """Return a cascade's models as one name, and a hash of all models and of the probability."""
    facts = " ".join([*(model.sha256 for model in models), repr(escalate_below)])
    return ModelName(",".join(model.name for model in models), hashlib.sha256(facts.encode()).hexdigest())


class Cascade:
    """Answers each row by the first of several models that is sure enough; a context manager that closes the models.

    `answerers`: at least two, the cheapest first.
    `escalate_below`: a row goes to the next model if its answer has a lower calibrated probability, a warning of low
        coverage, or no probability (as free text does). The last model's answers are final.

    Raises UsageError for a probability that is not from 0 to 1, or for fewer than two models.
    """

    def __init__(self, answerers: Sequence[Answerer], *, escalate_below: float) -> None:
        if len(answerers) < 2:
            raise UsageError("A cascade has two models or more", step="name at least two", settings=("model",))
        checked_probability(escalate_below)
        self._stages = [_Stage(answerer) for answerer in answerers]
        self.escalate_below = escalate_below

    @property
    def model(self) -> ModelName:
        """One name for all models, and a hash of the models and of `escalate_below`."""
        return cascade_name([stage.answerer.model for stage in self._stages], self.escalate_below)

    @property
    def answerers(self) -> tuple[Answerer, ...]:
        """The models, the cheapest first."""
        return tuple(stage.answerer for stage in self._stages)

    @property
    def work(self) -> tuple[Work, ...]:
        """What each model has done so far."""
        return tuple(stage.work for stage in self._stages)

    @property
    def ready(self) -> bool:
        """Whether all models can answer now; see ChildRuntime."""
        return all(getattr(stage.answerer, "ready", True) for stage in self._stages)

    @property
    def restarts(self) -> int:
        """How often the models' engines were restarted; see ChildRuntime."""
        return sum(getattr(stage.answerer, "restarts", 0) for stage in self._stages)

    @property
    def adapters(self) -> Mapping[str, str]:
        """Always empty: a request cannot choose an adapter."""
        return {}

    @property
    def envelope(self) -> Envelope:
        """The envelope of the first model; the others may have their own."""
        return self._stages[0].answerer.envelope

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the available tasks."""
        return self._stages[0].answerer.tasks

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Return a future for the answer; see Answerer. Raises UsageError if an adapter or a calibration file is given.

        An answer is also passed on if its probability is below `min_probability`. Only the last model abstains.
        """
        if options.get("adapter") is not None:
            raise UsageError("A cascade has no adapters", step="leave the adapter out", field="adapter")
        if options.get("calibration", "auto") not in ("auto", False):
            step = "leave it out, so that each model uses its own"
            raise UsageError("A calibration's file is for one model of a cascade", step=step, field="calibration")
        min_probability = checked_probability(options.pop("min_probability", None))
        deadline_ms = checked_deadline(options.pop("deadline_ms", None))
        checked_task = task if isinstance(task, Task) else get_task(task)
        limit = max(self.escalate_below, min_probability or 0.0)
        cascade_row = _CascadeRow(self._stages, checked_task, row, options, limit, min_probability, deadline_ms)
        cascade_row.enter(len(self._stages) - 1 if self._is_unscored(checked_task, options) else 0)
        return cascade_row.future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise its error; see Answerer."""
        return awaited(self.submit(task, row, **options))

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order; see Answerer. Up to 512 rows are read ahead."""
        yield from read_ahead(rows, lambda row: self.submit(task, row, **options), most=WINDOW)

    def close(self) -> None:
        """Close all models; unanswered rows fail with ClosedError. A second call does nothing."""
        with ExitStack() as closing:  # if one of them fails, the others are closed all the same
            for stage in reversed(self._stages):  # the first one is closed first
                closing.callback(stage.answerer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_unscored(self, task: Task, options: RequestOptions) -> bool:
        """Whether the answers have no probability to decide by; if so, only the last model answers."""
        space = options.get("space") or task.free_text
        return space is not None and not space.scored


class _Stage:
    """One model of a cascade, and the rows that wait until enough of them have gathered."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self._lock = threading.Lock()
        self._running = 0
        self._rows = 0
        self._seconds = 0.0
        self._since = 0.0  # when it last got a row after having none
        self._gathered: list[_CascadeRow] = []
        self._gathered_since = 0.0

    @property
    def work(self) -> Work:
        """What this model has done so far."""
        with self._lock:
            running = time.monotonic() - self._since if self._running else 0.0
            return Work(self.answerer.model, self._rows, self._seconds + running)

    def begin(self) -> None:
        """Count a row that this model gets."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
            self._rows += 1

    def end(self) -> bool:
        """Count a row that this model no longer has; return whether it has none now."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds += time.monotonic() - self._since
            return not self._running

    def gather(self, row: _CascadeRow) -> None:
        """Let a row wait for this model."""
        with self._lock:
            if not self._gathered:
                self._gathered_since = time.monotonic()
            self._gathered.append(row)

    def take_gathered(self, *, all_rows: bool) -> list[_CascadeRow]:
        """Return the rows that need not wait any longer, and forget them."""
        with self._lock:
            waited = time.monotonic() - self._gathered_since
            if not all_rows and len(self._gathered) < GATHERED and waited < LONGEST_WAIT:
                return []
            gathered, self._gathered = self._gathered, []
        return gathered


class _CascadeRow:
    """A row that passes through the stages of a cascade, and the future of its answer."""

    def __init__(
        self,
        stages: Sequence[_Stage],
        task: Task,
        row: Row | InputError,
        options: RequestOptions,
        escalate_below: float,
        min_probability: float | None,
        deadline_ms: float | None,
    ) -> None:
        self.future: Future[Answer] = Future()
        self._stages = stages
        self._task = task
        self._row = row
        self._options = options
        self._escalate_below = escalate_below
        self._min_probability = min_probability
        self._deadline_ms = deadline_ms
        self._started = time.monotonic()
        self._inner: Future[Answer] | None = None
        self.future.add_done_callback(self._cancel)

    def enter(self, place: int) -> None:
        """Submit the row to a stage; raises UsageError for wrong options."""
        stage = self._stages[place]
        options = self._options.copy()
        if place == len(self._stages) - 1 and self._min_probability is not None:
            options["min_probability"] = self._min_probability
        if self._deadline_ms is not None:
            left = self._deadline_ms - 1000 * (time.monotonic() - self._started)
            if left <= 0:
                raise deadline_error(self._deadline_ms)
            options["deadline_ms"] = left
        stage.begin()
        try:
            self._inner = inner = stage.answerer.submit(self._task, self._row, **options)
        except BaseException:
            self._leave(place)
            raise
        inner.add_done_callback(partial(self._answered, place))

    def _answered(self, place: int, inner: Future[Answer]) -> None:
        next_stage = self._stages[place + 1 : place + 2]
        if inner.cancelled() or self.future.cancelled():
            self.future.cancel()
        elif failure := inner.exception():
            self._settle(failure)
        elif next_stage and self._is_unsure(inner.result()):
            next_stage[0].gather(self)
        else:
            self._settle(inner.result())
        self._leave(place)

    def _leave(self, place: int) -> None:
        """Count that a stage no longer has this row, and let the rows go on that need not wait for it any longer."""
        idle = self._stages[place].end()
        for next_stage in self._stages[place + 1 : place + 2]:
            for row in next_stage.take_gathered(all_rows=idle):
                row.escalate(place + 1)

    def escalate(self, place: int) -> None:
        """Enter the next stage. If that fails, the row's answer or future gets the error."""
        try:
            if not self.future.cancelled():
                self.enter(place)
        except DeadlineError as error:
            answerer = self._stages[place].answerer
            name, envelope = answerer.model, answerer.envelope.name
            self._settle(Answer.failed(self._task.name, error, model=name, envelope=envelope, row=self._row))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows that go on with this one must not be lost
            self._settle(error)

    def _settle(self, result: Answer | BaseException) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)

    def _is_unsure(self, answer: Answer) -> bool:
        if answer.error:
            return answer.error.code == ContextError.code  # the next model may have a larger context
        odd = any(warning.code == "low_coverage" for warning in answer.warnings or ())
        return odd or answer.probability is None or answer.probability < self._escalate_below

    def _cancel(self, future: Future[Answer]) -> None:
        if future.cancelled() and self._inner:
            self._inner.cancel()
