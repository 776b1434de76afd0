"""Stores JSON Lines files that clients upload or that batches write. Each file has an owner.

The files contain customers' data. Only the user account that runs the server can read the folder, and each
file stays until a client deletes it. File names on disk never come from clients.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ecellm_lite.documents import read_document
from ecellm_lite.models.files import private_opener, replacing
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.leftovers import leftovers

LARGEST = 200 << 20  # bytes of one file, the same limit as OpenAI's
MOST_BYTES = 4 << 30  # of all files together; a batch's output is stored even beyond it
_ID = re.compile(r"file-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The description of a stored file.

    `owner` is the name of the API key that may see the file, or None on a server without keys.
    """

    id: str
    owner: str | None
    filename: str
    purpose: str
    bytes: int
    created_at: int
    format: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the file's description in OpenAI's format."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("owner", "format")}
        return {**fields, "object": "file", "status": "processed", "expires_at": None, "status_details": None}


class StoredFiles:
    """The files that the server stores for its clients. They are all in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        """Remove what killed servers may leave: unfinished uploads, and stored files without their description."""
        for left in leftovers(self._folder, "*.part", ".file-*"):
            left.unlink(missing_ok=True)
        for content in leftovers(self._folder, "file-*.jsonl"):
            if not content.with_suffix(".json").exists():
                content.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[StoredFile]:
        for path in sorted(self._folder.glob("file-*.json")):
            if file := self._read(path):
                yield file

    def get(self, id_: str, owner: str | None) -> StoredFile:
        """Return a file of `owner` by its id. Raises RefusedError (404) if there is none."""
        file = self._read(self._folder / f"{id_}.json") if _ID.fullmatch(id_) else None
        if file is None or file.owner != owner:
            raise RefusedError(404, "file_not_found", f"There is no file {id_[:80]!r}", step="upload it")
        return file

    def path(self, file: StoredFile) -> Path:
        """Return the path of a file's content."""
        return self._folder / f"{file.id}.jsonl"

    def check_room(self, size: int) -> None:
        """Raise RefusedError (413) if another file of `size` bytes would exceed the limit for all files together."""
        if sum(file.bytes for file in self) + size > MOST_BYTES:
            message = f"The server's files would have more than {MOST_BYTES >> 30} GiB"
            raise RefusedError(413, "storage_full", message, step="delete some")

    @contextmanager
    def adding(self, owner: str | None, filename: str, purpose: str) -> Iterator[tuple[IO[bytes], list[StoredFile]]]:
        """Yield a new file to write to, and an empty list.

        When the `with` block ends, the file is stored, and its StoredFile is added to the list. If the block raises an
        error, nothing is stored.
        """
        id_ = f"file-{secrets.token_hex(12)}"
        part, content = (self._folder / f"{id_}.{ending}" for ending in ("part", "jsonl"))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored: list[StoredFile] = []
        try:
            with open(part, "xb", opener=private_opener) as file:  # Path.open takes no opener
                yield file, stored
                size = file.tell()
            stored.append(StoredFile(id_, owner, filename[:200], purpose, size, int(time.time())))
            part.replace(content)
            with replacing(self._folder / f"{id_}.json", private=True) as meta:
                meta.write_text(json.dumps(asdict(stored[0])), encoding="utf-8")
        except BaseException:
            content.unlink(missing_ok=True)
            raise
        finally:
            part.unlink(missing_ok=True)

    def delete(self, file: StoredFile) -> None:
        """Delete a file's content and description."""
        (self._folder / f"{file.id}.json").unlink(missing_ok=True)
        self.path(file).unlink(missing_ok=True)

    def _read(self, path: Path) -> StoredFile | None:
        try:
            return read_document(StoredFile, path, largest=1 << 16, formats=(1,))
        except (OSError, ValueError):
            return None
