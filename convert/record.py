"""What a manifest says of a conversion: the file's hash and types, what it was made of, and by what."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite import ggml, kernels
from ecellm_lite.convert.merging import Weighted
from ecellm_lite.convert.pipeline import Written
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.source import Input
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.version import __version__


def manifest_path(target: Path) -> Path:
    """Return where the manifest of a file that is in no store lies: beside it."""
    return target.with_name(f"{target.name}.manifest.json")


def record(
    plan: Plan,
    written: Written,
    target: Path,
    *,
    name: str,
    envelope: str,
    base: str,
    licence: str = "",
    inputs: Sequence[Input],
    described: Sequence[Input] = (),
    adapters: Sequence[Weighted] = (),
    options: Mapping[str, Any],
    seconds: float,
    hashed: bool = False,
) -> Manifest:
    """Return the manifest of a file that was written; `hashed` adds each input's sha256.

    `described` are the files beside the weights, such as config.json and the vocabulary's.
    Paths are not in it, as it may travel with the file. Raises ModelError if an input has changed since it was read.
    """
    added = "".join(f" + {one.weight:g} * {one.adapter.path.resolve().name}" for one in adapters)
    details = {
        "file_type": plan.file_type,
        "tensor_types": plan.types,
        "bits_a_weight": round(plan.bits_a_weight, 3),
        "quantizer": kernels.name(),
        "options": dict(options),
        "seconds": round(seconds, 1),
        "inputs": [_described(one, hashed) for one in inputs],
        "configuration": [_described(one, hashed) for one in described],
        "adapters": [
            {
                "name": one.adapter.path.resolve().name,
                "weight": one.weight,
                "base_model": one.adapter.base_model,
                "files": [_described(file, hashed) for file in one.adapter.inputs],
            }
            for one in adapters
        ],
        "versions": {
            "ecellm-lite": __version__,
            "llama-cpp-python": ggml.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if plan.lossy_source:
        # The base had lost something before: what is made of it is further from the model as it was trained.
        details["lossy_base"] = plan.lossy_source
    source = f"{base}{added} as {plan.file_type}"
    return Manifest(name, target.name, written.size, written.sha256, envelope, source, licence, details)


def _described(file: Input, hashed: bool) -> dict[str, Any]:
    try:
        changed = datetime.fromtimestamp(file.changed / 1e9, timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        # A file system may hold times that the calendar does not reach.
        changed = f"{file.changed / 1e9:.0f} s since 1970"
    said: dict[str, Any] = {"name": file.path.name, "size": file.size, "changed": changed}
    # The hub's cache names a file by its etag, which can be a link itself, to one that repositories share.
    linked = file.path.readlink() if file.path.is_symlink() else file.path
    if linked.parent.name == "blobs":
        said["etag"] = linked.name
    if hashed:
        try:
            said["sha256"] = sha256_of(file.path)
            status = file.path.stat()
        except OSError as error:
            raise ModelError(f"{file.path} cannot be hashed ({error.strerror}): it is not there any more.") from None
        if (status.st_size, status.st_mtime_ns) != (file.size, file.changed):
            raise ModelError(f"{file.path} was changed meanwhile: start again when it is complete.")
    return said
