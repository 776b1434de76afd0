"""A Hugging Face checkpoint: a folder of safetensors, whole or in shards, with its config.json.

Nothing in the folder is run, no template is rendered, and no link leads out of it, but for those of the Hugging Face
cache, whose snapshots are links into the blobs of their repository, or of the whole cache.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.safetensors_file import SafetensorsFile, Tensor
from ecellm_lite.convert.source import Input
from ecellm_lite.errors import ModelError

MAX_JSON_BYTES = 64 << 20
MAX_SHARDS = 1024

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# What a model's shape and vocabulary are read from, as far as a checkpoint has it.
_DESCRIBING = (
    "config.json",
    _INDEX,
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


class Checkpoint:
    """An open checkpoint: its `config`, and its tensors by name; a context manager.

    Raises ModelError where there is none in the folder, or its parts do not fit each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ExitStack()
        if not folder.is_dir():
            raise ModelError(f"{folder} is no folder: give that of a checkpoint, with its config.json.")
        self._described = [found for name in _DESCRIBING if (found := _state(folder / name))]
        self.config = read_json(inside(folder, "config.json"))
        try:
            self.files = [self._files.enter_context(SafetensorsFile(path)) for path in self._paths()]
            self._where = self._placed()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def tensor(self, name: str) -> Tensor:
        """Return where a tensor lies, and of which shape and type it is."""
        return self._file(name).tensors[name]

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor; see SafetensorsFile.rows."""
        found: NDArray[Any] = self._file(name).rows(name, first, count)
        return found

    def values(self, name: str) -> NDArray[np.float32]:
        """Return a whole tensor, a small one, as float32."""
        return widened(self.rows(name), self.tensor(name).dtype)

    def check_unchanged(self) -> None:
        """Raise ModelError if a file was written to since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def inputs(self) -> list[Input]:
        """Return the files of weights, as they were when they were opened."""
        return [Input(file.path, file.size, file.changed) for file in self.files]

    def described(self) -> list[Input]:
        """Return the files beside the weights, such as config.json, as they were when the checkpoint was opened."""
        return list(self._described)

    def _file(self, name: str) -> SafetensorsFile:
        if name not in self._where:
            raise ModelError(f"{self.folder} has no tensor {name!r}: it is no complete checkpoint of its architecture.")
        return self._where[name]

    def _paths(self) -> list[Path]:
        if (self.folder / _WHOLE).exists():
            return [inside(self.folder, _WHOLE)]
        if (self.folder / _INDEX).exists():
            self._said = _index(inside(self.folder, _INDEX))
            shards = sorted(set(self._said.values()))
            if len(shards) > MAX_SHARDS:
                raise ModelError(f"{self.folder / _INDEX} names {len(shards):,} files: {MAX_SHARDS:,} is the most.")
            return [inside(self.folder, shard) for shard in shards]
        pickled = sorted(path.name for path in self.folder.glob("*") if path.suffix in {".bin", ".pt", ".pth"})
        if pickled:
            raise ModelError(
                f"{self.folder} holds its weights as {pickled[0]}, a pickle, which can run code when it is read: "
                "make safetensors of it on a machine you can lose, with transformers: "
                "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW, safe_serialization=True)."
            )
        raise ModelError(f"{self.folder} has no {_WHOLE} and no {_INDEX}: give the folder of a checkpoint.")

    def _placed(self) -> dict[str, SafetensorsFile]:
        where: dict[str, SafetensorsFile] = {}
        for file in self.files:
            for name in file.tensors:
                if name in where:
                    raise ModelError(f"The tensor {name!r} is in {where[name].path.name} and in {file.path.name}.")
                where[name] = file
        said = getattr(self, "_said", None)
        if said is not None:
            for name in sorted(said.keys() ^ where.keys()):
                kind = "is not in the index" if name in where else "is in the index and in none of its files"
                raise ModelError(f"{self.folder}: the tensor {name!r} {kind}. Get the checkpoint again.")
            for name, shard in said.items():
                if where[name].path.name != shard:
                    raise ModelError(
                        f"{self.folder}: the index has {name!r} in {shard}, but it is in {where[name].path.name}. "
                        "Get the checkpoint again."
                    )
        return where


def widened(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Return weights as float32, exactly; bfloat16 comes as its bits."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a checkpoint's folder, or raise ModelError for one that leads out of it."""
    if not name or "/" in name or "\\" in name or name in {".", ".."} or "\0" in name:
        raise ModelError(f"{folder} names the file {name[:80]!r}, which is not one of the folder.")
    path = folder / name
    try:
        home, found = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):  # a link to itself, or a name that no file can have
        raise ModelError(f"{name[:80]!r} in {folder} is no file that can be reached: get the folder again.") from None
    if found.parent != home and not _is_cached(home, found):
        raise ModelError(f"{path} is a link out of its folder, to {found}: copy the file there.")
    return path


def _is_cached(home: Path, found: Path) -> bool:
    """Whether a file is where the hub's cache keeps what a snapshot links to.

    That is CACHE/models--X/blobs/ETAG, which from huggingface_hub 2 on can be a link of its own, to
    CACHE/blobs/HA/HASH, that all repositories share: HASH in 64 hexadecimal digits, of which HA are the first two.
    """
    repository = home.parent.parent
    if home.parent.name != "snapshots":
        return False
    shared = re.fullmatch("[0-9a-f]{64}", found.name) and found.parent == repository.parent / "blobs" / found.name[:2]
    return found.parent == repository / "blobs" or bool(shared)


def read_bytes(path: Path, most: int) -> bytes:
    """Return what a small file of a checkpoint holds, or raise ModelError; `most` is the most bytes it may have."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path} is no regular file.")
            held: bytes = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): a checkpoint has one.") from None
    if len(held) > most:
        raise ModelError(f"{path} has more than {most:,} bytes, which no such file needs.")
    return held


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint, or raise ModelError."""
    try:
        found = json.loads(read_bytes(path, most).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON ({error}): get it again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object: get it again.")
    return found


def _state(path: Path) -> Input | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return Input(path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _index(path: Path) -> Mapping[str, str]:
    found = read_json(path).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        raise ModelError(f"{path} has no weight_map from tensors to files: get it again.")
    return found
