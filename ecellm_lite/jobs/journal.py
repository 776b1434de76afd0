"""A job's answers so far, in an SQLite file beside its output. They survive if the job is stopped or killed.

A row is identified by a hash of its fields and not by its number. So answers still match their rows after the table is
edited or sorted. The rows themselves are not stored. A person's corrections are stored separately. They stay when
the option `restart` deletes the answers, even if a task has changed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.difference import other_settings, task_hashes
from ecellm_lite.jobs.output import part_of

FORMAT = "1"

# How many answers, and how many seconds of them, a kill may lose: committing each one would slow down short answers.
UNCOMMITTED, UNCOMMITTED_SECONDS = 256, 0.5

_BUSY = "locked"


def journal_of(output: Path) -> Path:
    """Return the path of the journal for an output file."""
    return part_of(output).with_suffix(".journal")


class Journal:
    """A file with the answers of one job. Only one process at a time can open it. Any thread may call any method.

    `facts`: the facts that the job's answers depend on (see jobs/facts.py). They are compared with the facts in the
      file. With None, nothing is compared.
    `restart`: delete the stored answers.

    Raises UsageError if another process has the file open, if the stored answers have other facts and `restart` is
    False, or if the file has corrections of tasks with other names. Raises InputError if the file is damaged or cannot
    be written.
    """

    def __init__(self, path: Path, facts: Mapping[str, str] | None, *, restart: bool = False) -> None:
        self.path = path
        self.facts: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._waiting = 0
        self._committed = time.monotonic()
        with _explained(path):
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with _explained(path):
                self._open(facts, restart)
        except BaseException:
            self._database.close()
            raise

    def get(self, key: bytes) -> Answer | None:
        """Return the answer stored under a key, or None if there is none. The answer has no row id."""
        with self._lock, _explained(self.path):
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return _answer(row[0], self.path) if row else None

    def put(self, key: bytes, answer: Answer) -> None:
        """Store an answer under a key."""
        text = json.dumps(replace(answer, id=None).as_dict())
        with self._lock, _explained(self.path):
            if not self._waiting:
                self._database.execute("BEGIN")
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))
            self._waiting += 1
            if self._waiting >= UNCOMMITTED or time.monotonic() - self._committed > UNCOMMITTED_SECONDS:
                self._commit()

    def corrections(self) -> dict[bytes, str]:
        """Return the answers that a person wrote as corrections: a label (see Space.label) for each row key."""
        with self._lock, _explained(self.path):
            return dict(self._database.execute("SELECT key, text FROM corrections"))

    def entries(self) -> dict[str, str]:
        """Return the corrections as the person wrote them, by the keys that the review table shows.

        Corrections that were not applied are included here, but not in `corrections`.
        """
        with self._lock, _explained(self.path):
            return dict(self._database.execute("SELECT key, text FROM entries"))

    def tables(self) -> dict[str, str]:
        """Return the path of the table that each correction was last read from, by the key that review tables show."""
        with self._lock, _explained(self.path):
            return dict(self._database.execute("SELECT key, path FROM tables"))

    def correct(
        self,
        corrections: Mapping[bytes, str],
        entries: Mapping[str, str],
        *,
        table: str,
        removed: Collection[bytes],
        taken_back: Collection[str],
    ) -> None:
        """Store a person's corrections, and remove earlier ones. If one step fails, nothing changes.

        `corrections`: the right answer for each row key, as a label (see Space.label).
        `entries`: the corrections of a review table as the person wrote them, by the keys that the table shows.
          Corrections that were not applied are here, and not in `corrections`.
        `table`: the path of this review table.
        `removed`: the row keys of the earlier corrections to delete.
        `taken_back`: the keys, as the table shows them, of the corrections that the person took back.
        """
        with self._lock, _explained(self.path):
            self._commit()
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO corrections VALUES (?, ?)", corrections.items())
            self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", entries.items())
            self._database.executemany("INSERT OR REPLACE INTO tables VALUES (?, ?)", ((key, table) for key in entries))
            self._database.executemany("DELETE FROM corrections WHERE key = ?", ((key,) for key in removed))
            self._database.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in taken_back))
            self._database.executemany("DELETE FROM tables WHERE key = ?", ((key,) for key in taken_back))
            self._database.execute("COMMIT")

    def note(self, id_: str | int) -> bool:
        """Record a row's id. Return False if an earlier row has the same id."""
        with self._lock, _explained(self.path):
            try:
                self._database.execute("INSERT INTO temp.ids VALUES (?)", (json.dumps(id_),))
            except sqlite3.IntegrityError:
                return False
        return True

    def count(self) -> int:
        """Return the number of stored answers."""
        with self._lock, _explained(self.path):
            [count] = self._database.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Commit and close the file. A second call does nothing."""
        with self._lock, _explained(self.path):
            try:
                self._commit()
            finally:
                self._database.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, facts: Mapping[str, str] | None, restart: bool) -> None:
        # The lock is held from the first write on, so that a second process cannot open the file.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS corrections (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS tables (key TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID")
        stored = dict(self._database.execute("SELECT name, value FROM facts"))
        current = self.facts = {"format": FORMAT, **(stored if facts is None else facts)}
        [answered] = self._database.execute("SELECT EXISTS (SELECT 1 FROM answers)").fetchone()
        if answered and stored != current and not restart:
            self._database.execute("ROLLBACK")
            raise other_settings(self.path, stored, current)
        [corrections] = self._database.execute("SELECT count(*) FROM corrections").fetchone()
        before = task_hashes(stored)
        if corrections and before.keys() != task_hashes(current).keys():
            self._database.execute("ROLLBACK")
            raise UsageError(
                f"The file {self.path} has corrections ({corrections:,}) for other tasks ({', '.join(before)})",
                step="write to another output, or delete that file if you no longer need them",
                settings=("output", "task"),
            )
        if restart or stored != current:
            self._database.execute("DELETE FROM facts")
            self._database.execute("DELETE FROM answers")
        self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", current.items())
        self._database.execute("COMMIT")
        self._database.execute("CREATE TEMP TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def _commit(self) -> None:
        if self._waiting:
            self._waiting = 0
            self._database.execute("COMMIT")
        self._committed = time.monotonic()


def row_key(row: Mapping[str, Any]) -> bytes:
    """Return the hash that identifies a row. The id and the order of the fields do not affect it."""
    fields = {name: value for name, value in row.items() if name != "id"}
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _answer(text: str, path: Path) -> Answer:
    try:
        return Answer.from_dict(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _BUSY in str(error):
            raise UsageError(
                f"Another job is writing to {path}",
                step="wait until it ends, or write to another file",
                settings=("output",),
            ) from None
        raise InputError(
            f"The journal {path} cannot be written ({error})",
            step="free some space or check its permissions; the same command then resumes the job",
        ) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"The journal {path} is damaged ({error})", step="delete it to start the job again", settings=("restart",)
    )
