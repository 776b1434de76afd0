"""Keeps the users' own tasks that requests name, because a large file of labels takes longer to read than to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecellm_lite.tasks.custom import files_beside
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

MOST = 16  # tasks, as each may have 100,000 labels

Stamp = tuple[Path, int, int, int]


class KeptTasks:
    """Keeps the user's own tasks that requests named. A task is read again only if one of its files has changed."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Task, list[Stamp]]] = {}

    def get(self, name: str) -> Task:
        """Return a task by its name. Raises the same errors as `get_task`."""
        if name in self._kept:
            task, stamps = self._kept[name]
            if _stamps([path for path, *_ in stamps]) == stamps:
                return task
            del self._kept[name]
        task = get_task(name)
        if not task.source:
            return task
        stamps = _stamps([task.source, *(task.source.parent / beside for beside in files_beside(task.source))])
        task = get_task(name)  # again, because a file may have changed before its stamp was taken
        if len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = (task, stamps)
        return task


def _stamps(paths: Sequence[Path]) -> list[Stamp]:
    """Return each file's stamp, which differs if the file has changed. A missing file has no stamp."""
    stamps: list[Stamp] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return stamps
