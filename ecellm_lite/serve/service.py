"""What all routes use: the models, the limits, the keys, the queue and the metrics."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from ecellm_lite.answers.answer import Answer
from ecellm_lite.home import home
from ecellm_lite.serve.admission import Admission
from ecellm_lite.serve.batch import BatchStore
from ecellm_lite.serve.batch_runner import BatchRunner
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.fleet import Fleet
from ecellm_lite.serve.in_flight import InFlight
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.leftovers import leftovers
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.metrics import Metrics
from ecellm_lite.serve.model_source import ModelSource
from ecellm_lite.serve.stored_files import StoredFiles
from ecellm_lite.serve.workers import Adapted, Submits, Workers

# Submits rows to an engine, and returns their futures.
Submit = Callable[[Submits], Sequence[Future[Answer]]]


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """The objects of one server that all its requests use.

    `aliases`: patterns for other names of the default model, such as `jev-*`.
    `reading`: limits how many uploaded tables are read at the same time.
    `folder`: where files and batches are stored.
    """

    fleet: Fleet
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    aliases: Sequence[str] = ()
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
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
        self.metrics.watch_models(self.fleet.residents)

    def sweep(self) -> None:
        """Remove the unfinished and unneeded files that killed servers left in `folder`."""
        self.files.sweep()
        self.batches.sweep()
        for left in leftovers(self.folder, "table-*"):
            shutil.rmtree(left, ignore_errors=True)

    async def model(self, name: str | None) -> ModelSource:
        """Return the model that a request names. If the name is None or an alias, return the default model.

        Raises RefusedError (404) for an unknown name.
        """
        if name is None or any(fnmatchcase(name, alias) for alias in self.aliases):
            name = name if name in self.fleet.names else self.fleet.default
        if source := await self.fleet.find(name):
            return source
        names = self.fleet.names
        step = f"use {' or '.join(names[:10])}{', or another of GET /v1/models' * (len(names) > 10)}"
        raise RefusedError(404, "model_not_found", f"There is no model {name[:80]!r} here", step=step, field="model")

    async def answers(
        self, request: Request, model: ModelSource, task: str, rows: int, submit: Submit, *, together: bool = False
    ) -> list[Answer]:
        """Return the answers to a request's rows, in order. `submit` submits the rows to the model's engine.

        `task`: the name of the rows' task in the metrics.
        `rows`: how many rows there are.
        `together`: whether all rows go to the same engine, because they share a long text.

        Raises RefusedError if too many rows wait or if the model cannot be loaded. Also raises any error of `submit`.
        If the call is cancelled, the rows are dropped.
        """
        with self.admission.admit(rows, exchange_of(request).key):
            async with self.fleet.use(model) as answerer:
                engine: Submits = answerer.shortest() if together and isinstance(answerer, Workers) else answerer
                if adapter := model.model.adapter:
                    engine = Adapted(engine, adapter.name)
                futures = await _submitted(submit, engine)
                answers: list[Answer] = await asyncio.gather(*map(asyncio.wrap_future, futures))
        self.metrics.count(model.title, task, answers)
        return answers


async def _submitted(submit: Submit, engine: Submits) -> Sequence[Future[Answer]]:
    """Call `submit` in a thread, and return its futures.

    The call may take long, because it may have to compile JSON schemas.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(submit, engine))
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
