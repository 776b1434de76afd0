"""Locks model names, so that only one process at a time writes a model in the store.

A lock is an operating-system lock on a file in the store. The operating system releases it even if the process is
killed. Reading a model needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecellm_lite.errors import BusyError, ModelError


@contextmanager
def only_writer(path: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Lock the file at `path` during the `with` block. Wait at most `patience` seconds for the lock.

    Raises BusyError if another process or thread holds the lock, and ModelError if the file cannot be created. `what`
    names the locked thing in error messages, such as "the model 'demo'".
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
