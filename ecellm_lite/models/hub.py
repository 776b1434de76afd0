"""Checkpoints from the Hugging Face hub or its local cache.

Only this module, hub_file.py and bundle/download.py download anything.

The package huggingface_hub does the work. It resumes broken downloads, keeps every complete file, locks its cache, and
obeys HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME. Only weights, configuration and tokenizer files are fetched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import size_text

_WEIGHTS = "*.safetensors"
FILES = (
    _WEIGHTS, "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_repository(name: str) -> bool:
    """Whether a name looks like a repository on the hub: OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


def cached(repository: str, revision: str | None = None) -> Path:
    """Return the folder of a repository in the hub's local cache.

    Raises ModelError if the repository is not in the cache.

    Newer versions of huggingface_hub refuse a folder that lacks some of the repository's files. Older versions return
    such a folder, so the caller must check for missing files.
    """
    from huggingface_hub import snapshot_download

    _check(repository)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError):  # huggingface_hub raises either if something is not in its cache
        raise ModelError(
            f"There is no folder {repository}, and the Hugging Face cache does not have all of it",
            step=f"fetch it with `ecellm-lite models pull {repository}` on a machine with a network, "
            "and keep the weights",
        ) from None


def download(repository: str, revision: str | None = None, *, weights: bool = True, quiet: bool = False) -> Path:
    """Fetch a repository's weights, configuration and tokenizer into the hub's cache, and return their folder.

    Without `weights`, the safetensors files are left out. Raises ModelError if the repository does not exist, the disk
    has too little free space, or the connection breaks. After an error, the complete files are kept, and the next call
    fetches the rest.
    """
    # huggingface_hub reads both variables when it is imported.
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
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        patterns = [pattern for pattern in FILES if weights or pattern != _WEIGHTS]
        names = [name for name in sizes if any(fnmatch(name, pattern) for pattern in patterns)]
        size = sum(sizes[name] for name in names)
        _check_room(repository, size, cache)
        # Fetched by name, not by commit hash: otherwise the library does not record the name's commit, and finds
        # nothing when offline.
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
        if folder.name != info.sha:
            raise ModelError(f"{repository} was changed on the hub meanwhile", step="pull again to fetch the changes")
        for name in names:
            size_on_disk = (folder / name).stat().st_size
            if size_on_disk != sizes[name]:
                raise ModelError(
                    f"{name} of {repository} has {size_on_disk:,} bytes, but {sizes[name]:,} on the hub",
                    step=f"delete {(folder / name).resolve()} and pull again",
                )
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - huggingface_hub and its HTTP library raise errors of many kinds
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _check_room(repository, size, cache)
        raise explained_error(repository, error) from None
    return folder


def is_offline() -> bool:
    """Whether the environment variable HF_HUB_OFFLINE stops huggingface_hub from using the network."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _check_room(repository: str, size: int, cache: Path) -> None:
    """Raise ModelError if the disk has too little free space for the files that are still missing."""
    folder = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    present = sum(blob.stat().st_size for blob in folder.iterdir() if blob.is_file()) if folder.is_dir() else 0
    disk = next(path for path in (cache, *cache.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(disk).free
    if size - present > free:
        missing = size - present
        raise ModelError(
            f"{repository} needs {size_text(missing)} to download, and {disk} has {size_text(free)} free",
            step="free some space, or set HF_HOME to a larger disk, and pull again; complete files are kept",
        )


def _check(repository: str) -> None:
    if not is_repository(repository):
        raise UsageError(f"{repository[:100]!r} is not a repository on the hub", step="give OWNER/NAME")


def explained_error(repository: str, error: Exception) -> ModelError:
    """Return a ModelError that explains why a request to the hub failed."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{repository} requires you to accept its terms on the hub",
            step="accept them, run `hf auth login`, and pull again",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"The hub has no repository {repository}, or you have no access to it",
            step="check the name, or run `hf auth login`",
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(
            f"{repository} has no such revision", step="leave it out to get the newest", settings=("revision",)
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ModelError(
            f"The disk is full and has no room for {repository}",
            step="free some space, or set HF_HOME to a larger disk, and pull again; complete files are kept",
        )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(
        f"{repository} could not be fetched ({reason})",
        step="check the connection and pull again; complete files are kept",
    )
