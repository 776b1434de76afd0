"""Locks model names, so that only one process at a time writes a model in the store.

A lock is an operating-system lock on a file beside the models, so it is released even if its process is killed. Reading
a model needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecellm_lite.errors import BusyError, ModelError


@contextmanager
def only_writer(path: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock in the file at `path`, after waiting for it at most `patience` seconds.

    Raises BusyError if another process or thread holds the lock, and ModelError if the file cannot be created. `what`
    names the locked thing in error messages.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise BusyError(f"Another process is writing {what}", step="try again when it has finished") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be written ({error.strerror})", step="check its permissions") from None
    try:
        yield
    finally:
        lock.release()
