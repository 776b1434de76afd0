"""The interface through which every front end (command line, pipe, server, jobs) gets answers.

A Runtime answers in this process. A child process, or two models that share the work, answer through the same protocol,
so a front end need not know which one it uses.
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
    """The options of one request; all of them may be left out.

    - `instruction`: replaces the task's own.
    - `space`: replaces the row's own answer space, for example by a JSON schema.
    - `shorten`: a row that is too long is cut in the fields where its task allows it; the answer says what was cut.
    - `min_probability`: an answer with a lower probability becomes an abstention. With a calibration, an answer also
      becomes an abstention if its coverage is lower than the coverage of 99% of the rows that the calibration was
      fitted to.
    - `calibration`: "auto" uses the model's stored calibration if it fits, False uses none, and a path uses the
      calibration in that file.
    - `seed`: for sampled text (a Text space with a temperature).
    - `adapter`: the name of a LoRA adapter that was loaded beside the model; None answers with the model alone.
    - `deadline_ms`: if a row has no answer this many milliseconds after it was submitted, it gets a DeadlineError, and
      the engine drops the row before the next call of the model.
    - `priority`: `urgent` rows start, in order of arrival, before all waiting `normal` rows. While urgent rows keep
      coming, normal rows do not start.
    - `listener`: called from another thread with the free text so far, each time the text grows. If two identical
      requests run at the same time, only the listener of the earlier one is called.
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


class Answerer(Protocol):
    """A model that answers rows, wherever it runs; any number of threads may use it."""

    @property
    def model(self) -> ModelName:
        """The model that answers."""

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
        """Return a future for the answer; rows run in order of arrival, except when reordered to share prefixes.

        The answer to a bad row holds the error. In place of a row, an InputError may be passed: it becomes the answer's
        error. Cancelling the future also drops the row from the engine. Raises UsageError for an unknown task or an
        invalid option. The future fails with ClosedError if the answerer is closed first.
        """

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise the error that its answer would carry."""

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order; later rows are read meanwhile.

        The answer to a bad row holds the error. In place of a row, an InputError may be passed: it becomes the answer's
        error.
        """

    def close(self) -> None:
        """Release the engine; waiting requests fail with ClosedError. A second call does nothing."""


def model_of(answerer: Answerer, adapter: str | None) -> ModelName:
    """Return the name of an answerer's model with one of its adapters, or of the model alone (None)."""
    if adapter is None or adapter not in answerer.adapters:
        return answerer.model
    return replace(answerer.model, adapter=AdapterName(adapter, answerer.adapters[adapter]))


@runtime_checkable
class KeepsCalibrations(Protocol):
    """An answerer that can name the calibration it uses for a task."""

    def kept_calibration(
        self, task: str | Task, *, calibration: CalibrationChoice = "auto", adapter: str | None = None
    ) -> Calibration | None:
        """Return a task's calibration, or None.

        A row with its own instruction or options may be answered without this calibration.
        """
