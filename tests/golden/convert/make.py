"""Makes the expected files of this folder: runs llama.cpp's own converter on the tests' small checkpoints.

    python -m tests.golden.convert.make LLAMA_CPP PYTHON

LLAMA_CPP is a source tree of llama.cpp, such as vendor/llama.cpp in the source distribution of llama-cpp-python. PYTHON
is a Python that can run convert_hf_to_gguf.py: it needs torch, transformers, sentencepiece, mistral-common and gguf.
The Python that runs this module needs the packages of the extra `dev`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf

from tests.support import decoder_checkpoints, tiny_checkpoints


def main(source: str, python: str) -> None:
    writers = {kind: module for module in (tiny_checkpoints, decoder_checkpoints) for kind in module.CONFIGS}
    for kind, module in writers.items():
        with tempfile.TemporaryDirectory() as name:
            folder = module.write_checkpoint(Path(name) / kind, kind)
            out = Path(name) / "out.gguf"
            options = ["--outtype", "f32", "--outfile", str(out)]
            command = [python, f"{source}/convert_hf_to_gguf.py", str(folder), *options]
            subprocess.run(command, check=True)
            description = described(out)
        path = Path(__file__).parent / f"{kind}.json"
        path.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", "utf-8")


def described(path: Path) -> dict[str, Any]:
    """Return a GGUF file's metadata, and the shape and hash of each tensor.

    An array in the metadata is described by the type of its items, their number and a hash.
    """
    reader = gguf.GGUFReader(path)
    metadata = {}
    for field in reader.fields.values():
        if field.name.startswith("GGUF."):
            continue
        value = field.contents()
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            value = [field.types[-1].name, len(value), digest(value)]
        metadata[field.name] = [field.types[0].name, value]
    tensors = {
        tensor.name: [[int(size) for size in reversed(tensor.shape)], hashlib.sha256(tensor.data.tobytes()).hexdigest()]
        for tensor in reader.tensors
    }
    return {"metadata": metadata, "tensors": dict(sorted(tensors.items()))}


def digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
