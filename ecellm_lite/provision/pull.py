"""Puts a published model, or one from the Hugging Face hub, into the store: downloads, converts and checks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ecellm_lite.convert.conversion import prepared
from ecellm_lite.convert.mixture import DEFAULTS, unknown_file_type
from ecellm_lite.convert.pipeline import ConversionProgress
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.writer import NotResumableError
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import CATALOGUE, CatalogueModel, catalogue_entry
from ecellm_lite.models.hub import download, is_repository
from ecellm_lite.models.hub import drop as drop_download
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store
from ecellm_lite.provision.verification import Adapters, check_against, failures

FILE_TYPE = "Q4_K_M"

Progress = Callable[[ConversionProgress], None]


def pull(
    model: str,
    *,
    file_type: str | None = None,
    adapters: Adapters = (),
    name: str | None = None,
    envelope: str | None = None,
    revision: str | None = None,
    drop: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Put a checked model into the store, and return its manifest. After an error, nothing is stored.

    `model`: a published model's name, optionally with a file type after a colon, or a repository on the hub.
    `file_type`: the default is the type after the colon, or else FILE_TYPE.
    `adapters`: folders or repositories, each with the factor by which its change is multiplied.
    `name`: the model's name in the store.
    `drop`: whether to delete the download afterwards.
    `quiet`: whether to hide the download's progress bars.

    After an interruption, a second call continues. Complete files are not downloaded again.

    Raises UsageError for invalid arguments, before anything is downloaded. Raises ModelError if the download, the
    conversion or a check fails.
    """
    entry, repository, chosen_type = _identify(model, file_type)
    if chosen_type not in DEFAULTS:
        raise unknown_file_type(chosen_type)
    chosen_envelope = envelope or (entry.envelope if entry else None)
    if chosen_envelope is None:
        raise UsageError(
            f"It is not known which envelope {repository} was trained with",
            step=f"give the envelope, {' or '.join(ENVELOPES)}",
            settings=("envelope",),
        )
    for path, _ in adapters:
        if not path.exists() and not is_repository(path.as_posix()):
            raise UsageError(
                f"There is no adapter {path}",
                step="give its folder, or a repository as OWNER/NAME",
                settings=("adapters",),
            )
    stored_name = name or f"{entry.name if entry else repository.partition('/')[2]}:{chosen_type}"
    with Store().placing(stored_name) as place:
        folder = download(repository, revision, quiet=quiet)
        fetched = tuple((_fetched(path, quiet=quiet), weight) for path, weight in adapters)
        # A model exists once its manifest does; until the model is checked, the manifest has another name.
        unchecked = place.manifest.with_name("unchecked.json")
        request = ConversionRequest(
            base=str(folder),
            target=place.file,
            file_type=chosen_type,
            adapters=fetched,
            envelope=chosen_envelope,
            name=stored_name,
            manifest=unchecked,
            licence=entry.licence if entry else "",
            base_name=f"{repository} {folder.name[:12]}",
        )
        manifest = _convert(request, threads or os.cpu_count() or 1, progress)
        if problems := failures(check_against(place.file, folder, fetched)):
            place.discard()
            raise ModelError(f"The model made from {repository} differs from it ({problems})", step="report this")
        unchecked.replace(place.manifest)
        if drop:
            own = [path for path, _ in adapters]
            for download_folder in [folder, *(path for path, _ in fetched if path not in own)]:
                drop_download(download_folder)
        return manifest


def _identify(model: str, file_type: str | None) -> tuple[CatalogueModel | None, str, str]:
    """Return the published model (or None), the repository, and the file type."""
    name, _, suffix = model.partition(":")
    if suffix and file_type and suffix.upper() != file_type.upper():
        raise UsageError(
            f"{model[:100]!r} and {file_type} are two file types", step="give one of them", settings=("file_type",)
        )
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOGUE.values()}
    entry = by_hub_id.get(name.lower()) if "/" in name else catalogue_entry(name)
    repository = entry.hub_id if entry else name
    if not is_repository(repository):
        raise UsageError(
            f"{model[:100]!r} is neither a published model nor a repository", step="give eCeLLM-M, or OWNER/NAME"
        )
    return entry, repository, (file_type or suffix or FILE_TYPE).upper()


def _convert(request: ConversionRequest, threads: int, progress: Progress | None) -> Manifest:
    with prepared(request) as conversion:
        try:
            return conversion.run(threads=threads, resume=True, progress=progress)
        except NotResumableError:
            # An interrupted pull with other options, inputs or versions left a file behind.
            return conversion.run(threads=threads, progress=progress)


def _fetched(path: Path, *, quiet: bool) -> Path:
    return path if path.exists() else download(path.as_posix(), quiet=quiet)
