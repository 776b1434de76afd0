"""The seam above the engine: what every face (command line, pipe, server, jobs) asks for answers.

A Runtime answers in this process. Whatever else answers, a child process or two models that share the work, does it by
the same protocol, so that a face need not know which it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

from ecellm_lite.answers.answer import Answer, ModelName
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
    """What may be settled for each request; what is left out is as the task and the model have it.

    `instruction` takes the place of the task's own. `space` takes the place of the row's own answers (a JSON schema,
    say). `shorten`: a row that is too long is cut, in the fields of its task that may be, and the answer says what was
    cut. `min_probability`: an answer less probable is an abstention; so is, with a calibration, one whose row looks
    unlike those that the calibration was fitted on. `calibration`: "auto" takes what was kept for the model where it
    holds, False nothing, a path that file. `seed` is what drawn text follows (a Text space with a temperature).
    `deadline_ms`: a row that has no answer so many milliseconds after it was submitted has a DeadlineError, and the
    engine drops it before its next call of the model. `priority`: an `urgent` row is admitted before all waiting rows
    that are not; among equals the first comes first. Urgent rows that never end starve the others.
    """

    instruction: str | None
    space: Space | None
    shorten: bool
    min_probability: float | None
    calibration: CalibrationChoice
    seed: int
    deadline_ms: float | None
    priority: Priority


class Answerer(Protocol):
    """Whoever answers rows; safe to call from any number of threads."""

    @property
    def model(self) -> ModelName:
        """The model that answers."""

    @property
    def envelope(self) -> Envelope:
        """The text around its prompts."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that can be asked."""

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Return the answer to come; rows are answered in the order in which they came, as far as they do not share.

        A bad row has an answer with an error, as has an InputError in a row's place. Cancelling the future frees what
        its row takes of the engine. Raises UsageError for an unknown task or an option that does not fit. The future
        fails with ClosedError when the answerer is closed first.
        """

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise the error that its answer would carry."""

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order; rows are read ahead.

        A row that fails has an answer with an error; so has an InputError that stands in a row's place.
        """

    def close(self) -> None:
        """Let go of the engine; what still waits fails with ClosedError. A second call does nothing."""


@runtime_checkable
class KeepsCalibrations(Protocol):
    """An answerer that can say by which calibration it answers a task."""

    def kept_calibration(self, task: str | Task, *, calibration: CalibrationChoice = "auto") -> Calibration | None:
        """Return the calibration that is kept for a task, chosen as for a request; it may not hold for every row."""
