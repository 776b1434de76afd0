"""Puts a model from the catalogue or the Hugging Face hub into the store: downloads, converts and checks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ecellm_lite.convert.conversion import Conversion, prepare_conversion
from ecellm_lite.convert.mixture import DEFAULTS, unknown_file_type
from ecellm_lite.convert.pipeline import ConversionProgress
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.writer import NotResumableError, only_named
from ecellm_lite.envelopes import envelope_step, get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import CATALOGUE, CatalogueModel, catalogue_entry
from ecellm_lite.models.hub import download, is_offline, is_repository
from ecellm_lite.models.hub_file import HubFile, weight_files
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store
from ecellm_lite.provision.envelope import checked_envelope
from ecellm_lite.provision.verification import Adapters, check_against, failures

FILE_TYPE = "Q4_K_M"

Progress = Callable[[ConversionProgress], None]


class _DiffersError(ModelError):
    """A converted model differs from the original checkpoint."""


@dataclass(frozen=True, slots=True)
class Download:
    """A download that is about to start.

    `size`: the size of all weights, in bytes.
    `result`: the size of the converted file, in bytes.
    `largest`: the size of the largest shard, in bytes.
    `kept`: whether the weights stay in the hub's cache. If not, each shard is deleted after its conversion.
    """

    repository: str
    size: int
    result: int
    largest: int
    kept: bool


def pull(
    model: str,
    *,
    file_type: str | None = None,
    adapters: Adapters = (),
    name: str | None = None,
    envelope: str | None = None,
    revision: str | None = None,
    keep: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    progress: Progress | None = None,
    announce: Callable[[Download], None] | None = None,
) -> Manifest:
    """Download, convert, check and store a model, and return its manifest. After an error, nothing is stored.

    `model`: a repository on the hub, or a published model's name, which may end with a colon and a file type.
    `file_type`: the type of the weights in the store. By default, it is the type after the colon in `model`, or
      FILE_TYPE if there is none.
    `adapters`: LoRA adapters to merge. Each is a folder or a repository, and a number: with 0.5, half of the adapter's
      change is added to the model.
    `name`: the model's name in the store.
    `keep`: whether to keep the weights in the hub's cache. If not, each shard is deleted after its conversion, while
      the next shard is downloaded. The disk then needs room only for the model's file and 1.2 shards. Weights that were
      in the cache before the call are used and kept.
    `quiet`: whether to hide the download's progress bars.
    `announce`: called with the download's sizes, after all checks and before the weights are downloaded.

    After an interruption, a second call continues where the first stopped.

    A repository is refused before its weights are downloaded if its architecture is unknown or it has no safetensors
    files. It is also refused if its envelope is unknown and `envelope` is empty.

    Raises UsageError for invalid arguments, before anything is downloaded. Raises ModelError if the download, the
    conversion or a check fails.
    """
    entry, repository, chosen_type = _identify(model, file_type)
    if chosen_type not in DEFAULTS:
        raise unknown_file_type(chosen_type)
    known = envelope or (entry.envelope if entry and (entry.trained_on or not adapters) else "")
    if envelope:
        get_envelope(envelope)
    elif adapters and not known:
        raise UsageError(
            f"It is not known which envelope the adapters of {repository} were trained with",
            step=envelope_step(),
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
        folder = download(repository, revision, weights=False, quiet=quiet)
        weights = _missing(repository, folder)
        chosen_envelope = checked_envelope(repository, folder, known)
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
            weights=weights,
            details={"repository": repository, "revision": folder.name},
        )
        if request.weights and keep:
            with prepare_conversion(request) as conversion:
                conversion.plan.check_room(request.target)
                _announce(conversion, keep, announce)
            download(repository, revision, quiet=quiet)
            request = replace(request, weights=())

        def accept() -> None:
            if problems := failures(check_against(place.file, folder, fetched)):
                raise _DiffersError(
                    f"The model made from {repository} differs from it ({problems})", step="report this"
                )
            unchecked.replace(place.manifest)

        try:
            return _convert(request, threads or os.cpu_count() or 1, progress, announce, accept)
        except _DiffersError:
            place.discard()
            raise


def _missing(repository: str, folder: Path) -> tuple[HubFile, ...]:
    """Return the weight files to download: either all files of the repository or none.

    None need to be downloaded if `folder` already has all of them, or if HF_HUB_OFFLINE is set.
    """
    files = () if is_offline() else weight_files(repository, folder.name)
    paths = {folder / file.name: file.size for file in files}
    return () if all(path.is_file() and path.stat().st_size == size for path, size in paths.items()) else files


def _announce(conversion: Conversion, keep: bool, announce: Callable[[Download], None] | None) -> None:
    if announce:
        sizes = [file.size for file in conversion.source.inputs()]
        announce(Download(conversion.request.base_name, sum(sizes), conversion.plan.size, max(sizes), keep))


def _identify(model: str, file_type: str | None) -> tuple[CatalogueModel | None, str, str]:
    """Return the catalogue's entry for the model (or None), the repository, and the file type."""
    name, _, suffix = model.partition(":")
    if suffix and file_type and suffix.upper() != file_type.upper():
        raise UsageError(
            f"{model[:100]!r} names a file type other than {file_type}",
            step="give one of them",
            settings=("file_type",),
        )
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOGUE.values()}
    entry = by_hub_id.get(name.lower()) if "/" in name else catalogue_entry(name)
    repository = entry.hub_id if entry else name
    if not is_repository(repository):
        raise UsageError(
            f"{model[:100]!r} is neither a published model nor a repository", step="give eCeLLM-M, or OWNER/NAME"
        )
    return entry, repository, (file_type or suffix or FILE_TYPE).upper()


def _convert(
    request: ConversionRequest,
    threads: int,
    progress: Progress | None,
    announce: Callable[[Download], None] | None,
    accept: Callable[[], None],
) -> Manifest:
    with prepare_conversion(request) as conversion:
        if request.weights and not only_named(request.target):
            conversion.check_room()
            _announce(conversion, False, announce)
        run = partial(conversion.run, threads=threads, hash_inputs=True, progress=progress, accept=accept)
        try:
            return run(resume=True)
        except NotResumableError:
            # An interrupted pull with other options, inputs or versions left a file behind.
            return run()


def _fetched(path: Path, *, quiet: bool) -> Path:
    return path if path.exists() else download(path.as_posix(), quiet=quiet)
