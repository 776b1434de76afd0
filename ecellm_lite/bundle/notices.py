"""Lists every component of a bundle with its licence (CycloneDX 1.6, JSON), and collects the licence texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from ecellm_lite.bundle.wheels import Wheel, is_licence, normalized
from ecellm_lite.bundle.writer import Source
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.version import __version__

FOLDER = "licences"

_LONGEST = 80  # characters; the field often holds a whole text


def notices(manifest: Manifest, wheels: Sequence[Wheel], program: Path | None) -> list[Source]:
    """Return files for a bundle: a list of its components, and their licence texts.

    The components are the model, the wheels, and the packages in the standalone program. The folders *.dist-info
    of the program say which packages it has.
    """
    texts = [
        Source(f"{FOLDER}/{wheel.path.name.removesuffix('.whl')}/{path.partition('/')[2]}", text)
        for wheel in wheels
        for path, text in wheel.texts
    ]
    packages = [_package(wheel.metadata, sha256_of(wheel.path)) for wheel in wheels]
    for path in sorted(program.rglob("*.dist-info/METADATA")) if program else ():
        packages.append(_package(BytesParser().parsebytes(path.read_bytes())))
        for text in path.parent.rglob("*"):
            if text.is_file() and is_licence(text.relative_to(path.parent.parent).as_posix()):
                name = text.relative_to(path.parent).as_posix()
                texts.append(Source(f"{FOLDER}/{path.parent.name.removesuffix('.dist-info')}/{name}", text))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [{"type": "application", "name": "ecellm-lite", "version": __version__}]}},
        "components": [_model(manifest), *packages],
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


def _package(metadata: Message, sha256: str | None = None) -> dict[str, Any]:
    project, version = normalized(str(metadata.get("Name", ""))), str(metadata.get("Version", ""))
    hashes = {"hashes": [{"alg": "SHA-256", "content": sha256}]} if sha256 else {}
    return {
        "type": "library",
        "name": project,
        "version": version,
        "purl": f"pkg:pypi/{project}@{version}",
        **hashes,
        **_licences(_licence(metadata)),
    }


def _licence(metadata: Message) -> str:
    """Return a package's licence from its metadata: License-Expression, else License, else the classifiers, else ""."""
    expression, text = metadata.get("License-Expression"), metadata.get("License")
    if expression or (text and len(text) <= _LONGEST and "\n" not in text):
        return str(expression or text)
    classifiers = [
        classifier for classifier in metadata.get_all("Classifier", []) if classifier.startswith("License ::")
    ]
    return ", ".join(classifier.rpartition(":: ")[2] for classifier in classifiers)


def _licences(name: str) -> dict[str, Any]:
    return {"licenses": [{"license": {"name": name}}]} if name else {}
