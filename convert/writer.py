"""Writes a file under a temporary name. A journal records which of its bytes are on the disk.

The file gets its final name only when it is complete and on the disk. Bytes are flushed to the disk before the journal
counts them, so the conversion can be resumed after a kill or a power failure. Until the manifest is written, a lock on
the journal prevents a second conversion to the same target.

    .NAME.unfinished    the file, at its full length from the start
    .NAME.journal       JSON lines. The first line has the facts that the file depends on. Each flush adds a line: how
                        many bytes are written, or the names of the parts that are written
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecellm_lite.convert import descriptors
from ecellm_lite.errors import BusyError, ModelError
from ecellm_lite.models.files import is_replaceable, sha256_of

_MAX_JOURNAL_BYTES = 64 << 20
_FLAGS = descriptors.READ_WRITE | os.O_CREAT
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NotResumableError(ModelError):
    """The unfinished file cannot be resumed, so the conversion has to start again."""


class UnfinishedFile:
    """An unfinished file that will become `target`. It is a context manager.

    The data for resuming is kept until `forget` is called.

    - `facts`: the facts that the file's bytes depend on, such as hashes of the inputs.
    - `resume`: whether to keep the bytes that an earlier run with the same facts wrote.
    - `done`: how many bytes, from the file's beginning, are recorded as written. At first, it is the
      number of bytes that were kept, which is 0 without `resume`.
    - `parts`: the names of the parts that were recorded with `note_part`, by this run or by the earlier run.
    - `whole`: the sha256 of the complete file, if an earlier run renamed it to `target` but did not reach `forget`.
      Otherwise None.

    Raises ModelError if another conversion is writing the target, if the earlier run had other facts, or if a write
    fails.
    """

    def __init__(self, target: Path, size: int, facts: Mapping[str, Any], *, resume: bool = False) -> None:
        self.target = target
        self.size = size
        self.done = 0
        self.parts: frozenset[str] = frozenset()
        self.whole: str | None = None
        self.unfinished, self.journal = unfinished_paths(target)
        self._descriptor = self._journal = -1
        try:
            if not is_replaceable(target):
                message = f"{target} is a folder" if target.is_dir() else f"{target} is not a regular file"
                raise ModelError(message, step="give a file's name", settings=("target",), file=str(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._descriptor = os.open(self.unfinished, _FLAGS, 0o644)
            self._begin(json.loads(json.dumps(facts)), resume)
        except OSError as error:
            self._give_up()
            raise self._refused(error) from None
        except BaseException:
            self._give_up()
            raise

    def __enter__(self) -> UnfinishedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """Write bytes at an offset. Raises ModelError if that fails."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                count = descriptors.write_at(self._descriptor, rest, offset)
                rest, offset = rest[count:], offset + count
        except OSError as error:
            raise self._refused(error) from None

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from an offset. Raises ModelError if there are none, or if reading fails."""
        try:
            data = descriptors.read_at(self._descriptor, count, offset)
        except OSError as error:
            raise ModelError(
                f"{self.unfinished} cannot be read ({error.strerror})",
                step="check the disk, or start again without resuming",
                settings=("resume",),
                file=str(self.unfinished),
            ) from None
        if not data:
            raise self._not_resumable("was cut short meanwhile")
        return data

    def flush(self, done: int) -> None:
        """Flush the written bytes to the disk.

        Then record in the journal that the first `done` bytes of the file are written.
        """
        self._note({"done": done})
        self.done = done

    def note_part(self, name: str) -> None:
        """Flush the written bytes to the disk, then record in the journal that the part with this name is written.

        The caller chooses the parts and their names. For example, a part is the tensors of one shard.
        """
        self._note({"parts": sorted(self.parts | {name})})
        self.parts |= {name}

    def finish(self, sha256: str) -> None:
        """Give the complete file its final name, if it does not have this name already."""
        if self.whole is not None:
            return
        self._note({"whole": sha256})
        try:
            if not _is_at(self._descriptor, self.unfinished):
                raise self._not_resumable("was replaced by another file")
            if descriptors.KEEPS_OPEN_FILES:
                self._close_file()
            self.unfinished.replace(self.target)
            descriptors.sync_folder(self.target.parent)
        except OSError as error:
            raise self._refused(error) from None

    def forget(self) -> None:
        """Delete the journal, and the unfinished file if there still is one.

        Call it when a conversion is finished, or when it will not be resumed.
        """
        # The journal goes last: without its lock, another conversion may use these names.
        for descriptor, path in ((self._descriptor, self.unfinished), (self._journal, self.journal)):
            with suppress(OSError):
                if _is_at(descriptor, path):
                    if descriptors.KEEPS_OPEN_FILES:
                        self._close_file() if path == self.unfinished else self._close_journal()
                    path.unlink()

    def close(self) -> None:
        """Close the files if they are open. This also releases the lock."""
        self._close_journal()
        self._close_file()

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _close_journal(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
        self._journal = -1

    def _refused(self, error: OSError) -> ModelError:
        """Return the error for a failed write."""
        message = f"{self.target} cannot be written ({error.strerror})"
        if error.errno in _NO_ROOM:
            return ModelError(message, step="make room, then resume", settings=("resume",), file=str(self.target))
        return ModelError(
            message,
            step="check the folder's rights, or give another output file",
            settings=("target",),
            file=str(self.target),
        )

    def _not_resumable(self, problem: str) -> NotResumableError:
        return NotResumableError(
            f"{self.unfinished} {problem}", step="start again without resuming", file=str(self.unfinished)
        )

    def _note(self, entry: Mapping[str, Any]) -> None:
        try:
            os.fsync(self._descriptor)
            os.write(self._journal, json.dumps(entry).encode() + b"\n")
            os.fsync(self._journal)
        except OSError as error:
            raise self._refused(error) from None

    def _lock(self) -> None:
        while True:
            journal = os.open(self.journal, _FLAGS | os.O_APPEND, 0o644)
            try:
                descriptors.lock(journal)
                # Between opening and locking, the previous owner may have removed the file and another made a new one.
                if _is_at(journal, self.journal):
                    self._journal = journal
                    return
            except BlockingIOError:
                raise BusyError(
                    f"Another conversion is writing {self.target}",
                    step="wait until it has ended, or give another output file",
                    settings=("target",),
                    file=str(self.target),
                ) from None
            finally:
                if self._journal < 0:
                    os.close(journal)

    def _give_up(self) -> None:
        """Close the files. Delete the journal if nothing was written to it."""
        with suppress(OSError):
            if self._journal >= 0 and os.fstat(self._journal).st_size == 0:
                if descriptors.KEEPS_OPEN_FILES:
                    self._close_journal()
                self.journal.unlink()
        self.close()

    def _begin(self, facts: Any, resume: bool) -> None:
        if resume:
            self.done = self._resumable_bytes(facts)
        if self.done or self.parts:
            # Ends a line that a kill may have cut off.
            os.write(self._journal, b"\n")
            return
        os.ftruncate(self._journal, 0)
        os.ftruncate(self._descriptor, 0)
        os.ftruncate(self._descriptor, self.size)
        os.write(self._journal, json.dumps({"facts": facts}).encode() + b"\n")
        os.fsync(self._journal)
        descriptors.sync_folder(self.target.parent)

    def _resumable_bytes(self, facts: Any) -> int:
        """Return how many bytes an earlier run wrote to the file, according to the journal.

        This also sets the attributes `parts` and `whole`. Raises NotResumableError if the journal belongs to another
        conversion, with other `facts`.
        """
        journal = _read_journal(self.journal)
        if "facts" not in journal:
            return 0
        if journal["facts"] != facts:
            raise self._not_resumable(f"belongs to another conversion ({_difference(journal['facts'], facts)})")
        length = os.fstat(self._descriptor).st_size
        sha256 = journal.get("whole")
        with suppress(OSError):
            if (
                isinstance(sha256, str)
                and length == 0
                and self.target.stat().st_size == self.size
                # Another file of the same size may have replaced it.
                and sha256_of(self.target) == sha256
            ):
                self.whole = sha256
                return self.size
        if length != self.size:
            return 0
        parts, done = journal.get("parts", []), journal.get("done", 0)
        if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
            self.parts = frozenset(parts)
        return done if type(done) is int and 0 <= done <= self.size else 0


def unfinished_paths(target: Path) -> tuple[Path, Path]:
    """Return the paths of a target's unfinished file and of its journal."""
    return target.with_name(f".{target.name}.unfinished"), target.with_name(f".{target.name}.journal")


def only_named(target: Path) -> bool:
    """Return whether an earlier run renamed the complete file to `target`, but was interrupted before it cleaned up.

    In this case, `target` is complete, and the earlier run's journal is still there.
    """
    unfinished, journal = unfinished_paths(target)
    return journal.is_file() and target.is_file() and not (unfinished.is_file() and unfinished.stat().st_size)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the file at `path` is the open file, and has not been replaced by another file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _read_journal(path: Path) -> dict[str, Any]:
    """Return the last value of each key in the journal. If the file is not a journal, the result is empty."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_JOURNAL_BYTES)
    except OSError:
        return {}
    entries: dict[str, Any] = {}
    for line in text.split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            entries |= entry
    return entries


def _difference(old: Any, new: Any) -> str:
    if not isinstance(old, dict):
        return "its journal is damaged"
    return "another " + ", ".join(sorted(str(key) for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
