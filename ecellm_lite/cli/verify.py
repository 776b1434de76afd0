"""`ecellm-lite verify`: a converted file held against what it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.forms import WeightedFolder
from ecellm_lite.cli.options import debug_option
from ecellm_lite.errors import ModelError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.convert.verify import CheckResult
    from ecellm_lite.engine.llama import LlamaBackend


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    "base",
    metavar="BASE",
    help="The checkpoint that it was made of, a folder or a cached hub id: its tokens and predictions are compared.",
)
@click.option("--lora", "adapters", type=WeightedFolder(), multiple=True, help="An adapter that was merged in.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def verify(file: Path, base: str | None, adapters: tuple[tuple[Path, float], ...], as_json: bool) -> None:
    """Check a GGUF file: its hash, its header, and, against the original, its tokens and logits."""
    from ecellm_lite.models.gguf_header import read_header
    from ecellm_lite.models.model_check import check_model

    if adapters and base is None:
        raise UsageError("--lora says what was merged into the original: give --against as well.")
    header = read_header(file)
    check_model(header)
    findings = [_hash(file), _finding("header", True, f"{len(header.tensors)} tensors, all in place")]
    if base is not None:
        findings += against(file, checkpoint_of(base), adapters)
    passed = all(finding.passed is not False for finding in findings)
    if as_json:
        click.echo(json.dumps({"passed": passed, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            mark = {True: "ok", False: "WRONG", None: "not checked"}[finding.passed]
            click.echo(f"{finding.name:10}  {mark:11}  {finding.detail}")
    if not passed:
        wrong = "; ".join(f"{finding.name}: {finding.detail}" for finding in findings if finding.passed is False)
        raise ModelError(f"{file} is not what it should be ({wrong}): convert it again.")


def _hash(file: Path) -> CheckResult:
    from ecellm_lite.models.files import sha256_of
    from ecellm_lite.models.manifest import read_manifest

    beside = [path for path in (Path(f"{file}.manifest.json"), file.with_name("manifest.json")) if path.is_file()]
    if not beside:
        return _finding("hash", None, f"there is no manifest beside {file.name}")
    manifest = read_manifest(beside[0])
    if manifest.file != file.name:
        return _finding("hash", None, f"{beside[0].name} is of {manifest.file}")
    digest = sha256_of(file)
    same = digest == manifest.sha256
    said = f"sha256 {digest}" if same else f"sha256 {digest}, and the manifest says {manifest.sha256}"
    return _finding("hash", same, said)


def checkpoint_of(base: str) -> Path:
    """Return the folder of a checkpoint, its own or the hub's cache's; raises UsageError where there is none."""
    from ecellm_lite.convert.request import checkpoint_folder

    folder = checkpoint_folder(base)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {base[:200]!r}: give that of a checkpoint, or a cached hub id.")
    return folder


def against(file: Path, folder: Path, adapters: tuple[tuple[Path, float], ...]) -> list[CheckResult]:
    """Return what comes of holding a file against the checkpoint and the adapters that it was made of."""
    from ecellm_lite.convert import original as source
    from ecellm_lite.convert import verify as comparison
    from ecellm_lite.engine.llama import LlamaBackend, Settings
    from ecellm_lite.envelopes import get_envelope
    from ecellm_lite.models.gguf_header import read_header
    from ecellm_lite.models.resolve import envelope_of
    from ecellm_lite.tasks.registry import TASKS

    header = read_header(file)
    try:
        envelope = get_envelope(envelope_of(header, [file.name]))
    except UsageError:
        envelope = get_envelope("alpaca")
    prompts = []
    for task in TASKS.values():
        question = task.question(task.example())
        prompts.append(envelope.prompt(question.instruction, question.text, question.options))
    backend = LlamaBackend(
        file, Settings(kv_type="f32", flash_attention="off", gpu_layers=0, context=2048, prompt_kernels="off")
    )
    try:
        original = source.original_tokenizer(folder)
        if original is None:
            tokens = _finding(
                "tokens", None, f"no tokenizer was found in {folder.name}, or pip install 'ecellm-lite[convert]' for it"
            )
        else:
            tokens = comparison.check_tokens(backend.vocabulary.tokenize, original, [*comparison.TEXTS, *prompts])
        ids = [backend.vocabulary.tokenize(prompt, begin=True)[: backend.longest] for prompt in prompts]
        try:
            pairs = zip(logits_of(backend, ids), source.original_logits(folder, adapters, ids), strict=True)
            logits = comparison.check_logits(pairs, _file_type(header))
        except ModelError as error:
            logits = _finding("logits", None, str(error))
    finally:
        backend.close()
    return [tokens, logits]


def logits_of(backend: LlamaBackend, prompts: list[list[int]]) -> Iterator[Any]:
    """Yield what a model makes of each prompt's tokens, (tokens, ids)."""
    import numpy as np

    from ecellm_lite.engine.interface import Chunk

    for prompt in prompts:
        backend.clear()
        rows = []
        for first in range(0, len(prompt), backend.batch):
            tokens = prompt[first : first + backend.batch]
            [found] = backend.decode([Chunk(0, first, tokens, len(tokens))])
            rows.append(np.atleast_2d(found).copy())
        yield np.concatenate(rows)


def _file_type(header: Any) -> str:
    from ecellm_lite.ggml import FILE_TYPES

    number = header.metadata.get("general.file_type")
    return next((name for name, known in FILE_TYPES.items() if known == number), "Q4_0")


def _finding(name: str, passed: bool | None, detail: str) -> CheckResult:
    from ecellm_lite.convert.verify import CheckResult

    return CheckResult(name, passed, detail)
