"""What is known of a model's file: its hash, its envelope, and where it came from. A JSON file beside it."""

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
LARGEST = 1 << 20  # bytes: a manifest is a page, and a larger file is not one


@dataclass(frozen=True, slots=True)
class Manifest:
    """`file` is the model's file beside the manifest, `size` in bytes, `source` says in words what it is made of."""

    name: str
    file: str
    size: int
    sha256: str
    envelope: str
    source: str
    licence: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, path: Path) -> None:
        """Write the manifest; it is there whole or not at all. What is no text in the name of a file becomes `?`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        with replacing(path) as temporary:
            temporary.write_bytes(text.encode("utf-8", "replace"))


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file; raises ModelError with what is wrong in it, or why it cannot be read."""
    try:
        manifest = read_document(Manifest, path, largest=LARGEST, formats=(FORMAT,))
        if not re.fullmatch("[0-9a-f]{64}", manifest.sha256):
            raise ValueError(f"sha256 is {manifest.sha256[:80]!r}")
        json.dumps(asdict(manifest), ensure_ascii=False).encode("utf-8")  # half a surrogate pair cannot be printed
        if Path(manifest.file).name != manifest.file or manifest.file in {"", ".", ".."}:
            raise ValueError(f"file is {manifest.file!r}, which is not a name in the same folder")
        get_envelope(manifest.envelope)
    except OSError as error:
        raise ModelError(f"The manifest {path} cannot be read ({error.strerror}): check its rights.") from None
    except (ValueError, UsageError) as error:
        raise ModelError(f"The manifest {path} is damaged ({error}): remove the model and add it again.") from None
    return manifest
