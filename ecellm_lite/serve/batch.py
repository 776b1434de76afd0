"""A batch of requests and its progress, kept in a JSON file.

A restarted server reads the file and continues the batch.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.documents import read_document
from ecellm_lite.models.files import replacing
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.leftovers import leftovers

WINDOW = 24 * 3600  # seconds; OpenAI's API has no other completion window
_ID = re.compile(r"batch_[0-9a-f]{24}")
ENDED = ("failed", "completed", "expired", "cancelled")
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of requests and its progress.

    `total`, `completed`, `failed`: numbers of requests. A request failed if its HTTP status is 400 or more.
    `times`: when the batch got each `status` that it has had, in Unix seconds.
    `errors`: why the whole batch failed, such as errors in its input file.
    """

    id: str
    owner: str | None
    endpoint: str
    input_file_id: str
    created_at: int
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    format: int = 1

    @classmethod
    def made(cls, owner: str | None, endpoint: str, input_file_id: str, metadata: Mapping[str, str]) -> Batch:
        """Return a new batch. Its id begins with the time, so that batches can be sorted by their ids."""
        id_ = f"batch_{time.time_ns():016x}{secrets.token_hex(4)}"
        return cls(id_, owner, endpoint, input_file_id, int(time.time()), metadata=dict(metadata))

    def at(self, status: str, **changes: Any) -> Batch:
        """Return a copy of the batch that has this status from now on.

        `changes`: new values of other fields.
        """
        return replace(self, status=status, times={**self.times, status: int(time.time())}, **changes)

    @property
    def ended(self) -> bool:
        """Whether the batch has completed, failed, expired or been cancelled."""
        return self.status in ENDED

    @property
    def expires_at(self) -> int:
        """When the batch expires, in Unix seconds."""
        return self.created_at + WINDOW

    def as_dict(self) -> dict[str, Any]:
        """Return the batch in OpenAI's format."""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{name}_at": self.times.get(name) for name in _TIMES},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata or None,
        }


class BatchStore:
    """The batches stored in a folder, one JSON file for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        """Remove half-written records and unneeded journals, which killed servers may leave.

        A journal is needed only until its batch ends.
        """
        for left in leftovers(self._folder, ".batch_*"):
            left.unlink(missing_ok=True)
        for journal in leftovers(self._folder, "batch_*.journal"):
            batch = self._read(journal.with_suffix(".json"))
            if batch is None or batch.ended:
                journal.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Batch]:
        for path in sorted(self._folder.glob("batch_*.json")):
            if batch := self._read(path):
                yield batch

    def get(self, id_: str, owner: str | None) -> Batch:
        """Return a batch of `owner` by its id. Raises RefusedError (404) if there is none."""
        batch = self._read(self._folder / f"{id_}.json") if _ID.fullmatch(id_) else None
        if batch is None or batch.owner != owner:
            raise RefusedError(404, "batch_not_found", f"There is no batch {id_[:80]!r}", step="make one")
        return batch

    def put(self, batch: Batch) -> None:
        """Write the batch's record to its file."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(self._folder / f"{batch.id}.json", private=True) as file:
            file.write_text(json.dumps(asdict(batch)), encoding="utf-8")

    def journal(self, batch: Batch) -> Path:
        """Return the path of a batch's journal: the file that holds its responses until the batch ends."""
        return self._folder / f"{batch.id}.journal"

    def _read(self, path: Path) -> Batch | None:
        try:
            return read_document(Batch, path, largest=1 << 20, formats=(1,))
        except (OSError, ValueError):
            return None
