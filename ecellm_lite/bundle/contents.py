"""Chooses what a bundle contains: the model with its calibrations, the user's tasks, adapters, and the program."""

from __future__ import annotations

import os
import platform as machine
import re
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ecellm_lite.bundle.archive import Progress, open_archive
from ecellm_lite.bundle.index import FORMAT, LARGEST_SERIAL, Index, check_index
from ecellm_lite.bundle.keys import SecretKey
from ecellm_lite.bundle.launcher import HOME
from ecellm_lite.bundle.notices import notices
from ecellm_lite.bundle.starter import PROGRAM
from ecellm_lite.bundle.wheels import WHEELS, wheels_of
from ecellm_lite.bundle.writer import Source, check_target, write_bundle
from ecellm_lite.errors import UsageError
from ecellm_lite.models.calibration_files import fitting_calibrations
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.custom import files_beside
from ecellm_lite.tasks.registry import load_task

_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a new bundle: a stored model, and files and folders that the user names.

    - `wheels`: a folder of Python wheels. They must fit the Python of the machine where the bundle is installed.
    - `program`: the folder of a standalone program, with an executable `ecellm-lite` (or `ecellm-lite.exe`).
    - `tasks`: TOML files of tasks.
    - `adapters`: the LoRA files, each under the name by which requests choose it.
    """

    model: StoredModel
    wheels: Path | None = None
    program: Path | None = None
    tasks: Sequence[Path] = ()
    adapters: Mapping[str, Path] = field(default_factory=dict)


def create(
    target: Path,
    contents: Contents,
    store: Store,
    *,
    name: str | None = None,
    serial: int | None = None,
    key: SecretKey | None = None,
    since: Path | None = None,
    progress: Progress | None = None,
) -> Index:
    """Write a bundle to `target` and return its index.

    - `name`: the bundle's name. The default is the file name of `target` up to the first dot.
    - `serial`: the bundle's serial number. The default is the current time in seconds since 1970. A newer bundle of the
      same name needs a higher number.
    - `key`: the key that signs the bundle.
    - `since`: the path of an older bundle. The new bundle is then a delta: it leaves out files that the
      older bundle already has.

    Raises UsageError for contents that cannot be bundled, and for a `target` that is one of the files to bundle, the
    older bundle, or not a regular file. Raises ModelError if a file cannot be read or written.
    """
    draft = Index(
        FORMAT,
        name or target.name.partition(".")[0],
        serial or int(time.time()),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        contents.model.manifest.name,
        this_platform() if contents.program else "",
        None,
        None,
        [],
    )
    if draft.serial >= LARGEST_SERIAL:
        message = f"The serial number {draft.serial} is too large"
        raise UsageError(message, step=f"use one below {LARGEST_SERIAL}", settings=("serial",))
    try:
        check_index(draft)  # the files come later
    except ValueError as error:
        step = "use letters, digits, '.', '_' and '-'"
        raise UsageError(f"The bundle's {error}", step=step, settings=("name",)) from None
    sources = list(_sources(contents, store, signed=key is not None))
    inputs = [source.content for source in sources if isinstance(source.content, Path)]
    check_target(target, [*inputs, since] if since else inputs)
    # Small files first: the starter reads the program from the beginning. The model is last.
    sources.sort(key=lambda source: (source.path.startswith(f"{HOME}/models/"), source.path))
    if since is None:
        return write_bundle(target, draft, sources, key, progress=progress)
    # What is left out is compared by its sha256, so a false old bundle can only make a delta that does not install.
    with open_archive(since, [key.public] if key else [], unsigned=key is None) as old:
        if old.index.name != draft.name or old.index.serial >= draft.serial:
            raise UsageError(
                f"{since.name} is {old.index.name} with serial number {old.index.serial}, and the new one is "
                f"{draft.name} with {draft.serial}",
                step="use the same name and a higher serial number",
                settings=("name", "serial"),
            )
        draft = replace(draft, base=old.sha256)
        return write_bundle(target, draft, sources, key, base=old.index.by_path, progress=progress)


def this_platform() -> str:
    """Return the platform of this machine, such as linux-x86_64."""
    return f"{sys.platform}-{machine.machine().lower()}"


def _sources(contents: Contents, store: Store, *, signed: bool) -> Iterator[Source]:
    yield from _model(contents.model, store)
    wheels = wheels_of(contents.wheels, signed=signed) if contents.wheels else []
    for wheel in wheels:
        yield Source(f"{WHEELS}/{wheel.path.name}", wheel.path)
    program = list(_program(contents.program)) if contents.program else []
    yield from program
    yield from _tasks(contents.tasks)
    for name, path in contents.adapters.items():
        if not _ADAPTER.fullmatch(name):
            step = "use letters, digits, '.', '_' and '-'"
            raise UsageError(f"{name[:80]!r} cannot be the name of an adapter", step=step, settings=("adapter",))
        if read_header(path).metadata.get("general.type") != "adapter":
            raise UsageError(f"{path} is not an adapter", step="make one with `ecellm-lite convert`")
        yield Source(f"adapters/{name}.gguf", path)
        sha256 = sha256_of(path)
        for calibration in fitting_calibrations(store, contents.model, sha256):
            yield Source(f"{_folder(contents.model, store)}/calibration/{sha256}/{calibration.name}", calibration)
    yield from notices(contents.model.manifest, wheels, contents.program)


def _tasks(paths: Sequence[Path]) -> Iterator[Source]:
    """Yield the files of the tasks, and the other files that they refer to.

    A file that several tasks refer to is yielded once. Raises UsageError if two tasks need different
    files of the same name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        named = {f"{load_task(path).name}.toml": path, **{name: path.parent / name for name in files_beside(path)}}
        for name, file in named.items():
            if files.setdefault(name, file.resolve()) != file.resolve():
                message = f"Two tasks need different files named {name}: {files[name]} and {file.resolve()}"
                raise UsageError(message, step="rename one of them", settings=("task",))
    for name, file in files.items():
        yield Source(f"{HOME}/tasks/{name}", file)


def _folder(model: StoredModel, store: Store) -> str:
    return f"{HOME}/{store.folder(model.manifest.name).relative_to(store.root).as_posix()}"


def _model(model: StoredModel, store: Store) -> Iterator[Source]:
    """Yield the model's file, manifest and calibrations.

    Each file gets the path that it will have in the store of the machine where the bundle is installed.
    """
    folder = _folder(model, store)
    manifest = replace(model.manifest, file="model.gguf")
    yield Source(f"{folder}/model.gguf", model.path)
    yield Source(f"{folder}/manifest.json", manifest.encode())
    for path in fitting_calibrations(store, model):
        yield Source(f"{folder}/calibration/{path.name}", path)


def _program(folder: Path) -> Iterator[Source]:
    """Yield the files of a standalone program. A link to a file in the same folder becomes a copy of that file."""
    executables = [name for name in (PROGRAM, f"{PROGRAM}.exe") if (folder / Path(name).name).is_file()]
    if not executables:
        raise UsageError(f"The folder {folder} has no program ecellm-lite", step="give the folder that it is in")
    whole = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if not path.resolve().is_relative_to(whole) or not path.is_file():
                raise UsageError(f"{path} is not a file, or lies elsewhere", step="replace it by a copy")
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            yield Source(f"program/{path.relative_to(folder).as_posix()}", path, executable)
        if links := [name for name in folders if (Path(place) / name).is_symlink()]:
            raise UsageError(f"{Path(place) / links[0]} is a link to a folder", step="replace it by a copy")
