"""Makes the manifest of a conversion: the file's hash and types, its inputs, and the versions of the software."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite import ggml, kernels
from ecellm_lite.convert.merging import WeightedAdapter
from ecellm_lite.convert.pipeline import WrittenFile
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.reading import changed_meanwhile, unreadable
from ecellm_lite.convert.source import InputFile
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.version import __version__


def record(
    plan: Plan,
    written: WrittenFile,
    target: Path,
    *,
    name: str,
    envelope: str,
    base: str,
    licence: str = "",
    inputs: Sequence[InputFile],
    configuration: Sequence[InputFile] = (),
    adapters: Sequence[WeightedAdapter] = (),
    options: Mapping[str, Any],
    seconds: float,
    hash_inputs: bool = False,
) -> Manifest:
    """Return the manifest of a written file. The manifest has the sha256 of each adapter's files.

    With `hash_inputs`, it also has the sha256 of every other input.

    - `inputs`: the files with the weights.
    - `configuration`: files such as config.json and the vocabulary.

    Paths are left out, because the manifest may be shared with the file. Raises ModelError if an input has changed
    since it was read.
    """
    additions = "".join(f" + {weighted.weight:g} * {weighted.adapter.path.resolve().name}" for weighted in adapters)
    details = {
        "file_type": plan.file_type,
        "tensor_types": plan.types,
        "bits_a_weight": round(plan.bits_per_weight, 3),
        "quantizer": kernels.name(),
        "options": dict(options),
        "seconds": round(seconds, 1),
        "inputs": [_entry(file, hash_inputs) for file in inputs],
        "configuration": [_entry(file, hash_inputs) for file in configuration],
        "adapters": [
            {
                "name": weighted.adapter.path.resolve().name,
                "weight": weighted.weight,
                "base_model": weighted.adapter.base_model,
                # They are small, and `verify` compares them with the adapters that it is given.
                "files": [_entry(file, hashed=True) for file in weighted.adapter.inputs],
            }
            for weighted in adapters
        ],
        "versions": {
            "ecellm-lite": __version__,
            "llama-cpp-python": ggml.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if plan.lossy_source:
        # A quantized base had already lost precision, so the file is further from the trained model.
        details["lossy_base"] = plan.lossy_source
    source = f"{base}{additions} as {plan.file_type}"
    return Manifest(name, target.name, written.size, written.sha256, envelope, source, licence, details)


def _entry(file: InputFile, hashed: bool) -> dict[str, Any]:
    if file.sha256:  # checked when the file arrived from the hub, whose cache names such a file by it
        return {"name": file.path.name, "size": file.size, "etag": file.sha256, "sha256": file.sha256}
    try:
        changed = datetime.fromtimestamp(file.changed / 1e9, timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        # A file system can store times that datetime cannot.
        changed = f"{file.changed / 1e9:.0f} s since 1970"
    entry: dict[str, Any] = {"name": file.path.name, "size": file.size, "changed": changed}
    # The hub's cache names a blob by its etag; the blob can itself be a link to one that repositories share.
    blob = file.path.readlink() if file.path.is_symlink() else file.path
    if blob.parent.name == "blobs":
        entry["etag"] = blob.name
    if hashed:
        try:
            entry["sha256"] = sha256_of(file.path)
            current = InputFile.of(file.path, file.path.stat())
        except OSError as error:
            raise unreadable(file.path, error) from None
        if current != file:
            raise changed_meanwhile(file.path)
        if re.fullmatch("[0-9a-f]{64}", entry.get("etag", "")) and entry["sha256"] != entry["etag"]:
            raise ModelError(
                f"{file.path.name} has the sha256 {entry['sha256']}, but {entry['etag']} on the hub",
                step=f"delete {file.path.resolve()} and pull again",
                file=str(file.path),
            )
    return entry
