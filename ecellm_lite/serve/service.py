"""What every route needs: the answerer, the limits, the keys, the queue and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import Answer
from ecellm_lite.home import home
from ecellm_lite.serve.admission import Admission
from ecellm_lite.serve.batch import BatchStore
from ecellm_lite.serve.batch_runner import BatchRunner
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.in_flight import InFlight
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.metrics import Metrics
from ecellm_lite.serve.stored_files import StoredFiles


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One server's parts, shared by all its requests.

    `aliases`: patterns of other names for its model (`jev-*`). `folder`: where files and batches are stored.
    """

    answerer: Answerer
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    aliases: Sequence[str] = ()
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    folder: Path = field(default_factory=lambda: home() / "server")
    admission: Admission = field(init=False)
    files: StoredFiles = field(init=False)
    batches: BatchStore = field(init=False)
    runner: BatchRunner = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", StoredFiles(self.folder / "files"))
        object.__setattr__(self, "batches", BatchStore(self.folder / "batches"))
        object.__setattr__(self, "runner", BatchRunner(self.files, self.batches, self.keys))
        object.__setattr__(self, "admission", Admission(self.limits.waiting))
        self.metrics.watch("ecellm_waiting_rows", "Rows without an answer.", lambda: self.admission.waiting)
        self.metrics.watch("ecellm_engine_restarts", "Times that the engine's process was started again.", self._deaths)

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and answers."""
        return bool(getattr(self.answerer, "ready", True))

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that can be asked."""
        return (self.answerer.model.name,)

    def check_model(self, name: str) -> None:
        """Raise RefusedError (404) for a model that is not served."""
        if name not in self.models and not any(fnmatchcase(name, alias) for alias in self.aliases):
            message = f"There is no model {name[:80]!r} here"
            step = f"use {' or '.join(self.models)}"
            raise RefusedError(404, "model_not_found", message, step=step, field="model")

    async def answers(
        self, request: Request, task: str, rows: int, submit: Callable[[], Sequence[Future[Answer]]]
    ) -> list[Answer]:
        """Return the answers to the rows that `submit` submits, in order.

        `task`: the rows' task in the metrics. `rows`: how many there are. Raises RefusedError if there is no room for
        them, and whatever `submit` raises. If this is cancelled, the rows are dropped.
        """
        with self.admission.admit(rows, exchange_of(request).key):
            futures = await _submitted(submit)
            answers: list[Answer] = await asyncio.gather(*map(asyncio.wrap_future, futures))
        self.metrics.count(task, answers)
        return answers

    def _deaths(self) -> float:
        return float(getattr(self.answerer, "restarts", 0))


async def _submitted(submit: Callable[[], Sequence[Future[Answer]]]) -> Sequence[Future[Answer]]:
    """Run `submit` in a thread, because compiling schemas takes long, and return its futures."""
    thread = asyncio.ensure_future(asyncio.to_thread(submit))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:  # the thread cannot be stopped; its futures are dropped
        thread.add_done_callback(_drop)
        raise


def _drop(thread: asyncio.Future[Sequence[Future[Answer]]]) -> None:
    if not thread.cancelled() and not thread.exception():
        for future in thread.result():
            future.cancel()


def service_of(request: Request) -> Service:
    """Return the service that handles a request."""
    return cast("Service", request.app.state.service)


Served = Annotated[Service, Depends(service_of)]
