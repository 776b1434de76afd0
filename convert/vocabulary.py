"""A checkpoint's vocabulary as the metadata of a GGUF file, so that llama.cpp cuts texts as the model was trained.

Which of the folder's files holds it is found out here; what cannot be followed exactly is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecellm_lite.convert import byte_pair_vocabulary, sentencepiece_vocabulary
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters
from ecellm_lite.convert.blueprint import Value
from ecellm_lite.convert.checkpoint import inside, read_json
from ecellm_lite.convert.special_tokens import settings_of, special_tokens
from ecellm_lite.convert.token_list import MAX_TOKENS, AddedToken, TokenList, added_tokens
from ecellm_lite.errors import ModelError

# The end of a text, of GPT-2's vocabulary and those made from it.
_END_OF_TEXT = "<|endoftext|>"


def vocabulary_metadata(folder: Path, config: Mapping[str, Any]) -> dict[str, Value]:
    """Return the tokenizer keys of a GGUF file for the checkpoint in a folder with that config.json.

    A tokenizer.model goes before a tokenizer.json, and that before vocab.json with merges.txt. Raises ModelError where
    there is none of them, where they are damaged, or where llama.cpp would cut texts otherwise; UsageError where the
    package that a BPE vocabulary needs is not installed.
    """
    metadata: dict[str, Value]
    size = Hyperparameters(config).count("vocab_size", most=MAX_TOKENS)
    path = folder / "tokenizer.json"
    tokenizer = read_json(inside(folder, path.name)) if path.exists() else None
    added = added_tokens(folder, tokenizer)
    if (folder / "tokenizer.model").exists():
        tokens, space_first = sentencepiece_vocabulary.from_model(inside(folder, "tokenizer.model"), size, added)
        said = settings_of(folder).get("add_prefix_space")
        metadata = _sentencepiece(tokens, said if isinstance(said, bool) else space_first)
    elif tokenizer is not None:
        model = tokenizer.get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
            raise ModelError(f"{path} holds no BPE vocabulary, and only such can be converted here.")
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
            f"{folder} has no tokenizer.model, no tokenizer.json and no vocab.json: copy the vocabulary of the model "
            "that it was made from there."
        )
    metadata.update(special_tokens(folder, config, tokenizer, added, size))
    return metadata


def _sentencepiece(tokens: TokenList, space_first: object) -> dict[str, Value]:
    metadata: dict[str, Value] = tokens.metadata("llama", "default", scores=True)
    # llama.cpp puts a space first where a file does not say.
    if space_first is False:
        metadata["tokenizer.ggml.add_space_prefix"] = ("BOOL", False)
    return metadata


def _byte_pairs(found: byte_pair_vocabulary.BytePairs) -> dict[str, Value]:
    metadata: dict[str, Value] = found.tokens.metadata("gpt2", found.pre, scores=False)
    metadata["tokenizer.ggml.merges"] = ("ARRAY", found.merges)
    # What llama.cpp does where a file does not say depends on the name; these vocabularies say it if they add one.
    metadata["tokenizer.ggml.add_bos_token"] = ("BOOL", False)
    return metadata
