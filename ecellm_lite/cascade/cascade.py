"""The Answerer that asks several models, one after another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ecellm_lite.answerer import Answerer, RequestOptions, Row, awaited, check_options
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.cascade.row import CascadeRow
from ecellm_lite.cascade.stage import Stage, Work
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.option_checks import checked_deadline, checked_probability
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

# Rows read ahead of the next answer: enough that some dozens of them go to the next model together.
WINDOW = 512


def cascade_name(models: Sequence[ModelName], escalate_below: float) -> ModelName:
    """Return the name of a cascade, and a hash of its models and of `escalate_below`."""
    facts = " ".join([*(model.sha256 for model in models), repr(escalate_below)])
    return ModelName(",".join(model.name for model in models), hashlib.sha256(facts.encode()).hexdigest())


class Cascade:
    """Asks several models about each row, one after another, until one is sure enough.

    At the end of a `with` block, the cascade closes its models.

    `answerers`: at least two, the cheapest first.
    `escalate_below`: a row goes to the next model if its answer's calibrated probability is lower than this, if the
      answer has no probability or a warning of low coverage, or if the row is too long for the model. The last model's
      answers are final.

    Raises UsageError if `escalate_below` is not from 0 to 1, or if there are fewer than two models.
    """

    def __init__(self, answerers: Sequence[Answerer], *, escalate_below: float) -> None:
        if len(answerers) < 2:
            raise UsageError("A cascade has two models or more", step="name at least two", settings=("model",))
        if checked_probability(escalate_below, "escalate_below") is None:
            step = "give a probability from 0 to 1"
            raise UsageError("escalate_below is None", step=step, settings=("escalate_below",))
        self._stages = [Stage(answerer) for answerer in answerers]
        self.escalate_below = escalate_below

    @property
    def model(self) -> ModelName:
        """The name of the whole cascade, and a hash of its models and of `escalate_below`."""
        return cascade_name([stage.answerer.model for stage in self._stages], self.escalate_below)

    @property
    def answerers(self) -> tuple[Answerer, ...]:
        """The models, the cheapest first."""
        return tuple(stage.answerer for stage in self._stages)

    @property
    def work(self) -> tuple[Work, ...]:
        """For each model: how many rows it has received so far, and for how many seconds it had rows to answer."""
        return tuple(stage.work for stage in self._stages)

    @property
    def ready(self) -> bool:
        """Whether all models can answer requests now. A child process may still be loading its model."""
        return all(getattr(stage.answerer, "ready", True) for stage in self._stages)

    @property
    def restarts(self) -> int:
        """How often the models' engines were restarted in total. Only engines in child processes can be restarted."""
        return sum(getattr(stage.answerer, "restarts", 0) for stage in self._stages)

    @property
    def adapters(self) -> Mapping[str, str]:
        """An empty mapping, because a request to a cascade cannot choose an adapter."""
        return {}

    @property
    def envelope(self) -> Envelope:
        """The envelope of the first model. The other models may have other envelopes."""
        return self._stages[0].answerer.envelope

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the available tasks."""
        return self._stages[0].answerer.tasks

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Submit a row, and return a future for its answer.

        If a model abstains (because of `min_probability`), the row goes to the next model. Only the last model's
        abstention is final. Raises UsageError if the options contain an adapter or a calibration file.
        """
        check_options(options)
        if options.get("adapter") is not None:
            raise UsageError("A cascade has no adapters", step="leave the adapter out", field="adapter")
        if options.get("calibration", "auto") not in ("auto", False):
            step = "leave it out, so that each model uses its own"
            raise UsageError(
                "A calibration file is for one model, but a cascade has several", step=step, field="calibration"
            )
        checked_probability(options.get("min_probability"))
        deadline_ms = checked_deadline(options.pop("deadline_ms", None))
        checked_task = task if isinstance(task, Task) else get_task(task)
        cascade_row = CascadeRow(self._stages, checked_task, row, options, self.escalate_below, deadline_ms)
        cascade_row.enter(len(self._stages) - 1 if self._is_unscored(checked_task, options) else 0)
        return cascade_row.future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Wait for the answer to one row and return it, or raise its error."""
        return awaited(self.submit(task, row, **options))

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in the order of the rows. Up to 512 rows are read ahead."""
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
        """Whether the task's answers have no probability.

        Without a probability, the cascade cannot decide when to ask the next model, so the last model answers all rows.
        """
        space = options.get("space") or task.free_text
        return space is not None and not space.scored
