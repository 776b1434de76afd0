"""Serves an Answerer over standard input and output, or over a Unix socket."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from ecellm_lite.answerer import Answerer
from ecellm_lite.errors import EcellmError
from ecellm_lite.pipe.lifetime import end_with_parent
from ecellm_lite.pipe.limits import limit_memory, lower_priority, use_only_cores
from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.messages import error_line
from ecellm_lite.pipe.session import Progress, Session
from ecellm_lite.pipe.sockets import SocketServer
from ecellm_lite.pipe.stdio import take_standard_streams
from ecellm_lite.runtime import Runtime

# Returns an Answerer, and the function that reports its engine's progress (None: there is none).
Load = Callable[[], tuple[Answerer, Progress | None]]


def limit_process(
    *, memory_bytes: int | None = None, nice: int | None = None, cores: int | Sequence[int] | None = None
) -> None:
    """Limit the memory, the priority and the cores of this process. An argument that is None sets no limit.

    `memory_bytes`: how many bytes the process may allocate. The memory-mapped model file does not count.
    `nice`: the priority, from 0 (unchanged) to 19 (lowest).
    `cores`: how many cores the process may use, or a list of the cores' numbers.

    Raises UsageError for cores that do not exist, or if the system does not support a limit.
    """
    if memory_bytes is not None:
        limit_memory(memory_bytes)
    if nice is not None:
        lower_priority(nice)
    if cores is not None:
        use_only_cores(cores)


def load_runtime(
    *,
    memory_bytes: int | None = None,
    nice: int | None = None,
    cores: int | Sequence[int] | None = None,
    **settings: Any,
) -> tuple[Answerer, Progress | None]:
    """Limit this process's memory, priority and cores, and load a model.

    Return a new Runtime with these `settings`, and the Runtime's method `progress`.
    """
    limit_process(memory_bytes=memory_bytes, nice=nice, cores=cores)
    runtime = Runtime(**settings)
    return runtime, runtime.progress


def serve_standard_streams(load: Load) -> None:
    """Read requests from standard input, and write their answers to standard output, until the input ends.

    If the model does not load, the error is written to standard output and raised. Raises OSError if an answer cannot
    be written, as on a full disk. A reader that is gone is no error.
    """
    if _is_pipe(0):
        end_with_parent()
    read, write, target = take_standard_streams()
    output = Output(write, target)
    try:
        answerer, progress = load()
    except Exception as error:  # with too little memory also ImportError and MemoryError
        failure = error if isinstance(error, EcellmError) else _unloaded(error)
        output.take_room(0)
        output.put(lambda: error_line(None, failure), 0)
        output.close(1)
        raise
    try:
        _run(Session(answerer, output, progress), read, output)
    finally:
        answerer.close()


def serve_socket(load: Load, path: Path) -> None:
    """Answer every process that connects to a Unix socket, until SIGTERM or an interrupt."""
    answerer, progress = load()
    try:
        server = SocketServer(path, answerer, progress)
        signal.signal(signal.SIGTERM, lambda *_: server.close())
        try:
            server.run()
        finally:
            server.close()
    finally:
        answerer.close()


def _run(session: Session, read: Callable[[int], bytes], output: Output) -> None:
    """Run a session in its own thread, because a blocked read from the host cannot be interrupted."""
    ended: Future[None] = Future()

    def converse() -> None:
        try:
            session.run(read_lines(read))
            output.close()
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=converse, name="ecellm-lite session", daemon=True).start()
    while output.has_reader():
        if wait([ended], 0.5).done:
            ended.result()
            break
    if output.failure:
        raise output.failure


def _unloaded(error: Exception) -> EcellmError:
    reason = " ".join(f"{type(error).__name__} {error}".split())
    return EcellmError(f"The model does not load ({reason})", step="give it more memory, or report this")


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
