"""A row on its way to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.answer import Answer, ModelName, RowError, Usage
from ecellm_lite.engine.request import Request
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.task import Task


@dataclass(slots=True, eq=False)
class Submitted:
    """A row with the request that runs for it, or the error that it ended with before it could."""

    id: str | int | None
    task: Task
    type: str | None = None
    request: Request | None = None
    error: EcellmError | None = None
    shortened: str | None = None

    def cancel(self) -> None:
        """Say that nobody waits for it any more."""
        if self.request:
            self.request.cancelled = True

    def answer(self, model: ModelName, envelope: str, *, deterministic: bool) -> Answer:
        """Return the answer of a row that is done; a deterministic one says nothing of what ran before it."""
        request = self.request
        error = self.error or (request and request.error)
        outcome = request.outcome if request else None
        usage = seconds = None
        if request and not self.error:
            cached = None if deterministic else request.cached
            usage = Usage(len(request.prompt), cached, request.decoded, request.forced)
            seconds = None if deterministic else round(request.seconds, 6)
        return Answer(
            id=self.id,
            task=self.task.name,
            type=self.type,
            value=outcome.value if outcome else None,
            text=outcome.text if outcome else None,
            probability=outcome.probability if outcome else None,
            probabilities=outcome.probabilities if outcome else None,
            confidence=outcome.confidence if outcome else None,
            coverage=outcome.coverage if outcome else None,
            abstained=False,
            usage=usage,
            seconds=seconds,
            model=model,
            envelope=envelope,
            shortened="; ".join(filter(None, (self.shortened, outcome.shortened if outcome else None))) or None,
            error=RowError(error.code, str(error)) if error else None,
        )


def id_of(row: Mapping[str, Any]) -> str | int | None:
    """Return a row's id, None where it has none; raises InputError for what is no id."""
    given = row.get("id") if isinstance(row, Mapping) else None
    if isinstance(given, str):
        return encodable(given)
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and abs(given) < 1 << 63):
        return given
    raise InputError(f"The id of a row was given {shown(given)}: it is a text or a whole number, or left out.")
