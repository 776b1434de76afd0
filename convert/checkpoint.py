"""A Hugging Face checkpoint: a folder with a config.json and weights in one or several safetensors files (shards).

No code in the folder is run, and no template is rendered. Links out of the folder are refused. The only exception is
the Hugging Face cache, where the files of a snapshot are links to other folders of the cache.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.reading import damaged, inside, read_json
from ecellm_lite.convert.safetensors_file import SafetensorsFile
from ecellm_lite.convert.source import InputFile, SourceTensor
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels.floats import widened

MAX_SHARDS = 1024

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# The files that describe a model's shape and vocabulary, if a checkpoint has them.
_CONFIGURATION = (
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
    """An open checkpoint: its configuration, and its tensors by name. It is a context manager.

    Raises ModelError if the folder has no checkpoint, or if its files contradict each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open_files = ExitStack()
        if not folder.is_dir():
            raise ModelError(
                f"{folder} is not a folder", step="give a checkpoint's folder, with its config.json", file=str(folder)
            )
        self._configuration = [file for name in _CONFIGURATION if (file := _input_file(folder / name))]
        self.config = read_json(inside(folder, "config.json"))
        try:
            index = None if self._has(_WHOLE) else self._index()
            paths = [inside(folder, _WHOLE)] if index is None else self._shards(index)
            self.files = [self._open_files.enter_context(self._opened(path)) for path in paths]
            self._tensor_files = self._by_tensor(index)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._open_files.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensor_files)

    def __contains__(self, name: object) -> bool:
        return name in self._tensor_files

    def tensor(self, name: str) -> SourceTensor:
        """Return a tensor's type, shape and position in its file."""
        return self.file_of(name).tensors[name]

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return `count` rows of a tensor, or all remaining rows, beginning with row `first`."""
        return self.file_of(name).rows(name, first, count)

    def values(self, name: str) -> NDArray[np.float32]:
        """Return a whole tensor as float32. This is meant for small tensors."""
        return widened(self.rows(name), self.tensor(name).type)

    def check_unchanged(self) -> None:
        """Raise ModelError if a file was changed since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def inputs(self) -> list[InputFile]:
        """Return the weight files, with the sizes and modification times that they had when they were opened."""
        return [file.input for file in self.files]

    def configuration(self) -> list[InputFile]:
        """Return the files that describe the weights, such as config.json.

        Their sizes and modification times are those that they had before they were read.
        """
        return list(self._configuration)

    def file_of(self, name: str) -> SafetensorsFile:
        """Return the file that holds a tensor. Raises ModelError if there is no such tensor."""
        if name not in self._tensor_files:
            raise damaged(self.folder, f"has no tensor {name!r}, which its architecture needs")
        return self._tensor_files[name]

    def _has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _opened(self, path: Path) -> SafetensorsFile:
        return SafetensorsFile(path)

    def _index(self) -> Mapping[str, str]:
        """Return the name of the file that holds each tensor, from the index model.safetensors.index.json."""
        if not (self.folder / _INDEX).exists():
            raise self._no_weights()
        path = inside(self.folder, _INDEX)
        shards = read_json(path).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
            raise damaged(path, "has no weight_map from tensors to files")
        return shards

    def _shards(self, index: Mapping[str, str]) -> list[Path]:
        shards = sorted(set(index.values()))
        if len(shards) > MAX_SHARDS:
            raise damaged(self.folder / _INDEX, f"names {len(shards):,} files, more than {MAX_SHARDS:,}")
        return [inside(self.folder, shard) for shard in shards]

    def _no_weights(self) -> ModelError:
        pickles = sorted(path.name for path in self.folder.glob("*") if path.suffix in {".bin", ".pt", ".pth"})
        if pickles:
            return ModelError(
                f"{self.folder} holds its weights as {pickles[0]}, a pickle, which can run code when it is read",
                step="save them as safetensors on a machine you can lose, with transformers: "
                "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW, safe_serialization=True)",
                file=str(self.folder / pickles[0]),
            )
        return ModelError(
            f"{self.folder} has neither {_WHOLE} nor {_INDEX}",
            step="give a checkpoint's folder",
            file=str(self.folder),
        )

    def _by_tensor(self, index: Mapping[str, str] | None) -> dict[str, SafetensorsFile]:
        """Return the open file of each tensor. Raises ModelError if the index and the files contradict each other."""
        files: dict[str, SafetensorsFile] = {}
        for file in self.files:
            for name in file.tensors:
                if name in files:
                    raise damaged(file.path, f"has the tensor {name!r}, which is also in {files[name].path.name}")
                files[name] = file
        if index is not None:
            for name in sorted(index.keys() ^ files.keys()):
                place = "that its index does not name" if name in files else "in its index but in none of its files"
                raise damaged(self.folder, f"has a tensor {name!r} {place}")
            for name, shard in index.items():
                if files[name].path.name != shard:
                    raise damaged(
                        self.folder, f"has {name!r} in {files[name].path.name}, although its index names {shard}"
                    )
        return files


def _input_file(path: Path) -> InputFile | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return InputFile.of(path, status) if stat.S_ISREG(status.st_mode) else None
