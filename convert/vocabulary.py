"""Turns a checkpoint's vocabulary into GGUF metadata.

With this metadata, llama.cpp splits texts into the same tokens as in training. This module chooses the file that the
vocabulary is read from. A vocabulary that llama.cpp cannot reproduce exactly is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecellm_lite.convert import byte_pair_vocabulary, sentencepiece_vocabulary
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters
from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.reading import inside, read_json
from ecellm_lite.convert.special_tokens import settings_of, special_tokens
from ecellm_lite.convert.token_list import MAX_TOKENS, AddedToken, TokenList, added_tokens, not_reproducible
from ecellm_lite.errors import ModelError
from ecellm_lite.models.normal_form import NORMAL_FORM_KEY

# The token that ends a text in GPT-2's vocabulary and its descendants.
_END_OF_TEXT = "<|endoftext|>"


def vocabulary_metadata(folder: Path, config: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """Return the tokenizer metadata of a GGUF file for the checkpoint in a folder. `config` is its config.json.

    The vocabulary is read from the first of these that exists: tokenizer.model, tokenizer.json, or vocab.json with
    merges.txt. Raises ModelError if none of these files exists, if one is damaged, or if llama.cpp would tokenize
    differently. Raises UsageError if the package that a BPE vocabulary needs is not installed.
    """
    metadata: dict[str, MetadataValue]
    size = Hyperparameters(config).count("vocab_size", most=MAX_TOKENS)
    path = folder / "tokenizer.json"
    tokenizer = read_json(inside(folder, path.name)) if path.exists() else None
    added = added_tokens(folder, tokenizer)
    if (folder / "tokenizer.model").exists():
        tokens, space_first = sentencepiece_vocabulary.from_model(inside(folder, "tokenizer.model"), size, added)
        setting = settings_of(folder).get("add_prefix_space")
        metadata = _sentencepiece(tokens, setting if isinstance(setting, bool) else space_first)
    elif tokenizer is not None:
        model = tokenizer.get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
            raise not_reproducible(path, "has a vocabulary other than BPE")
        if model.get("byte_fallback") is True:
            tokens, space_first = sentencepiece_vocabulary.from_tokenizer(path, tokenizer, size, added)
            metadata = _sentencepiece(tokens, space_first)
        else:
            metadata = _byte_pairs(byte_pair_vocabulary.from_tokenizer(path, tokenizer, size, added))
    elif (folder / "vocab.json").exists():
        ids = read_json(inside(folder, "vocab.json"))
        if type(end := ids.get(_END_OF_TEXT)) is int and all(token.id != end for token in added):
            added = [*added, AddedToken(end, _END_OF_TEXT, special=True)]
        metadata = _byte_pairs(byte_pair_vocabulary.from_files(folder, size, added))
    else:
        raise ModelError(
            f"{folder} has no tokenizer.model, tokenizer.json or vocab.json",
            step="copy the vocabulary there from the model that this one was trained from",
            file=str(folder),
        )
    metadata.update(special_tokens(folder, config, tokenizer, added, size))
    return metadata


def _sentencepiece(tokens: TokenList, space_first: bool) -> dict[str, MetadataValue]:
    metadata = tokens.metadata("llama", "default", scores=True)
    # llama.cpp's default is to put a space first.
    if not space_first:
        metadata["tokenizer.ggml.add_space_prefix"] = ("BOOL", False)
    return metadata


def _byte_pairs(vocabulary: byte_pair_vocabulary.BytePairs) -> dict[str, MetadataValue]:
    metadata = vocabulary.tokens.metadata("gpt2", vocabulary.pre, scores=False)
    metadata["tokenizer.ggml.merges"] = ("ARRAY", vocabulary.merges)
    # llama.cpp's default depends on `pre`. If the tokenizer adds such a token, special_tokens() sets this to true.
    metadata["tokenizer.ggml.add_bos_token"] = ("BOOL", False)
    if vocabulary.normal_form:
        metadata[NORMAL_FORM_KEY] = ("STRING", vocabulary.normal_form)
    return metadata
