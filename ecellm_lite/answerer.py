"""The interface through which every front end (command line, pipe, server, jobs) gets answers.

A Runtime answers in this process. A child process and a cascade of two models have the same interface. So a front end
need not know which of the three it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

from ecellm_lite.answers.answer import AdapterName, Answer, ModelName
from ecellm_lite.answers.decoding import Listener
from ecellm_lite.answers.space import Space
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

Row = Mapping[str, Any]
Priority = Literal["normal", "urgent"]


class RequestOptions(TypedDict, total=False):
    """The options of one request. All are optional.

    - `instruction`: replaces the task's own instruction.
    - `space`: replaces the row's own answer space, for example by a JSON schema.
    - `shorten`: whether a row that is too long may be cut. The task decides which of its fields may be cut. The answer
      says what was cut.
    - `min_probability`: an answer with a lower probability becomes an abstention. With a calibration, an answer also
      becomes an abstention if its coverage is below the coverage that 99% of the calibration's rows reached.
    - `calibration`: "auto" uses the model's stored calibration if it applies, False uses none, and a path uses the
      calibration in that file.
    - `seed`: the random seed for sampled text (a Text space with a temperature).
    - `adapter`: the name of a LoRA adapter that was loaded with the model. None means the model alone.
    - `deadline_ms`: the milliseconds that a row may take from its submission. After that it fails with a DeadlineError,
      and the engine drops it before the next call of the model.
    - `priority`: `urgent` rows start before all waiting `normal` rows, in order of arrival. While urgent rows keep
      coming, no normal row starts.
    - `listener`: a function that is called with the whole free text so far, each time the text grows. Another thread
      calls it. If two identical requests run at the same time, only the listener of the earlier one is called.
    """

    instruction: str | None
    space: Space | None
    shorten: bool
    min_probability: float | None
    calibration: CalibrationChoice
    seed: int
    adapter: str | None
    deadline_ms: float | None
    priority: Priority
    listener: Listener | None


_OPTIONS = frozenset(RequestOptions.__annotations__)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError if a request has an option that does not exist, as Python does for an unknown argument."""
    if not options.keys() <= _OPTIONS:
        unknown = min(options.keys() - _OPTIONS)
        raise TypeError(f"There is no option {unknown!r}; use one of {', '.join(sorted(_OPTIONS))}.")


class Answerer(Protocol):
    """A model that answers rows, in this process or elsewhere. Any number of threads may use it."""

    @property
    def model(self) -> ModelName:
        """The model's name and the sha256 of its file."""

    @property
    def adapters(self) -> Mapping[str, str]:
        """The adapters that a request may name, with the sha256 of each one's file."""

    @property
    def envelope(self) -> Envelope:
        """The fixed text around each row's text in a prompt."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the available tasks."""

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Queue a row, and return a future for its answer.

        Rows run in order of arrival. The engine may change the order so that rows share a prefix. The answer to a bad
        row holds the error. If the caller could not read a row, it passes the InputError instead, and the answer holds
        this error. Cancelling the future also drops the row from the engine. Raises UsageError for an unknown task or
        an invalid option, and TypeError for an option that does not exist. The future fails with ClosedError if the
        answerer is closed first.
        """

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Wait for the answer to one row and return it, or raise its error."""

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order. Rows are read ahead, while earlier rows are answered.

        The answer to a bad row holds the error. If the caller could not read a row, it passes the InputError instead,
        and the answer holds this error.
        """

    def close(self) -> None:
        """Release the engine, if it is open. Waiting requests fail with ClosedError."""


def awaited(future: Future[Answer]) -> Answer:
    """Wait for an answer and return it, or raise its error. If the wait is interrupted, the row is cancelled."""
    try:
        answer = future.result()
    finally:
        future.cancel()
    if answer.error:
        raise answer.error.exception()
    return answer


def complete(future: Future[Answer], result: Answer | BaseException) -> None:
    """Give a pending future its answer or its error. A cancelled future gets nothing."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def model_of(answerer: Answerer, adapter: str | None) -> ModelName:
    """Return the name of an answerer's model, with the sha256 of its file.

    `adapter` is the name of the adapter in use, or None for the model alone.
    """
    if adapter is None or adapter not in answerer.adapters:
        return answerer.model
    return replace(answerer.model, adapter=AdapterName(adapter, answerer.adapters[adapter]))


@runtime_checkable
class KeepsCalibrations(Protocol):
    """An answerer that can say which calibration it uses for a task."""

    def kept_calibration(
        self, task: str | Task, *, calibration: CalibrationChoice = "auto", adapter: str | None = None
    ) -> Calibration | None:
        """Return the calibration that is used for a task, or None.

        A row with its own instruction or options may be answered without this calibration.
        """
