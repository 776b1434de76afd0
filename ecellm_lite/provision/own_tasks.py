"""Adds own tasks to the store, and removes them.

The store's folder `tasks` has the TOML file of each task, named after the task. The label, example and schema files
that a task names lie in this folder or below it. They are added and removed with the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.home import home
from ecellm_lite.models.files import replacing
from ecellm_lite.tasks.custom import files_beside
from ecellm_lite.tasks.registry import load_own, load_task, own_files
from ecellm_lite.tasks.task import Task


def add_task(path: Path, *, replace: bool = False) -> Task:
    """Copy a task's TOML file and the files that it names into the store. Return the task in the store.

    `replace`: whether an earlier task of this name may be replaced.

    Raises InputError if the task is invalid, or a file cannot be copied. Raises UsageError if the store has a different
    file of the same name that must not be replaced. The store then stays as it was.
    """
    task = load_task(path)
    folder, others = home() / "tasks", _files_of_others(task.name)
    # The TOML file comes last: until then, the task does not exist.
    sources = {**{name: path.parent / name for name in files_beside(path)}, f"{task.name}.toml": path}
    contents: dict[Path, bytes] = {}
    with _files_refused(folder):
        for name, source in sources.items():
            target, content = folder / name, source.read_bytes()
            if target.exists() and target.read_bytes() == content:
                continue
            if target.exists() and name in others:
                message = f"The task {others[name]} of the store needs another file named {name}"
                raise UsageError(message, step=f"give {source} another name, also in {path.name}")
            if target.exists() and not replace:
                raise UsageError(
                    f"{target} exists",
                    step="give the new task another name, or replace the old one",
                    settings=("replace",),
                )
            contents[target] = content
        for target, content in contents.items():
            with replacing(target) as temporary:
                temporary.write_bytes(content)
    return load_own(folder / f"{task.name}.toml")


def remove_task(name: str) -> list[Path]:
    """Remove a task from the store, and the files that no other task there needs. Return the removed paths.

    If the task's TOML file is invalid, only this file is removed. Raises UsageError if there is no such task.
    """
    own = own_files()
    if name not in own:
        step = f"name one of {', '.join(own)}" if own else "add it first"
        raise UsageError(f"The store has no task {name[:80]!r} of your own", step=step)
    folder, removed = own[name].parent, [own[name]]
    with suppress(InputError):
        load_task(own[name])
        others = _files_of_others(name)
        beside = [folder / file for file in files_beside(own[name]) if file not in others]
        # A folder that is a link leads to files of the user, which are not the store's.
        removed += [path for path in beside if path.parent.resolve().is_relative_to(folder.resolve())]
    with _files_refused(folder):
        for path in removed:
            path.unlink(missing_ok=True)
    return removed


def _files_of_others(name: str) -> dict[str, str]:
    """Return {file name: a task that needs the file} for all tasks in the store except the task `name`."""
    files: dict[str, str] = {}
    for other, path in own_files().items():
        if other != name:
            with suppress(InputError):
                files |= dict.fromkeys([path.name, *files_beside(path)], other)
    return files


@contextmanager
def _files_refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{error.filename or folder} cannot be read or written ({error.strerror})"
        raise InputError(message, step="check its permissions and the free space") from None
