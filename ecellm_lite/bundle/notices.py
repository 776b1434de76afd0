"""The list of everything in a bundle with its licence (CycloneDX 1.6, JSON), and the texts of the licences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.bundle.wheels import Wheel, project_of
from ecellm_lite.bundle.writer import Source
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.version import __version__

FOLDER = "licences"


def notices(manifest: Manifest, wheels: Sequence[Wheel], distributions: Iterable[Path]) -> list[Source]:
    """Return the list and the texts as files for a bundle.

    `distributions` are the folders *.dist-info in a standalone program; their names are those of its packages.
    """
    texts = [
        Source(f"{FOLDER}/{wheel.path.name.removesuffix('.whl')}/{path.partition('/')[2]}", text)
        for wheel in wheels
        for path, text in wheel.texts
    ]
    components = [_model(manifest), *map(_package, wheels), *_frozen(distributions)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [{"type": "application", "name": "ecellm-lite", "version": __version__}]}},
        "components": components,
    }
    data = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace") + b"\n"
    return [Source(f"{FOLDER}/list.cdx.json", data), *texts]


def _model(manifest: Manifest) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "name": manifest.name,
        "version": manifest.sha256[:12],
        "description": manifest.source,
        "hashes": [{"alg": "SHA-256", "content": manifest.sha256}],
        **_licences(manifest.licence),
    }


def _package(wheel: Wheel) -> dict[str, Any]:
    project, version = project_of(wheel.path.name), str(wheel.metadata.get("Version", ""))
    return {
        "type": "library",
        "name": project,
        "version": version,
        "purl": f"pkg:pypi/{project}@{version}",
        "hashes": [{"alg": "SHA-256", "content": sha256_of(wheel.path)}],
        **_licences(wheel.licence),
    }


def _frozen(distributions: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the packages of a standalone program, named by its folders *.dist-info."""
    names = sorted(folder.name.removesuffix(".dist-info").rpartition("-") for folder in distributions)
    return [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name.lower()}@{version}"}
        for name, _, version in names
    ]


def _licences(name: str) -> dict[str, Any]:
    return {"licenses": [{"license": {"name": name}}]} if name else {}
