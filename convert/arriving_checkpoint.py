"""A checkpoint whose weights are still on the Hugging Face hub.

First, only the headers of the weight files (shards) are read, because planning a conversion needs nothing else. Each
shard is downloaded later. If a tensor is needed before its shard is downloaded, it is read from the hub in parts, by
HTTP range requests. For example, the embedding is needed early if it must be compared with an adapter's copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.reading import changed_meanwhile, damaged, open_for_reading
from ecellm_lite.convert.safetensors_file import SafetensorsFile
from ecellm_lite.convert.source import InputFile
from ecellm_lite.errors import ModelError
from ecellm_lite.models.hub_file import HubFile


class ArrivingShard(SafetensorsFile):
    """A safetensors file on the hub. `fetch` downloads it to the disk, and `drop` deletes it there.

    `place` is the path of the downloaded file. The file's name is the sha256 of the file on the hub. So if the file
    changes on the hub, the new version gets another path and is downloaded from the beginning.
    """

    def __init__(self, path: Path, remote: HubFile, folder: Path) -> None:
        if not re.fullmatch("[0-9a-f]{64}", remote.sha256):
            raise ModelError(
                f"The hub names no sha256 for {remote.name} of {remote.repository}, so it could not be checked",
                step="keep the download",
                settings=("keep",),
            )
        self.path = path
        self.place = folder / remote.sha256
        self.input = InputFile(path, remote.size, 0, remote.sha256)
        self._descriptor = -1
        self._remote = remote
        self.metadata, self.tensors = self._header()

    def fetch(self, received: Callable[[int], None]) -> None:
        """Download the file, or the rest of it, and open it.

        `received` is called with the number of bytes of each downloaded block. Raises ModelError if the download fails,
        or if the file's header or sha256 differs from what the hub returned before.
        """
        self._remote.fetch(self.place, received)
        self._descriptor = open_for_reading(self.place)
        self._opened_as = InputFile.of(self.place, os.fstat(self._descriptor))
        if self._header() != (self.metadata, self.tensors):
            raise damaged(self.place, "has another header than the hub showed before")

    def staged_bytes(self) -> int:
        """Return how many bytes of this file are downloaded already."""
        return self.place.stat().st_size if self.place.is_file() else 0

    def drop(self) -> None:
        """Close the file, and delete what was downloaded of it."""
        self.close()
        self.place.unlink(missing_ok=True)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed since it was downloaded."""
        if self._descriptor >= 0 and InputFile.of(self.place, os.fstat(self._descriptor)) != self._opened_as:
            raise changed_meanwhile(self.place)

    def _fill(self, buffer: memoryview, offset: int) -> None:
        if self._descriptor >= 0:
            super()._fill(buffer, offset)
        else:
            buffer[:] = self._remote.read(offset, len(buffer))


class ArrivingCheckpoint(Checkpoint):
    """A checkpoint whose weights are on the hub.

    `folder` has its configuration, and `staging` is for downloaded shards.
    """

    def __init__(self, folder: Path, weights: Sequence[HubFile], staging: Path) -> None:
        self.staging = staging
        self._remote = {file.name: file for file in weights}
        self.shards: list[ArrivingShard] = []
        super().__init__(folder)

    @property
    def largest(self) -> int:
        """The size of the largest shard in bytes."""
        return max(shard.input.size for shard in self.shards)

    def staged_bytes(self) -> int:
        """Return how many bytes of all shards are on the disk already."""
        return sum(shard.staged_bytes() for shard in self.shards)

    def stage(self, done: Collection[str]) -> None:
        """Make the staging folder for downloaded shards, and delete the files in it that this run does not need.

        `done`: the names of the shards that are already converted, which are not needed any more.
        """
        self.staging.mkdir(exist_ok=True)
        pending = {shard.place for shard in self.shards if shard.path.name not in done}
        for path in set(self.staging.iterdir()) - pending:
            path.unlink()

    def unstage(self) -> None:
        """Delete the staging folder and all shards in it."""
        for shard in self.shards:
            shard.drop()
        self.staging.rmdir()

    def _has(self, name: str) -> bool:
        return name in self._remote

    def _opened(self, path: Path) -> ArrivingShard:
        if path.name not in self._remote:
            raise damaged(path.parent, f"has an index that names {path.name!r}, which its repository does not have")
        self.shards.append(ArrivingShard(path, self._remote[path.name], self.staging))
        return self.shards[-1]
