"""The answers that a job has so far, in an SQLite file beside its output: whatever stops the job, they are not lost.

A row is known by the hash of what is asked, never by its number, so that a table that was edited or sorted meanwhile
takes every answer that still holds. The rows themselves are not kept. A person's corrections are kept apart from the
answers, and outlast a restart of the same task.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError, UsageError

FORMAT = "1"

# Answers that a kill may take, and seconds of them: committing each would cost more than answering a short one.
UNCOMMITTED, UNCOMMITTED_SECONDS = 256, 0.5

_BUSY = "locked"


class Journal:
    """The answers of one job; `facts` say what is asked of every row: model, task, options; None takes those kept.

    Two processes cannot have it open at once. Any thread may call at any time.

    Raises UsageError if another process has it, or if it has answers to other facts and `restart` is False (else it
    is emptied), InputError if it is damaged or cannot be written.
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
        """Return the answer that was kept under a key, without the row's id."""
        with self._lock, _explained(self.path):
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return _answer(row[0], self.path) if row else None

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep an answer under a key."""
        text = json.dumps(replace(answer, id=None).as_dict())
        with self._lock, _explained(self.path):
            if not self._waiting:
                self._database.execute("BEGIN")
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))
            self._waiting += 1
            if self._waiting >= UNCOMMITTED or time.monotonic() - self._committed > UNCOMMITTED_SECONDS:
                self._commit()

    def corrections(self) -> dict[bytes, str]:
        """Return the answer strings that people gave, by their rows' keys."""
        with self._lock, _explained(self.path):
            return dict(self._database.execute("SELECT key, text FROM corrections"))

    def correct(self, corrections: Mapping[bytes, str]) -> None:
        """Keep people's answer strings, all or none of them."""
        with self._lock, _explained(self.path):
            self._commit()
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO corrections VALUES (?, ?)", corrections.items())
            self._database.execute("COMMIT")

    def note(self, id_: str | int) -> bool:
        """Note a row's id; False if another row had it."""
        with self._lock, _explained(self.path):
            try:
                self._database.execute("INSERT INTO temp.ids VALUES (?)", (json.dumps(id_),))
            except sqlite3.IntegrityError:
                return False
        return True

    def count(self) -> int:
        """Return how many answers there are."""
        with self._lock, _explained(self.path):
            [count] = self._database.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Keep what was put; a second call does nothing."""
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
        # Exclusive from the first write on; a second process finds it locked.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS corrections (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID")
        kept = dict(self._database.execute("SELECT name, value FROM facts"))
        wanted = self.facts = {"format": FORMAT, **(kept if facts is None else facts)}
        [answered] = self._database.execute("SELECT EXISTS (SELECT 1 FROM answers)").fetchone()
        if answered and kept != wanted and not restart:
            self._database.execute("ROLLBACK")
            raise UsageError(
                f"The unfinished job in {self.path} was asked otherwise ({_difference(kept, wanted)})",
                step="ask it in the same way, or start again",
                settings=("restart",),
            )
        if restart or kept != wanted:
            self._database.execute("DELETE FROM facts")
            self._database.execute("DELETE FROM answers")
            if kept.get("task") != wanted.get("task"):
                self._database.execute("DELETE FROM corrections")
        self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", wanted.items())
        self._database.execute("COMMIT")
        self._database.execute("CREATE TEMP TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def _commit(self) -> None:
        if self._waiting:
            self._waiting = 0
            self._database.execute("COMMIT")
        self._committed = time.monotonic()


def row_key(row: Mapping[str, Any]) -> bytes:
    """Return the hash that a row is known by: of its fields, in whatever order, without its id."""
    fields = {name: value for name, value in row.items() if name != "id"}
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _answer(text: str, path: Path) -> Answer:
    try:
        return Answer.from_dict(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from None


def _difference(kept: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    names = [name for name in (*wanted, *kept) if kept.get(name) != wanted.get(name)]
    name = names[0]
    return f"{name}: {_short(kept.get(name))}, and now {_short(wanted.get(name))}"


def _short(value: str | None) -> str:
    return "nothing" if value is None else value if len(value) <= 60 else f"{value[:57]}…"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _BUSY in str(error):
            raise UsageError(
                f"Another job writes to {path}", step="let it end, or write to another file", settings=("output",)
            ) from None
        raise InputError(
            f"The journal {path} cannot be written ({error})",
            step="make room or check its rights; the same command then goes on",
        ) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"The journal {path} is damaged ({error})", step="delete it, and the job starts again", settings=("restart",)
    )
