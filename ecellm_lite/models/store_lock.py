"""One writer at a time for each name in the store, whatever processes there are.

The lock is the system's, on a file beside the models: it goes with its process, however that ends, and reading a model
needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecellm_lite.errors import BusyError, ModelError


@contextmanager
def only_writer(path: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock in the file at `path`, and wait for it at most `patience` seconds.

    Raises BusyError if another process, or thread, holds it, and ModelError if the file cannot be made; `what` is what
    the lock is for, in words.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise BusyError(f"Another process is writing {what}", step="wait until it has ended") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be written ({error.strerror})", step="check its rights") from None
    try:
        yield
    finally:
        lock.release()
