"""A large file in a repository on the Hugging Face hub. It is read in ranges, or downloaded to a given path.

hub.py fetches whole repositories into the hub's cache. This module does not use that cache. If the process is killed
during a download, the next download fetches only the missing bytes. Each downloaded file is checked against the sha256
that the hub states.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.hub import explained_error


class StoppedError(Exception):
    """The function `received` that a caller passes to HubFile.fetch may raise this, to stop the download."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at a commit: its name, its size in bytes, and its sha256 in hex."""

    repository: str
    commit: str
    name: str
    size: int
    sha256: str

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from an offset, without checking them. Raises ModelError if they cannot be fetched."""
        buffer = io.BytesIO()
        with self._explaining():
            self._get(_Reporting(buffer, count), count, Range=f"bytes={offset}-{offset + count - 1}")
        return buffer.getvalue()

    def fetch(self, path: Path, received: Callable[[int], None]) -> None:
        """Download the missing rest of the file to `path`, and check the sha256 of the whole file.

        `received` is called with the number of bytes of each downloaded block, in the caller's thread. It may raise an
        exception to stop the download.

        Raises ModelError if the connection breaks or the disk is full. The next call then continues the download. Also
        raises ModelError if the file's sha256 differs from the hub's. The file is then removed.
        """
        with self._explaining():
            path.touch()
            with path.open("r+b") as file:
                if (present := file.seek(0, os.SEEK_END)) < self.size:
                    self._get(_Reporting(file, self.size, received), self.size, resume_size=present)
            if sha256_of(path) == self.sha256:
                return
            path.unlink()
        raise ModelError(
            f"The downloaded {self.name} of {self.repository} does not have the sha256 that the hub states, "
            f"{self.sha256}",
            step="pull again to download it again; what is converted is kept",
        )

    def _get(self, file: Any, size: int, *, resume_size: int = 0, **headers: str) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars("huggingface_hub.http_get")  # the caller shows the progress of all files together
        http_get(
            hf_hub_url(self.repository, self.name, revision=self.commit),
            file,
            resume_size=resume_size,
            headers={**build_hf_headers(), **headers},
            expected_size=size,
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except StoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - huggingface_hub and its HTTP library raise errors of many kinds
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ModelError(
                    f"The disk is full and has no room for {self.name} of {self.repository}",
                    step="free some space and pull again; what has arrived is kept",
                ) from None
            raise explained_error(self.repository, error) from None


class _Reporting:
    """An open file that huggingface_hub writes a download to.

    Each write calls `received` with the number of bytes. A write that makes the file larger than `most` bytes fails.
    """

    def __init__(self, file: BinaryIO, most: int, received: Callable[[int], None] = lambda _: None) -> None:
        self._file = file
        self._most = most
        self._received = received

    def write(self, piece: bytes) -> int:
        if self._file.tell() + len(piece) > self._most:
            raise OSError("the server sends more than was asked for")
        count = self._file.write(piece)
        self._received(count)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def weight_files(repository: str, commit: str) -> tuple[HubFile, ...]:
    """Return a repository's safetensors files.

    Raises ModelError if the repository is not a checkpoint, or if the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(repository, revision=commit, files_metadata=True).siblings or []
    except Exception as error:  # noqa: BLE001 - as above
        raise explained_error(repository, error) from None
    weights = [file for file in files if file.rfilename.endswith(".safetensors")]
    _check_checkpoint(repository, sorted(file.rfilename for file in files), bool(weights))
    return tuple(
        HubFile(repository, commit, file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else "")
        for file in weights
    )


def _check_checkpoint(repository: str, names: Sequence[str], has_weights: bool) -> None:
    if "config.json" not in names and "adapter_config.json" in names:
        raise ModelError(
            f"{repository} is an adapter", step="pull its base, and give it as the adapter", settings=("adapters",)
        )
    missing = [] if "config.json" in names else ["config.json"]
    missing += [] if has_weights else ["weights as safetensors"]
    if missing:
        raise ModelError(
            f"{repository} has no {' and no '.join(missing)}, only {', '.join(names[:8])}",
            step="give a repository that has them; a GGUF file needs no conversion and can be added as it is",
        )
