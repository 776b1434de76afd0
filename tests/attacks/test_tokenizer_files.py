"""Tests of tokenizer files and configurations with arbitrary content.

Reading them may raise a ModelError, but must not cause a crash or a hang.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.vocabulary import vocabulary_metadata
from ecellm_lite.errors import ModelError
from tests.support.tiny_checkpoints import write_checkpoint
from tests.support.tiny_tokenizers import mistral_settings, mistral_tokenizer

TRIES = int(os.environ.get("ECELLM_FUZZ_CALLS", "600")) // 2
SEED = int(os.environ.get("ECELLM_FUZZ_SEED", "1"))

VALUES: list[Any] = [
    None, 0, -1, 7, 1e300, float("nan"), 10**40, True, False, "", "x", "▁", "\ud800", [], [[]], [None], {},
    {"type": "ByteLevel"}, {"type": "Sequence"}, {"type": "Sequence", "pretokenizers": [None, {"type": "Split"}]},
    {"type": "Digits", "individual_digits": True}, {"content": None}, [{"id": 1, "content": "q", "special": True}],
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, 7]},
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside a JSON value. A long list or object is cut to its first values."""
    if isinstance(value, dict):
        inner: list[Any] = list(value)[:12]
    else:
        inner = list(range(min(3, len(value)))) if isinstance(value, list) else []
    for name in inner:
        yield (*place, name)
        yield from places(value[name], (*place, name))


def mutated(value: Any, generator: random.Random) -> Any:
    mutant = copy.deepcopy(value)
    for _ in range(generator.choice([1, 1, 2, 3])):
        *outer, last = generator.choice(list(places(mutant)) or [("x",)])
        holder = mutant
        for name in outer:
            holder = holder[name]
        if isinstance(holder, dict) and generator.random() < 0.2:
            holder.pop(last, None)
        elif holder:
            holder[last] = copy.deepcopy(generator.choice(VALUES))
    return mutant


def sentencepiece() -> dict[str, Any]:
    """Return Mistral's tokenizer.json, cut to its first tokens."""
    whole = mistral_tokenizer()
    few = {text: token for text, token in whole["model"]["vocab"].items() if token < 300}
    merges = [merge for merge in whole["model"]["merges"] if {*merge.split(" "), merge.replace(" ", "")} <= few.keys()]
    return whole | {"model": whole["model"] | {"vocab": few, "merges": merges}}


def byte_level() -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    sides = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens": [{"id": 100, "content": "<|x|>", "special": True, **sides}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": level,
        "model": {"type": "BPE", "vocab": {chr(code): code for code in range(33, 127)}, "merges": []},
    }


FOLDERS: dict[str, dict[str, Any]] = {
    "sentencepiece": {"tokenizer.json": sentencepiece, "tokenizer_config.json": mistral_settings},
    "byte level": {"tokenizer.json": byte_level, "tokenizer_config.json": mistral_settings},
    "files": {
        "vocab.json": lambda: {"!": 0, '"': 1, "<|endoftext|>": 2},
        "added_tokens.json": lambda: {"  ": 3, "\t\t": 4},
        "tokenizer_config.json": mistral_settings,
    },
}
MERGES = [b"#version\n", b"", b'! "\n', b"a b c\n", b"\xff\n", b"\n\n", b"\0"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_any_json_in_a_tokenizer_folder_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    generator = random.Random(SEED)
    good = {name: make() for name, make in FOLDERS[kind].items()}
    for _ in range(TRIES):
        for name, value in good.items():
            changed = mutated(value, generator) if generator.random() < 0.6 else value
            (tmp_path / name).write_text(json.dumps(changed), "utf-8")
        if kind == "files":
            (tmp_path / "merges.txt").write_bytes(generator.choice(MERGES))
        with suppress(ModelError):
            vocabulary_metadata(tmp_path, {"vocab_size": 400, "eos_token_id": generator.choice(VALUES)})


@pytest.mark.parametrize("kind", ["smollm", "phi"])
def test_any_json_in_a_configuration_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    generator = random.Random(SEED)
    with Checkpoint(write_checkpoint(tmp_path, kind, tokenizer=False, vocab_size=8)) as checkpoint:
        config = checkpoint.config
        for _ in range(TRIES):
            checkpoint.config = mutated(config, generator)
            with suppress(ModelError):
                architecture_of(checkpoint.config).blueprint(checkpoint)
