"""What `ecellm-lite models pull` does: fetch, convert, check, store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.cli.convert import progress_bar
from ecellm_lite.cli.verify import against
from ecellm_lite.convert.conversion import prepared
from ecellm_lite.convert.mixture import DEFAULTS, unknown_file_type
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.writer import NotResumableError
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import CATALOGUE, CatalogueModel, catalogue_entry
from ecellm_lite.models.hub import download, drop, is_repository
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store

FILE_TYPE = "Q4_K_M"


@dataclass(frozen=True, slots=True)
class Pull:
    """What is asked for; see the command's options. `file_type`: by default the model's own suffix, else FILE_TYPE."""

    model: str
    file_type: str | None = None
    adapters: tuple[tuple[Path, float], ...] = ()
    name: str | None = None
    envelope: str | None = None
    revision: str | None = None
    drop: bool = False


def pulled(asked: Pull, *, threads: int | None = None, quiet: bool = False) -> Manifest:
    """Return the manifest of the model, which is in the store then, whole and checked, or not at all."""
    entry, repository, file_type = _understood(asked)
    # All that can be wrong is looked at before gigabytes are fetched.
    if file_type not in DEFAULTS:
        raise unknown_file_type(file_type)
    envelope = asked.envelope or (entry.envelope if entry else None)
    if envelope is None:
        raise UsageError(
            f"Nothing says which envelope {repository} was trained with: give --envelope alpaca or --envelope mistral."
        )
    for path, _ in asked.adapters:
        if not path.exists() and not is_repository(path.as_posix()):
            raise UsageError(f"There is no adapter {path}: give its folder, or a repository as OWNER/NAME.")
    name = asked.name or f"{entry.name if entry else repository.partition('/')[2]}:{file_type}"
    with Store().placing(name) as place:
        folder = download(repository, asked.revision, quiet=quiet)
        adapters = tuple((_adapter(path, quiet=quiet), weight) for path, weight in asked.adapters)
        # A model is in the store when its manifest is in its place: until it was checked, that is somewhere else.
        unchecked = place.manifest.with_name("unchecked.json")
        request = ConversionRequest(
            base=str(folder),
            target=place.file,
            file_type=file_type,
            adapters=adapters,
            envelope=envelope,
            name=name,
            manifest=unchecked,
            licence=entry.licence if entry else "",
            base_name=f"{repository} {folder.name[:12]}",
        )
        made = _converted(request, threads or os.cpu_count() or 1, quiet=quiet)
        wrong = [one for one in against(place.file, folder, adapters) if one.passed is False]
        if wrong:
            place.discard()
            said = "; ".join(f"{one.name}: {one.detail}" for one in wrong)
            raise ModelError(f"What was made of {repository} is not what it should be ({said}): please report this.")
        # What is whole and checked needs no more room to be there.
        unchecked.replace(place.manifest)
        if asked.drop:
            given = [path for path, _ in asked.adapters]
            for fetched in [folder, *(path for path, _ in adapters if path not in given)]:
                drop(fetched)
        return made


def _understood(asked: Pull) -> tuple[CatalogueModel | None, str, str]:
    """Return the published model, if it is one, the repository, and the file type."""
    model, _, suffix = asked.model.partition(":")
    chosen = (asked.file_type or suffix or FILE_TYPE).upper()
    if suffix and asked.file_type and suffix.upper() != asked.file_type.upper():
        raise UsageError(f"{asked.model[:100]!r} and --quant {asked.file_type} say two types: give one of them.")
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOGUE.values()}
    entry = by_hub_id.get(model.lower()) if "/" in model else catalogue_entry(model)
    repository = entry.hub_id if entry else model
    if not is_repository(repository):
        raise UsageError(
            f"{asked.model[:100]!r} is no published model and no repository: give eCeLLM-M, or OWNER/NAME."
        )
    return entry, repository, chosen


def _converted(request: ConversionRequest, threads: int, *, quiet: bool) -> Manifest:
    with prepared(request) as conversion, progress_bar(hidden=quiet) as advance:
        try:
            return conversion.run(threads=threads, resume=True, progress=advance)
        except NotResumableError:
            # An interrupted pull with other options, inputs or versions left a file.
            return conversion.run(threads=threads, progress=advance)


def _adapter(path: Path, *, quiet: bool) -> Path:
    return path if path.exists() else download(path.as_posix(), quiet=quiet)
