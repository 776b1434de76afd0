"""An Answerer over a Ray cluster.

A Ray actor is a process on one of the cluster's nodes, with its own copy of the model. Rows are sent to actors that are
free. The job itself, with its table, journal and output, runs on the machine that started it. So the output's rows are
in the same order as without a cluster. When an actor dies, its unanswered rows are sent to other actors. If a row
killed several actors, it gets an error instead of an answer.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ecellm_lite.answerer import RequestOptions, Row, check_options, complete, model_of
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import ClosedError, CrashError, EcellmError, InputError, UsageError
from ecellm_lite.jobs.cluster import ClusterActor, Make, brief, connect, fitting_actors, node_share
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice
from ecellm_lite.option_checks import checked_adapter
from ecellm_lite.pipe.options import wire_options
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

BATCH = 64  # rows in one call of an actor
IN_FLIGHT = 2  # calls sent to an actor at a time, so that its engine need not wait for rows

ALONE = 2  # after this many deaths of actors, the rows of a batch are sent one by one
REFUSED = 4  # after this many deaths of actors, a row is refused
STARTS = 3  # how many actors may die one after another before they are ready


@dataclass(slots=True, eq=False)
class SubmittedRow:
    """A row that waits for its answer.

    `options` are in the format of the pipe's protocol (docs/pipe.md).
    """

    task: Task
    row: Row
    options: Mapping[str, Any]
    future: Future[Answer] = field(default_factory=Future)
    deaths: int = 0


@dataclass(slots=True, eq=False)
class Worker:
    """An actor, whether its model is loaded, and the number of its unfinished calls."""

    actor: Any
    ready: bool = False
    calls: int = 0


class RayRuntime:
    """An Answerer with a copy of the model on each actor of a Ray cluster. It is thread-safe and a context manager.

    `address`: the cluster's address. The default is the environment variable RAY_ADDRESS. If that is not set, a new
      cluster is started on this machine.
    `actors`: the number of actors. The default is the number that fits on the cluster.
    `threads`: the number of cores of each actor. If the cluster has GPUs, each actor also has one.
    `make`: a function that each actor calls to make its Answerer. The default makes a Runtime.
    `settings`: the other settings, as in Runtime.

    Every node needs the model in its own store.

    Raises UsageError if ray is not installed, or if no actor fits on the cluster. If the model cannot be
    loaded, raises the actor's error.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        address: str | None = None,
        actors: int | None = None,
        threads: int | None = None,
        make: Make | None = None,
        **settings: Any,
    ) -> None:
        self._ray, self._connected = connect(address)
        self._share = node_share(self._ray.nodes(), threads)
        self._make = make or partial(Runtime, model, threads=int(self._share["num_cpus"]), **settings)
        self._actors = actors or fitting_actors(self._ray.nodes(), self._share)
        if not self._actors:
            raise UsageError(
                f"No node of the cluster has {self._share['num_cpus']} cores", step="use fewer", settings=("threads",)
            )
        self._lock = threading.Lock()
        self._waiting: deque[list[SubmittedRow]] = deque()  # batches whose actor died; they are sent first
        self._open: dict[int, list[SubmittedRow]] = {}  # batches that were sent to an actor, by id()
        self._rows: deque[SubmittedRow] = deque()
        self._workers: set[Worker] = set()
        self._failed_starts = 0
        self._closing = False
        self._failure: EcellmError | None = None
        self._news: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._facts: Future[tuple[ModelName, str, tuple[str, ...], dict[str, str]]] = Future()
        self._thread = threading.Thread(target=self._dispatch, name="ecellm-lite cluster", daemon=True)
        self._thread.start()
        for _ in range(self._actors):
            self._news.put(self._start)
        try:
            self.model, envelope, self.tasks, self.adapters = self._facts.result()
        except BaseException:
            self.close()
            raise
        self.envelope = get_envelope(envelope)

    @property
    def window(self) -> int:
        """How many rows must wait for an answer at a time, so that no actor is idle."""
        return 2 * BATCH * IN_FLIGHT * self._actors

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Queue a row, and return a future for its answer. The answer to a bad row holds the error."""
        if self._failure or self._closing:
            raise self._failure or ClosedError("The cluster was closed.")
        check_options(options)
        checked = task if isinstance(task, Task) else get_task(task)
        checked_adapter(options.get("adapter"), self.adapters)
        wire = wire_options(options)
        if isinstance(row, InputError):
            future: Future[Answer] = Future()
            future.set_result(self._refused(checked, row, options.get("adapter"), row))
            return future
        submitted = SubmittedRow(checked, row, wire)
        with self._lock:
            self._rows.append(submitted)
        self._news.put(self._send)
        return submitted.future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise an error if the row cannot be answered."""
        answer = self.submit(task, row, **options).result()
        if answer.error:
            raise answer.error.exception()
        return answer

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order. The answer to a bad row holds the error."""
        checked = task if isinstance(task, Task) else get_task(task)
        yield from read_ahead(rows, lambda row: self.submit(checked, row, **options), most=self.window)

    def kept_calibration(
        self, task: str | Task, *, calibration: CalibrationChoice = "auto", adapter: str | None = None
    ) -> Calibration | None:
        """Ask one actor which calibration its node uses for a task, and return this calibration or None."""
        checked = task if isinstance(task, Task) else get_task(task)
        worker = next(worker for worker in list(self._workers) if worker.ready)
        kept: Calibration | None = self._ray.get(worker.actor.kept_calibration.remote(checked, calibration, adapter))
        return kept

    def close(self) -> None:
        """Stop the actors. Rows without an answer fail with ClosedError. A second call does nothing."""
        if not self._closing:
            self._closing = True
            self._news.put(None)
            self._thread.join()
            if self._connected:
                self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The methods below run only in the dispatcher's thread.

    def _dispatch(self) -> None:
        while (event := self._news.get()) is not None:
            if not self._failure:
                try:
                    event()
                except Exception as error:  # noqa: BLE001 - every waiting future must get the error
                    self._fail(CrashError(f"The cluster cannot be used ({brief(error)})."))
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._abandon(ClosedError("The cluster was closed."))

    def _start(self) -> None:
        options = {**self._share, "max_concurrency": IN_FLIGHT, "scheduling_strategy": "SPREAD"}
        worker = Worker(self._ray.remote(ClusterActor).options(**options).remote(self._make))
        self._workers.add(worker)
        self._when_done(worker.actor.facts.remote(), partial(self._started, worker))

    def _started(self, worker: Worker, done: Future[Any]) -> None:
        error = done.exception()
        facts: Any = error or done.result()
        if isinstance(facts, EcellmError):
            self._fail(facts)
        elif error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                self._fail(CrashError(f"The cluster's actors die while they load the model ({brief(error)})."))
            else:
                self._replace(worker)
        else:
            self._failed_starts = 0
            worker.ready = True
            if not self._facts.done():
                self._facts.set_result(facts)
            self._send()

    def _replace(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self._start()

    def _send(self) -> None:
        """Send a batch of waiting rows to each actor that can take one.

        The rows are divided equally among these actors.
        """
        free = [worker for worker in self._workers if worker.ready and worker.calls < IN_FLIGHT]
        for worker in sorted(free, key=lambda worker: worker.calls):
            batch = self._batch(len(free))
            if not batch:
                return
            rows = [(submitted.task, submitted.row, submitted.options) for submitted in batch]
            try:
                answers = worker.actor.answers.remote(rows)
            except TypeError as error:  # a task or a row that cannot be pickled
                self._settle(batch, InputError(f"The row cannot be sent to another machine ({brief(error)})"))
                continue
            worker.calls += 1
            self._open[id(batch)] = batch
            self._when_done(answers, partial(self._answered, worker, batch))

    def _batch(self, free: int) -> list[SubmittedRow]:
        if self._waiting:
            return self._waiting.popleft()
        with self._lock:
            size = min(BATCH, math.ceil(len(self._rows) / free))
            return [self._rows.popleft() for _ in range(size)]

    def _answered(self, worker: Worker, batch: list[SubmittedRow], done: Future[Any]) -> None:
        worker.calls -= 1
        del self._open[id(batch)]
        error = done.exception()
        if error is None:
            for submitted, answer in zip(batch, done.result(), strict=True):
                complete(submitted.future, answer)
        elif isinstance(error, self._ray.exceptions.RayActorError):
            self._lost(batch)
            self._replace(worker)
        else:  # the call itself failed, for example by an invalid option
            self._settle(batch, getattr(error, "cause", None) or error)
        self._send()

    def _lost(self, batch: list[SubmittedRow]) -> None:
        for submitted in batch:
            submitted.deaths += 1
        if batch[0].deaths < ALONE:
            self._waiting.append(batch)
        elif batch[0].deaths < REFUSED or len(batch) > 1:
            self._waiting.extend([submitted] for submitted in batch)
        else:
            error = CrashError("The cluster's actors died while they worked on this row", step="leave the row out")
            for submitted in batch:
                adapter = submitted.options.get("adapter")
                complete(submitted.future, self._refused(submitted.task, submitted.row, adapter, error))

    def _refused(self, task: Task, row: Row | InputError, adapter: str | None, error: EcellmError) -> Answer:
        return Answer.failed(task.name, error, model=model_of(self, adapter), envelope=self.envelope.name, row=row)

    def _fail(self, error: EcellmError) -> None:
        self._failure = error
        if not self._facts.done():
            self._facts.set_exception(error)
        self._abandon(error)

    def _abandon(self, error: EcellmError) -> None:
        with self._lock:
            rows = [*self._rows]
            self._rows.clear()
        batches = [rows, *self._waiting, *self._open.values()]
        self._waiting.clear()
        self._open.clear()
        for batch in batches:
            self._settle(batch, error)

    def _settle(self, batch: Sequence[SubmittedRow], error: BaseException) -> None:
        for submitted in batch:
            if not submitted.future.done():
                complete(submitted.future, error)

    def _when_done(self, reference: Any, event: Callable[[Future[Any]], None]) -> None:
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda done: self._news.put(partial(event, done)))
