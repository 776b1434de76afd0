"""Checkpoints from the Hugging Face hub, or what of them is in its cache: the only place that touches a network.

huggingface_hub does the work: it takes up a connection that broke, keeps every file that has arrived whole, locks its
cache, and honours HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME. Nothing but weights, configuration and tokenizer files is
fetched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import in_words

FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt",
)  # fmt: skip

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_repository(name: str) -> bool:
    """Whether a name can be that of a repository on the hub: OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


def cached(repository: str, revision: str | None = None) -> Path:
    """Return the folder of a repository in the hub's cache; raises ModelError if it is not there.

    A folder that lacks files is refused by versions of the hub's library that keep a list of a repository's files; with
    an older one it is for the reader of the folder to find out.
    """
    from huggingface_hub import snapshot_download

    _check(repository)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError):  # what the hub's library raises for what is not in its cache is one or the other
        raise ModelError(
            f"There is no folder {repository}, and the Hugging Face cache does not have it as a whole: `ecellm-lite "
            f"models pull {repository}` fetches it, on a machine with a network."
        ) from None


def download(repository: str, revision: str | None = None, *, quiet: bool = False) -> Path:
    """Fetch a repository's weights, configuration and tokenizer into the hub's cache and return their folder.

    Raises ModelError with the next step where the repository is not there, the disk has too little room, or the
    connection breaks; files that have arrived by then are kept, and the next call fetches the others.
    """
    # Both are read when the library is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    _check(repository)
    if HF_HUB_OFFLINE:
        return cached(repository, revision)
    cache, size = Path(HF_HUB_CACHE), 0
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        names = [name for name in sizes if any(fnmatch(name, pattern) for pattern in FILES)]
        size = sum(sizes[name] for name in names)
        _check_room(repository, size, cache)
        # Not by its hash: the library would not note which one the name means, and find nothing without a network.
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
        if folder.name != info.sha:
            raise ModelError(f"{repository} was changed on the hub meanwhile: pull again, which fetches what is new.")
        for name in names:
            size_on_disk = (folder / name).stat().st_size
            if size_on_disk != sizes[name]:
                raise ModelError(
                    f"{name} of {repository} has {size_on_disk:,} bytes and the hub says {sizes[name]:,}: "
                    f"delete {(folder / name).resolve()} and pull again."
                )
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - the hub's library and its transport have trees of their own
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _check_room(repository, size, cache)
        raise _explained(repository, error) from None
    return folder


def drop(folder: Path) -> None:
    """Delete what `download` fetched, that revision alone, from the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        scan_cache_dir().delete_revisions(folder.name).execute()
    except (OSError, ValueError, KeyError, CacheNotFound) as error:
        raise ModelError(f"{folder} could not be deleted ({error}): the model is in the store all the same.") from None


def _check_room(repository: str, size: int, cache: Path) -> None:
    """Raise ModelError if the disk cannot hold what is not there yet."""
    folder = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    there = sum(blob.stat().st_size for blob in folder.iterdir() if blob.is_file()) if folder.is_dir() else 0
    disk = next(path for path in (cache, *cache.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(disk).free
    if size - there > free:
        missing = size - there
        raise ModelError(
            f"{repository} is {in_words(missing)} to download, and {disk} has {in_words(free)} free: "
            "make room, or set HF_HOME to a larger disk, and pull again; files that have arrived are kept."
        )


def _check(repository: str) -> None:
    if not is_repository(repository):
        raise UsageError(f"{repository[:100]!r} is no repository of the hub: give OWNER/NAME.")


def _explained(repository: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{repository} asks for its terms to be agreed to on the hub: do so, then `hf auth login`, and pull again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"The hub has no repository {repository}, or not for you: check the name, or `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(
            f"{repository} has no such revision", step="leave it out for the newest", settings=("revision",)
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ModelError(
            f"The disk is full: make room, or set HF_HOME to a larger one, and pull {repository} again; "
            "files that have arrived are kept."
        )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(
        f"{repository} could not be fetched ({reason}): check the connection and pull again; "
        "files that have arrived are kept."
    )
