"""The seam above the engine: how every front end (command line, pipe, server, jobs) gets answers.

A Runtime answers in this process. A child process, or two models that share the work, answer through the same protocol,
so a front end need not know which one it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

from ecellm_lite.answers.answer import Answer, ModelName
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
    """The options of one request; whatever is left out is as the task and the model define it.

    `instruction` replaces the task's own. `space` replaces the row's own answer space, for example by a JSON schema.
    `shorten`: a row that is too long is cut in the fields where its task allows it, and the answer says what was cut.
    `min_probability`: a less probable answer becomes an abstention; with a calibration, so does an answer to a row that
    looks unlike those that the calibration was fitted on. `calibration`: "auto" uses the model's stored one if it fits,
    False none, a path that file. `seed` is for sampled text (a Text space with a temperature). `deadline_ms`: a row
    without an answer this many milliseconds after it was submitted gets a DeadlineError, and the engine drops it before
    its next call of the model. `priority`: `urgent` rows are admitted before all waiting normal rows, in order of
    arrival. An endless stream of urgent rows starves the others.
    `listener` is called, by another thread, with what is written so far of a free text, each time that it has grown; of
    two identical requests at once only the first is told.
    """

    instruction: str | None
    space: Space | None
    shorten: bool
    min_probability: float | None
    calibration: CalibrationChoice
    seed: int
    deadline_ms: float | None
    priority: Priority
    listener: Listener | None


class Answerer(Protocol):
    """Answers rows; may be called from any number of threads."""

    @property
    def model(self) -> ModelName:
        """The model that answers."""

    @property
    def envelope(self) -> Envelope:
        """The text around its prompts."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the available tasks."""

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Return a future for the answer; rows run in order of arrival, except when reordered to share prefixes.

        A bad row gets an answer with an error, and so does an InputError in place of a row. Cancelling the future frees
        the row's part of the engine. Raises UsageError for an unknown task or an invalid option. The future fails with
        ClosedError if the answerer is closed first.
        """

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise the error that its answer would carry."""

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order; rows are read ahead.

        A bad row gets an answer with an error, and so does an InputError in place of a row.
        """

    def close(self) -> None:
        """Release the engine; waiting requests fail with ClosedError. A second call does nothing."""


@runtime_checkable
class KeepsCalibrations(Protocol):
    """An answerer that can name the calibration it uses for a task."""

    def kept_calibration(self, task: str | Task, *, calibration: CalibrationChoice = "auto") -> Calibration | None:
        """Return the stored calibration of a task, chosen as for a request; it may not apply to every row."""
