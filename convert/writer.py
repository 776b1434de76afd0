"""A file on its way: written under another name beside its target, with a journal of how far it is on the disk.

The target's name is given when the file is whole and on the disk, and never before. Two writers of one target exclude
each other by a lock on the journal, which keeps its name until all is done, the manifest included. The journal says no
more than what the disk holds: the data is flushed first. After a kill, or a loss of power, the file goes on from there.

    .NAME.unfinished    the file, at its full length from the beginning
    .NAME.journal       JSON lines: what the file is of, and after each flush how many of its bytes are there
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of

_LARGEST_JOURNAL = 64 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BusyError(ModelError):
    """Another conversion is writing the same target."""


class UnfinishedFile:
    """The file that will be `target`; a context manager, which leaves what is needed to go on if it is not finished.

    `facts` say what the file is made of. With `resume`, what is there of the same facts is kept, and `done` says how
    many bytes from the beginning are there; else, and where there is nothing, it begins at 0. `whole` is the sha256 of
    a file that has its name already, and whose writer ended between that and `forget`. Raises ModelError if another
    writes to it, if what is there is of other facts, or if the disk refuses.
    """

    def __init__(self, target: Path, size: int, facts: Mapping[str, Any], *, resume: bool = False) -> None:
        self.target = target
        self.size = size
        self.done = 0
        self.whole: str | None = None
        self.unfinished, self.journal = unfinished_paths(target)
        self._descriptor = self._journal = -1
        try:
            if target.is_dir():
                raise ModelError(f"{target} is a folder: give a file's name.")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._descriptor = os.open(self.unfinished, _FLAGS, 0o644)
            self._begin(json.loads(json.dumps(facts)), resume)
        except OSError as error:
            self._give_up()
            raise self.refused(error) from None
        except BaseException:
            self._give_up()
            raise

    def __enter__(self) -> UnfinishedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """Write bytes at their place, or raise ModelError."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                written = os.pwrite(self._descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise self.refused(error) from None

    def read(self, count: int, offset: int) -> bytes:
        """Return bytes that were written."""
        try:
            found = os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise self.refused(error) from None
        if not found:
            raise ModelError(f"{self.unfinished} was cut short meanwhile: start again without --resume.")
        return found

    def flush(self, done: int) -> None:
        """Bring what was written to the disk, and then note that the first `done` bytes are there."""
        self._note({"done": done})
        self.done = done

    def finish(self, sha256: str) -> None:
        """Give the file its name; it must be whole."""
        self._note({"whole": sha256})
        try:
            if not _is_at(self._descriptor, self.unfinished):
                raise ModelError(f"{self.unfinished} was replaced by another file: start again without --resume.")
            self.unfinished.replace(self.target)
            _sync_folder(self.target.parent)
        except OSError as error:
            raise self.refused(error) from None

    def forget(self) -> None:
        """Remove the journal and what is unfinished: there is nothing to go on from, or nobody can."""
        # The journal goes last: with it goes the lock, and the names are another's from then on.
        for descriptor, path in ((self._descriptor, self.unfinished), (self._journal, self.journal)):
            with suppress(OSError):
                if _is_at(descriptor, path):
                    path.unlink()

    def close(self) -> None:
        """Close the files, and let others write; a second call does nothing."""
        for descriptor in (self._journal, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._journal = -1

    def refused(self, error: OSError) -> ModelError:
        """Return the error for what the disk refused."""
        step = "check the folder's rights, or give another --output"
        if error.errno in _NO_ROOM:
            step = "make room, and go on with --resume"
        return ModelError(f"{self.target} could not be written ({error.strerror}): {step}.")

    def _note(self, line: Mapping[str, Any]) -> None:
        try:
            os.fsync(self._descriptor)
            os.write(self._journal, json.dumps(line).encode() + b"\n")
            os.fsync(self._journal)
        except OSError as error:
            raise self.refused(error) from None

    def _lock(self) -> None:
        while True:
            journal = os.open(self.journal, _FLAGS | os.O_APPEND, 0o644)
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between opening and locking, the one before may have removed it, and a third made another.
                if _is_at(journal, self.journal):
                    self._journal = journal
                    return
            except BlockingIOError:
                raise BusyError(
                    f"Another conversion is writing {self.target}: wait until it has ended, or give another --output."
                ) from None
            finally:
                if self._journal < 0:
                    os.close(journal)

    def _give_up(self) -> None:
        """Close the files, and remove a journal that says nothing."""
        with suppress(OSError):
            if self._journal >= 0 and os.fstat(self._journal).st_size == 0:
                self.journal.unlink()
        self.close()

    def _begin(self, facts: Any, resume: bool) -> None:
        if resume:
            self.done = self._found(facts)
        if not self.done:
            os.ftruncate(self._journal, 0)
            os.ftruncate(self._descriptor, 0)
            os.ftruncate(self._descriptor, self.size)
            os.write(self._journal, json.dumps({"facts": facts}).encode() + b"\n")
            os.fsync(self._journal)
            _sync_folder(self.target.parent)
        else:
            # Ends the line that a kill may have cut.
            os.write(self._journal, b"\n")

    def _found(self, facts: Any) -> int:
        """Return how many bytes of a file of these facts are there."""
        said = _journal_of(self.journal)
        if "facts" not in said:
            return 0
        if said["facts"] != facts:
            raise ModelError(
                f"{self.unfinished} is of another conversion ({_difference(said['facts'], facts)}): "
                "give the same options and inputs to go on, or start again without --resume."
            )
        length = os.fstat(self._descriptor).st_size
        whole = said.get("whole")
        with suppress(OSError):
            if (
                isinstance(whole, str)
                and length == 0
                and self.target.stat().st_size == self.size
                # Another file of that length may have taken its place since.
                and sha256_of(self.target) == whole
            ):
                self.whole = whole
                return self.size
        done = said.get("done", 0)
        return done if length == self.size and type(done) is int and 0 <= done <= self.size else 0


def unfinished_paths(target: Path) -> tuple[Path, Path]:
    """Return the names of a target's unfinished file and of its journal."""
    return target.with_name(f".{target.name}.unfinished"), target.with_name(f".{target.name}.journal")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _journal_of(path: Path) -> dict[str, Any]:
    """Return what the journal's lines say, the last that is whole of each kind; nothing for what is no journal."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_JOURNAL)
    except OSError:
        return {}
    said: dict[str, Any] = {}
    for line in text.split(b"\n"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            said |= found
    return said


def _difference(old: Any, new: Any) -> str:
    if not isinstance(old, dict):
        return "its journal is damaged"
    return "another " + ", ".join(sorted(str(key) for key in old.keys() | new.keys() if old.get(key) != new.get(key)))


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
