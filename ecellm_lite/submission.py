"""A row that a caller submitted for an answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.engine.request import Request
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.models.calibrations import Calibration
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.task import Task


@dataclass(slots=True, eq=False)
class Submission:
    """A submitted row and its request to the engine. If no request could be made from the row, `failure` says why."""

    id: str | int | None
    task: Task
    type: str | None = None
    request: Request | None = None
    failure: EcellmError | None = None
    shortened: str | None = None
    warnings: Sequence[AnswerWarning] = ()
    calibration: Calibration | None = None
    min_probability: float | None = None
    _unsettled: threading.Lock = field(default_factory=threading.Lock)

    @property
    def error(self) -> EcellmError | None:
        """The row's error, or None."""
        return self.failure or (self.request.error if self.request else None)

    def claim(self) -> bool:
        """Return True on the first call, then False. The caller that gets True must complete the row's future."""
        return self._unsettled.acquire(blocking=False)

    def cancel(self) -> None:
        """Tell the engine that the row's answer is no longer needed."""
        if self.request:
            self.request.cancelled = True


def id_of(row: Mapping[str, Any]) -> str | int | None:
    """Return a row's id, or None if it has none. Raises InputError for an invalid id."""
    id_ = row.get("id") if isinstance(row, Mapping) else None
    if isinstance(id_, str):
        return encodable(id_)
    if id_ is None or (isinstance(id_, int) and not isinstance(id_, bool) and abs(id_) < 1 << 63):
        return id_
    raise InputError(
        f"The id of a row is {shown(id_)}", step="give text or a whole number, or leave it out", field="id"
    )
