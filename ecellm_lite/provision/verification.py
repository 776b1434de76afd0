"""Checks a converted model: its hash, its header, and whether its tokens and logits match the original checkpoint's.

The comparison itself is in convert/verify.py. This module runs the engine and supplies the prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.conversion import read_any_adapter
from ecellm_lite.convert.original import original_logits, original_tokenizer
from ecellm_lite.convert.request import checkpoint_folder
from ecellm_lite.convert.verify import TEXTS, CheckResult, check_logits, check_tokens
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.envelopes import ALPACA, Envelope, Prompt, get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.manifest import Manifest, read_manifest
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.resolve import envelope_of
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tensor_types import FILE_TYPES

Adapters = Sequence[tuple[Path, float]]

# The files of a checkpoint that are compared with a converted file.
_COMPARED = ("tokenizer.json", "tokenizer.model", "vocab.json", "*.safetensors")

# The file itself is compared, without anything that makes llama.cpp faster but less exact.
_EXACT = Settings(kv_type="f32", flash_attention="off", gpu_layers=0, context=2048, prompt_kernels="off")


def verify(file: Path, base: str | None = None, adapters: Adapters = ()) -> list[CheckResult]:
    """Check a file's hash and header and, if `base` is not None, its tokens and logits.

    The tokens and logits are compared with those of the original checkpoint `base` with `adapters`.

    Raises ModelError if the file is not a complete model, and UsageError if the base does not exist.
    """
    header = read_header(file)
    check_model(header)
    results = [_check_hash(file), CheckResult("header", True, f"{len(header.tensors)} tensors, all in place")]
    if base is None:
        return results
    folder = checkpoint_of(base)
    return [*results, *_check_adapters(file, adapters), *check_against(file, folder, adapters)]


def check_against(file: Path, folder: Path, adapters: Adapters = ()) -> list[CheckResult]:
    """Compare the tokens and logits of a converted file with those of its original checkpoint and adapters.

    If a comparison is not possible, for example because a package is not installed, its result has `passed` = None.
    """
    header = read_header(file)
    envelope = _envelope_of(header, file.name)
    backend = LlamaBackend(file, _EXACT)
    try:
        tokenize = original_tokenizer(folder)
        if tokenize is None:
            detail = f"no tokenizer was found in {folder.name}, or its package is missing: pip install"
            tokens = CheckResult("tokens", None, f"{detail} 'ecellm-lite[convert]'")
        else:
            # The original's tokenizer would read a chat form's control tokens in a text, so the texts have none.
            texts = [str(prompt) for prompt in _prompts(ALPACA)]
            tokens = check_tokens(backend.vocabulary.tokenize, tokenize, [*TEXTS, *texts])
        ids = [prompt.tokens(backend.vocabulary)[: backend.max_length] for prompt in _prompts(envelope)]
        try:
            pairs = zip(logits_of(backend, ids), original_logits(folder, adapters, ids), strict=True)
            logits = check_logits(pairs, _file_type(header))
        except ModelError as error:
            logits = CheckResult("logits", None, str(error))
    finally:
        backend.close()
    return [tokens, logits]


def failures(results: Sequence[CheckResult]) -> str:
    """Return a text that lists the failed checks with their details. The text is empty if no check failed."""
    return "; ".join(f"{result.name}: {result.detail}" for result in results if result.passed is False)


def checkpoint_of(base: str) -> Path:
    """Return the folder of the checkpoint that a converted file is compared with.

    `base` is the path of a folder, or the id of a repository in the hub's local cache. Raises UsageError if there is no
    such folder, and ModelError if it has neither a tokenizer nor weights.
    """
    folder = checkpoint_folder(base)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {base[:200]!r}", step="give a checkpoint's folder, or a cached hub id")
    if not any(path for pattern in _COMPARED for path in folder.glob(pattern)):
        message = f"{folder} has neither a tokenizer nor weights"
        raise ModelError(message, step="give the folder of the checkpoint", file=str(folder))
    return folder


def logits_of(backend: LlamaBackend, prompts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
    """Yield the model's logits for each prompt, as an array of shape (tokens of the prompt, vocabulary)."""
    for prompt in prompts:
        backend.clear()
        parts = []
        for start in range(0, len(prompt), backend.batch):
            tokens = prompt[start : start + backend.batch]
            [logits] = backend.decode([Chunk(0, start, tokens, len(tokens))])
            parts.append(np.atleast_2d(logits).copy())
        yield np.concatenate(parts)


def _manifest_of(file: Path) -> Manifest | str:
    """Return the manifest beside a file, or why there is none."""
    places = [path for path in (Path(f"{file}.manifest.json"), file.with_name("manifest.json")) if path.is_file()]
    if not places:
        return f"there is no manifest beside {file.name}"
    manifest = read_manifest(places[0])
    return manifest if manifest.file == file.name else f"{places[0].name} belongs to {manifest.file}"


def _check_hash(file: Path) -> CheckResult:
    manifest = _manifest_of(file)
    if isinstance(manifest, str):
        return CheckResult("hash", None, manifest)
    digest = sha256_of(file)
    if digest == manifest.sha256:
        return CheckResult("hash", True, f"sha256 {digest}")
    return CheckResult("hash", False, f"sha256 {digest}, but the manifest says {manifest.sha256}")


def _check_adapters(file: Path, adapters: Adapters) -> list[CheckResult]:
    """Check that `adapters` are those in the manifest: the same files (by sha256), merged with the same weights.

    Return no result if neither the manifest nor the caller names an adapter.
    """
    manifest = _manifest_of(file)
    if isinstance(manifest, str):
        return [CheckResult("adapters", None, manifest)] if adapters else []
    try:
        merged = Counter(
            (float(one["weight"]), frozenset(each["sha256"] for each in one["files"]))
            for one in manifest.details["adapters"]
        )
    except (KeyError, TypeError, ValueError):
        return [CheckResult("adapters", None, "the manifest has no sha256 of them")] if adapters else []
    named = Counter(
        (weight, frozenset(sha256_of(each.path) for each in read_any_adapter(path).inputs)) for path, weight in adapters
    )
    if not named and not merged:
        return []
    if named == merged:
        return [CheckResult("adapters", True, "they have the sha256 and the weights in the manifest")]
    names = ", ".join(f"{one.get('name')} with weight {one['weight']}" for one in manifest.details["adapters"])
    difference = "the adapters to compare have other bytes or weights" if named else "there are no adapters to compare"
    detail = f"the manifest names {names or 'none'}, but {difference}"
    return [CheckResult("adapters", False, detail)]


def _envelope_of(header: Header, name: str) -> Envelope:
    """Return the envelope that the model file names, or the Alpaca envelope if the file names none."""
    try:
        return get_envelope(envelope_of(header, [name]))
    except UsageError:
        return ALPACA


def _prompts(envelope: Envelope) -> list[Prompt]:
    questions = [task.question(task.example()) for task in TASKS.values()]
    return [envelope.wrap(question.instruction, question.text, question.options) for question in questions]


def _file_type(header: Header) -> str:
    number = header.metadata.get("general.file_type")
    return next((name for name, value in FILE_TYPES.items() if value == number), "Q4_0")
