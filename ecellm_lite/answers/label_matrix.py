"""Makes a matrix with the tokens of a set of labels once for each vocabulary, and saves it as a file in the store.

Tokenizing many labels takes seconds, but reading a saved matrix takes milliseconds. The file's name is a hash of
everything that the matrix depends on. If a file is missing or damaged, the matrix is made again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from ecellm_lite.answers.candidates import Candidates
from ecellm_lite.answers.decoding import Scene, Vocabulary
from ecellm_lite.home import home

# How many sets, and how many labels in all of them, are kept in memory for each vocabulary. 100,000 labels of 20 tokens
# take 8 MB. A task may have 100 attributes, each with a set of its own.
SETS = 256
LABELS = 800_000

# How many sets are kept as files.
FILES = 128

# A change of the files' format must change this number.
FORMAT = 1

_matrices: WeakKeyDictionary[Vocabulary, dict[str, Candidates]] = WeakKeyDictionary()
_lock = threading.Lock()


def label_matrix(
    digest: str, texts: Sequence[str], scene: Scene, *, after: str | None = None, lasting: bool = True
) -> Candidates:
    """Return the candidates for an answer: a matrix with the tokens of each text in `texts`.

    `digest` is a hash that identifies `texts`. The answer follows the text `after`, by default the prompt. The matrix
    is kept on disk if `lasting` is true and the vocabulary has an `identity` (the hash of its model's file). `lasting`
    is false for texts that come from a row. Disk errors are never raised.
    """
    vocabulary = scene.vocabulary
    place = f"{scene.form.prompt_end!r} {scene.form.lead!r}" if after is None else repr(after)
    matrix_name = f"{digest} {place} {scene.end}"
    with _lock:
        sets = _matrices.setdefault(vocabulary, {})
        candidates = sets.pop(matrix_name, None)
        if candidates is not None:
            sets[matrix_name] = candidates  # the last one is the most recently used
    if candidates is None:
        key = hashlib.sha256(f"{FORMAT} {matrix_name} {vocabulary.identity}".encode()).hexdigest()
        path = home() / "labels" / f"{key}.npz" if vocabulary.identity and lasting else None
        candidates = _read(path, len(texts), scene) if path else None
        if candidates is None:
            candidates = Candidates([scene.continuation(text, after=after) for text in texts], scene.end)
            if path:
                _write(path, candidates)
        with _lock:
            sets[matrix_name] = candidates
            while len(sets) > SETS or (len(sets) > 1 and sum(len(each.order) for each in sets.values()) > LABELS):
                del sets[next(iter(sets))]
    return candidates


def forget(vocabulary: Vocabulary) -> None:
    """Remove a vocabulary's matrices from memory.

    When they are needed again, they are read from their files or made again.
    """
    _matrices.pop(vocabulary, None)


def _read(path: Path, count: int, scene: Scene) -> Candidates | None:
    try:
        with np.load(path, allow_pickle=False) as file:  # a ZIP archive, so damage fails its checksum
            matrix, order = file["matrix"], file["order"]
        os.utime(path)  # the least recently used files are removed first
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if matrix.dtype != np.int32 or matrix.ndim != 2 or len(matrix) != count or matrix.max() >= scene.vocabulary.size:
        return None
    if not np.array_equal(np.sort(order), np.arange(count)):
        return None
    return Candidates.restored(matrix, order.tolist(), scene.end)


def _write(path: Path, candidates: Candidates) -> None:
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                np.savez(file, matrix=candidates.matrix, order=np.array(candidates.order))
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
        files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
        for oldest in files[FILES:]:
            oldest.unlink(missing_ok=True)
