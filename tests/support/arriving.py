"""Simulates the download of a model's weights from a folder, and measures the disk space that files take."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.hub_file import HubFile
from tests.support.tiny_checkpoints import write_safetensors

PIECE = 1 << 16


class FolderFile(HubFile):
    """A simulated file on the hub. Its bytes come from a file in the folder `repository`.

    `sent` counts the downloaded bytes of all FolderFiles together. Reading a range is not counted.
    """

    sent = 0

    def _get(self, file: Any, size: int, *, resume_size: int = 0, **headers: str) -> None:
        first, last = resume_size, size
        if "Range" in headers:
            begin, _, end = headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(begin), int(end) + 1
        with (Path(self.repository) / self.name).open("rb") as source:
            source.seek(first)
            while first < last:
                piece = source.read(min(PIECE, last - first))
                first += len(piece)
                if "Range" not in headers:
                    FolderFile.sent += len(piece)
                file.write(piece)


def resharded(base: Path, folder: Path, shards: int) -> Path:
    """Write a copy of a checkpoint with its tensors divided among `shards` files."""
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if ".safetensors" not in path.name:
            shutil.copy(path, folder)
    where = {}
    with Checkpoint(base) as checkpoint:
        names = list(checkpoint)
        for place in range(shards):
            file = f"model-{place + 1:05}-of-{shards:05}.safetensors"
            mine = names[len(names) * place // shards : len(names) * (place + 1) // shards]
            kind = checkpoint.tensor(mine[0]).type
            write_safetensors(folder / file, {name: checkpoint.rows(name) for name in mine}, kind)
            where.update(dict.fromkeys(mine, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}), "utf-8")
    return folder


def arriving(checkpoint: Path, folder: Path) -> tuple[Path, tuple[FolderFile, ...]]:
    """Copy a checkpoint to `folder`, but without its weights.

    Return the folder, and a FolderFile for each file of weights, which simulates the download of this file.
    """
    folder.mkdir(parents=True)
    weights = []
    for path in sorted(checkpoint.iterdir()):
        if path.suffix == ".safetensors":
            size, sha256 = path.stat().st_size, sha256_of(path)
            weights.append(FolderFile(str(checkpoint), "", path.name, size, sha256))
        else:
            shutil.copy2(path, folder)
    return folder, tuple(weights)


def disk_used(folder: Path) -> int:
    """Return how many bytes of disk space the files in a folder take.

    Files may appear and disappear during the call.
    """
    used = 0
    for place, folders, files in os.walk(folder):  # which skips a folder that is gone
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                used += (Path(place) / name).lstat().st_blocks * 512
    return used
