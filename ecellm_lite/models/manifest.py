"""A manifest: a JSON file beside a model's file, with the model file's hash, envelope and origin."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ecellm_lite.documents import read_document
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import replacing

FORMAT = 1
LARGEST = 1 << 20  # bytes; a manifest is about a page


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's manifest.

    `file`: the name of the model's file.
    `size`: the file's size in bytes.
    `source`: where the model comes from, in words.
    """

    name: str
    file: str
    size: int
    sha256: str
    envelope: str
    source: str
    licence: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def encode(self) -> bytes:
        """Return the manifest as JSON. If a file name has characters that are not valid Unicode, they become `?`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "replace")

    def write(self, path: Path) -> None:
        """Write the manifest atomically."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.encode())


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file. Raises ModelError if it is invalid or cannot be read."""
    try:
        manifest = read_document(Manifest, path, largest=LARGEST, formats=(FORMAT,))
        if not re.fullmatch("[0-9a-f]{64}", manifest.sha256):
            raise ValueError(f"sha256 is {manifest.sha256[:80]!r}")
        json.dumps(asdict(manifest), ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be printed
        if Path(manifest.file).name != manifest.file or manifest.file in {"", ".", ".."}:
            raise ValueError(f"file is {manifest.file!r}, which is not a name in the same folder")
        get_envelope(manifest.envelope)
    except OSError as error:
        raise ModelError(
            f"The manifest {path} cannot be read ({error.strerror})", step="check its permissions"
        ) from None
    except (ValueError, UsageError) as error:
        message = f"The manifest {path} is damaged ({error})"
        raise ModelError(message, step="remove the model and add it again") from None
    return manifest
