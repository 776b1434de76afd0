"""An Answerer whose engine runs in a child process, so this process survives a crash of the engine.

A child that dies or hangs is replaced, and its unanswered requests are sent to the new child. If two children die while
they run the same request, a third child gets this request and no other. If the third child dies too, the request fails,
and identical requests are refused from then on.
"""

from __future__ import annotations

import json
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite.answerer import RequestOptions, Row, awaited, check_options, model_of
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.deadlines import Deadlines
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.frames import FrameMap, answers_frame
from ecellm_lite.loading import find_model
from ecellm_lite.models.adapters import find_adapters
from ecellm_lite.models.calibration_files import stored_calibrations
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice, Calibrations
from ecellm_lite.models.store import Store
from ecellm_lite.option_checks import checked_adapter, checked_deadline, checked_priority, deadline_error
from ecellm_lite.pipe.asking import PendingRequest
from ecellm_lite.pipe.messages import Ask
from ecellm_lite.pipe.options import wire_options
from ecellm_lite.pipe.supervisor import Supervisor
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.submission import id_of
from ecellm_lite.tasks.registry import get_task, task_names
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

# A crash prints a stack trace, and modules in the current folder are not imported in place of ours (from 3.11 on).
_FLAGS = ("-X", "faulthandler", *(("-P",) if sys.version_info >= (3, 11) else ()))

WINDOW = 256  # rows that may be read ahead of the next answer


class ChildRuntime:
    """Runs a model in a child process. It is a context manager, and it is thread-safe.

    `start_seconds`: how long a child may take to get ready.
    `hang_seconds`: a child that works on requests is killed if it makes no progress for this long.
    `memory_bytes`: how much memory the child may allocate. The memory-mapped model file does not count.
    `nice`: how much lower the child's priority is, from 0 (unchanged) to 19.
    `cores`: how many cores the child may use, or a list of core numbers. Some systems do not support this.
    `idle_seconds`: a child that has no requests for this long is ended, to free its memory. The next request starts a
      new child.
    `lazy`: whether the first request starts the child. Until then, only the model's file is read.
    `command`: the command that starts a child, in place of the one that `child_command` returns.
    `settings`: as in Runtime (envelope, context, threads, gpu_layers, prompt_kernels, deterministic, prefix_files).

    Raises the errors of Runtime, and CrashError if the child dies while it loads the model. With `lazy` or
    `idle_seconds`, a request may start the child. If this child cannot load the model, all waiting requests fail with
    the error, and the next request starts another child.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        start_seconds: float = 600,
        hang_seconds: float = 300,
        memory_bytes: int | None = None,
        nice: int | None = None,
        cores: int | Sequence[int] | None = None,
        idle_seconds: float | None = None,
        lazy: bool = False,
        command: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        command = command or child_command(model, memory_bytes=memory_bytes, nice=nice, cores=cores, **settings)
        self._numbers = count(1)
        self._deadlines = Deadlines()
        if lazy:
            store, stored = find_model(model, settings.get("envelope"))
            manifest = stored.manifest
            files = find_adapters(settings.get("adapters"), store, stored)
            adapters = {file.name: file.sha256 for file in files}
            self._know(ModelName(manifest.name, manifest.sha256), manifest.envelope, task_names(), adapters)
        self._supervisor = Supervisor(
            list(command), start_seconds=start_seconds, hang_seconds=hang_seconds, idle_seconds=idle_seconds, lazy=lazy
        )
        # A runtime that is never closed must not leave a process behind.
        self._close = weakref.finalize(self, self._supervisor.close)
        if lazy:
            return
        try:
            facts = self._supervisor.ready()
            model_facts = facts["model"]
            name = ModelName(model_facts["name"], model_facts["sha256"])
            self._know(name, model_facts["envelope"], tuple(facts["tasks"]), facts.get("adapters", {}))
        except BaseException:
            self.close()
            raise

    def _know(self, model: ModelName, envelope: str, tasks: tuple[str, ...], adapters: Mapping[str, str]) -> None:
        self.model = model
        self.envelope = get_envelope(envelope)
        self.tasks = tasks
        self.adapters = dict(adapters)

    @property
    def restarts(self) -> int:
        """How often the child was restarted."""
        return self._supervisor.restarts

    @property
    def ready(self) -> bool:
        """Whether requests can be answered: a child has loaded the model, or the next request will start a child."""
        return self._supervisor.is_ready

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is no child."""
        return self._supervisor.pid

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Submit a row, and return a future for its answer, as `Answerer.submit` describes.

        If an identical request has killed three children, the row is refused: its answer holds a CrashError.
        """
        self._supervisor.check_open()
        check_options(options)
        started, deadline_ms = time.monotonic(), checked_deadline(options.get("deadline_ms"))
        checked_priority(options.get("priority", "normal"))
        adapter = checked_adapter(options.get("adapter"), self.adapters)
        checked_task = task if isinstance(task, Task) else get_task(task)
        name = checked_task.definition or str(checked_task.source or checked_task.name)
        number, wire = next(self._numbers), wire_options(options)
        sent: dict[str, Any] = {}  # the part of the row that the child needs: the other columns need not be JSON
        failed = partial(self._failed, checked_task, sent, adapter)
        try:
            if isinstance(row, InputError):
                raise row
            sent["id"] = id_of(row)
            sent |= checked_task.needed(row)
            request = PendingRequest.of(Ask(number, name, sent, wire), failed, options.get("listener"))
        except EcellmError as error:
            future: Future[Answer] = Future()
            future.set_result(failed(error))
            return future
        self._supervisor.ask(request)
        if deadline_ms is not None:  # the deadline is watched here too: the child may be dead, or start counting later
            expire = partial(self._supervisor.expire, request, failed(deadline_error(deadline_ms)))
            withdraw = self._deadlines.add(started + deadline_ms / 1000, expire)
            request.future.add_done_callback(lambda _: withdraw())
        return request.future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Wait for the answer to one row and return it, or raise the row's error."""
        return awaited(self.submit(task, row, **options))

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order. Later rows are read in advance.

        The answer to a bad row holds the error.
        """
        checked_task = task if isinstance(task, Task) else get_task(task)
        yield from read_ahead(rows, lambda row: self.submit(checked_task, row, **options), most=WINDOW)

    def answers_frame(
        self,
        task: str | Task,
        frame: Any,
        *,
        map: FrameMap | None = None,  # noqa: A002 - the command line's option has this name
        constants: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Return a copy of a data frame (pandas, polars or pyarrow) with each row's answer in added columns.

        `map`: {field: column} for each field whose column has another name.
        `constants`: values of fields that are the same in all rows.
        """
        return answers_frame(self, task, frame, map=map, constants=constants, **options)

    def kept_calibration(
        self, task: str | Task, *, calibration: CalibrationChoice = "auto", adapter: str | None = None
    ) -> Calibration | None:
        """Return the calibration that the child uses for a task, or None.

        A row with its own instruction or options may be answered without this calibration.
        """
        task = task if isinstance(task, Task) else get_task(task)
        sha256, envelope = self.model.sha256, self.envelope.name
        adapted = adapter and self.adapters[str(checked_adapter(adapter, self.adapters))]
        if calibration is False:
            return None
        if calibration == "auto":
            return stored_calibrations(Store(), sha256, envelope, adapted).get(task.name)
        return Calibrations(sha256, envelope, named=Path(calibration), adapter=adapted).get(task.name)

    def close(self) -> None:
        """End the child. Unanswered requests fail with ClosedError. A second call does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failed(self, task: Task, row: Row, adapter: str | None, error: EcellmError) -> Answer:
        return Answer.failed(task.name, error, model=model_of(self, adapter), envelope=self.envelope.name, row=row)


def child_command(model: str | Path | None = None, **settings: Any) -> list[str]:
    """Return the command line that starts a child with Runtime's settings and the limits of pipe/limits.py."""
    settings = {"model": None if model is None else str(model), **settings}
    if settings.get("adapters"):
        settings["adapters"] = {name: str(path) for name, path in settings["adapters"].items()}
    return [sys.executable, *_FLAGS, "-m", "ecellm_lite.pipe", json.dumps(settings)]
