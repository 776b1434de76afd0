"""A byte-level BPE vocabulary for llama.cpp, read from tokenizer.json, or from vocab.json and merges.txt.

A BPE tokenizer first splits a text into words. tokenizer.json describes this split with a regular expression, but a
GGUF file only names one of llama.cpp's rules. To find the rule, a fixed text is tokenized. The hash of the token ids is
looked up in a table of rules. llama.cpp's converter does the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecellm_lite.convert.reading import MAX_JSON_BYTES, damaged, inside, read_bytes, read_json
from ecellm_lite.convert.sentencepiece_vocabulary import pairs
from ecellm_lite.convert.token_list import NORMAL, AddedToken, TokenList, not_reproducible, vocabulary
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.normal_form import NORMAL_FORMS

MAX_PATTERN_LETTERS = 4096

# Steps that llama.cpp reproduces, or the engine (models/normal_form.py). Others are refused; some of them can lengthen
# a text without bound.
_STEPS = {"ByteLevel", "Digits", "Split", *NORMAL_FORMS}

# The text and the hashes are those of get_vocab_base_pre in conversion/base.py of llama.cpp (MIT licence,
# https://github.com/ggml-org/llama.cpp): the SHA-256 of Python's str() of the text's ids.
HASHED_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天\uff5e "
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? "
    "I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
_NAMES = {
    "fcace8b9cac38ce847670c970cd5892031a753a1ef381abd1d9af00f713da085": "phi-2",
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454": "gpt-2",
    "0fe1cf6eda062318a1af7270f3331a85c539a01778ff948e24388e949c5282f4": "gpt-2",
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",
    "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e": "tekken",
    "049ecf7629871e3041641907f3de7c733e4dbfdc736f57d882ba0b0845599754": "deepseek-llm",
    "347715f544604f9118bb75ed199f68779f423cabb20db6de6f31b908d04d7821": "deepseek-coder",
    "ccc2ef013c104be7bae2965776d611e1d7a8a2a9c547dd93a682c9a9fc80352e": "gpt-4o",
    "c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d": "smaug-bpe",
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",
    "a8594e3edff7c29c003940395316294b2c623e09894deebbc65f33f1515df79e": "dbrx",
    "6221ad2852e85ce96f791f476e0b390cf9b474c9e3d1362f53a24a06dc8220ff": "refact",
    "35d91631860c815f952d711435f48d356ebac988362536bed955d43bfa436e34": "starcoder",
}


# The two names differ in one thing: with the second, a word that is a token becomes this token even if no merges lead
# to it, as in the tokenizers of Llama 3 and SmolLM3 (`ignore_merges`). llama.cpp's converter writes the first for
# SmolLM3, whose 588 such tokens, of Vietnamese, Turkish and other languages, are then never produced.
_IGNORING_MERGES = {"smaug-bpe": "llama-bpe"}


@dataclass(frozen=True, slots=True)
class BytePairs:
    """The tokens and merges of a byte-level BPE vocabulary.

    - `merges`: the merges in order, as texts like "a b".
    - `pre`: llama.cpp's name for the rule that splits texts into words.
    - `normal_form`: the Unicode normal form, such as NFC, that a text gets before it is split. None if it gets none.
    """

    tokens: TokenList
    merges: list[str]
    pre: str
    normal_form: str | None = None


def from_tokenizer(path: Path, tokenizer: Mapping[str, Any], size: int, added: Sequence[AddedToken]) -> BytePairs:
    """Return the byte-level BPE vocabulary in a tokenizer.json. `size` is the number of tokens that the model has.

    Raises ModelError if the file is damaged or llama.cpp cannot reproduce the vocabulary.
    """
    model = tokenizer["model"]
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise not_reproducible(path, f"has {name} = {str(model[name])[:40]!r}")
    ids, merges = vocabulary(model.get("vocab"), path, size), pairs(model.get("merges"), path)
    form = None
    for kind, step in _steps(path, tokenizer):
        if kind not in _STEPS:
            raise not_reproducible(path, f"changes or splits texts with {kind[:60]}")
        if len(str(step.get("pattern"))) > MAX_PATTERN_LETTERS:
            raise damaged(path, f"splits words by a pattern of more than {MAX_PATTERN_LETTERS:,} characters")
        form = kind if kind in NORMAL_FORMS else form
    whole = {name: tokenizer.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    whole["added_tokens"] = tokenizer.get("added_tokens") or []
    name = _name(path, whole, ids, merges, model)
    if model.get("ignore_merges") is True:
        name = _IGNORING_MERGES.get(name, name)
    return BytePairs(_tokens(ids, size, added), _spelled(merges), name, form)


def from_files(folder: Path, size: int, added: Sequence[AddedToken]) -> BytePairs:
    """Return the vocabulary in vocab.json and merges.txt, as GPT-2's tokenizer reads them.

    `size` is the number of tokens that the model has. Raises ModelError if the files are damaged or llama.cpp cannot
    reproduce the vocabulary.
    """
    path = inside(folder, "vocab.json")
    ids = vocabulary(read_json(path), path, size)
    merges = _lines(inside(folder, "merges.txt"))
    whole = {
        "added_tokens": [
            {"id": token.id, "content": token.text, "special": token.special, "normalized": not token.special}
            | {"single_word": False, "lstrip": False, "rstrip": False}
            for token in added
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    }
    return BytePairs(_tokens(ids, size, added), _spelled(merges), _name(path, whole, ids, merges, {}))


def _steps(path: Path, tokenizer: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the steps of a tokenizer.json: first its normalizers, then its pre-tokenizers.

    Each step is a pair (type, content).
    """
    result: list[tuple[str, Mapping[str, Any]]] = []
    for name, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        value = tokenizer.get(name)
        steps = value.get(inner) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
        for step in steps if isinstance(steps, list) else [0]:
            if step is None:
                continue
            if not isinstance(step, dict) or not isinstance(step.get("type"), str):
                raise damaged(path, f"describes its {name} as {str(value)[:60]}")
            result.append((step["type"], step))
    return result


def _tokens(ids: Mapping[str, int], size: int, added: Sequence[AddedToken]) -> TokenList:
    tokens = TokenList(size)
    for text, token in ids.items():
        tokens.set(token, text, NORMAL)
    tokens.add(added)
    return tokens


def _spelled(merges: Sequence[tuple[str, str]]) -> list[str]:
    # In a GGUF file a space separates the two parts, so a space inside a part is written as in the byte-level alphabet.
    return [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in merges]


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = read_bytes(path, MAX_JSON_BYTES).decode("utf-8").split("\n")
    except ValueError:
        raise damaged(path, "is not UTF-8") from None
    if lines[0].startswith("#"):
        lines = lines[1:]
    return pairs([line.strip() for line in lines if line.strip()], path)


def _name(
    path: Path,
    whole: Mapping[str, Any],
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    model: Mapping[str, Any],
) -> str:
    """Return llama.cpp's name for the rule that splits texts into words.

    `whole` is a tokenizer.json without its vocabulary and merges, which are in `ids` and `merges`. `model` is the
    file's object `model`, or empty. Raises ModelError if no known rule splits texts in the same way.
    """
    # The library gets only what decides the ids, because a hostile file could also ask for padding to any length.
    ignores = model.get("ignore_merges") is True
    parts = {"type": "BPE", "vocab": ids, "merges": [list(pair) for pair in merges], "ignore_merges": ignores}
    tokenizer = json.dumps({"version": "1.0", **whole, "model": parts})
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError(
            "A checkpoint with a BPE vocabulary needs the package tokenizers",
            step="pip install 'ecellm-lite[convert]'",
        ) from None
    try:
        ids_of_text = Tokenizer.from_str(tokenizer).encode(HASHED_TEXT).ids
    except BaseException as error:
        # The library's panics are not derived from Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise damaged(path, f"is not a usable tokenizer ({str(error)[:100]})") from None
    digest = hashlib.sha256(str(ids_of_text).encode()).hexdigest()
    if digest not in _NAMES:
        supported = ", ".join(sorted(set(_NAMES.values())))
        raise ModelError(
            f"{path} splits words in a way that is not supported here (hash {digest[:16]}…, not {supported})",
            step="convert the model with llama.cpp's convert_hf_to_gguf.py, and give the GGUF file",
            file=str(path),
        )
    return _NAMES[digest]
