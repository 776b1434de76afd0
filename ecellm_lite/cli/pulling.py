"""What `ecellm-lite models pull` does: fetch, convert, check, store."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.cli.convert import progress_bar
from ecellm_lite.cli.verify import against
from ecellm_lite.convert.conversion import Request, prepared
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import catalogue_entry
from ecellm_lite.models.hub import download, is_repository
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store


@dataclass(frozen=True, slots=True)
class Pull:
    """What is asked for; see the command's options."""

    model: str
    file_type: str
    adapters: tuple[tuple[Path, float], ...] = ()
    name: str | None = None
    envelope: str | None = None
    revision: str | None = None
    drop: bool = False


def pulled(asked: Pull, *, threads: int | None = None, quiet: bool = False) -> Manifest:
    """Return the manifest of the model, which is in the store then, whole and checked, or not at all."""
    entry = None if "/" in asked.model else catalogue_entry(asked.model)
    repository = entry.hub_id if entry else asked.model
    if not is_repository(repository):
        raise UsageError(
            f"{asked.model[:100]!r} is no published model and no repository: give eCeLLM-M, or OWNER/NAME."
        )
    name = asked.name or f"{entry.name if entry else repository.partition('/')[2]}:{asked.file_type}"
    store = Store()
    target, manifest = store.new_place(name)
    folder = download(repository, asked.revision, quiet=quiet)
    adapters = tuple((_adapter(path, quiet=quiet), weight) for path, weight in asked.adapters)
    request = Request(
        base=str(folder),
        target=target,
        file_type=asked.file_type,
        adapters=adapters,
        envelope=asked.envelope or (entry.envelope if entry else None),
        name=name,
        manifest=manifest,
    )
    with prepared(request) as conversion, progress_bar(hidden=quiet) as advance:
        made = conversion.run(threads=threads or os.cpu_count() or 1, resume=True, progress=advance)
    wrong = [one for one in against(target, folder, adapters) if one.passed is False]
    if wrong:
        store.remove(name)
        said = "; ".join(f"{one.name}: {one.said}" for one in wrong)
        raise ModelError(f"What was made of {repository} is not what it should be ({said}): please report this.")
    if asked.drop:
        # models--OWNER--NAME/snapshots/COMMIT
        shutil.rmtree(folder.parents[1])
    return made


def _adapter(path: Path, *, quiet: bool) -> Path:
    named = path.as_posix()
    return path if path.exists() or not is_repository(named) else download(named, quiet=quiet)
