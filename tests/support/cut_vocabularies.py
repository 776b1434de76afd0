"""The tokenizers of Llama 3, Qwen 2 and 3, SmolLM3, Nemo, OLMo 2, Granite 3 and Phi-4-mini, with small vocabularies.

Each vocabulary has some tokens of the real one, with the same ids (see tests/golden/vocabularies/cut.py). The special
tokens and the rules for splitting texts into words are the real ones.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VOCABULARIES = Path(__file__).parent.parent / "golden" / "vocabularies"

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_REST_WITH_SLASHES = _REST.replace(r"[\r\n]*|", r"[\r\n/]*|", 1)


def _split(pattern: str) -> dict[str, Any]:
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [words, _level(use_regex=False)]}


def _level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


# How texts are split into words, by the vocabulary's name.
SPLITS: Mapping[str, dict[str, Any]] = {
    "llama-3": _split(rf"{_CONTRACTIONS}|{_FIRST}\p{{L}}+|\p{{N}}{{1,3}}{_REST}"),
    "qwen-2": _split(rf"{_CONTRACTIONS}|{_FIRST}\p{{L}}+|\p{{N}}{_REST}"),
    "olmo-2": _split(rf"{_CONTRACTIONS}|{_FIRST}\p{{L}}+|\p{{N}}{{1,3}}{_REST}"),
    "nemo": _split(rf"{_FIRST}{_UPPER}*{_LOWER}+|{_FIRST}{_UPPER}+{_LOWER}*|\p{{N}}{_REST_WITH_SLASHES}"),
    "o200k": _split(
        rf"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|"
        rf"\p{{N}}{{1,3}}{_REST_WITH_SLASHES}"
    ),
    "granite-3": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _level(use_regex=True)],
    },
}


@dataclass(frozen=True, slots=True)
class CutTokenizer:
    """A tokenizer: the name of its vocabulary, the model's number of tokens, and the settings in its files.

    `special`: special tokens by id.
    `added`: other added tokens by id.
    `begin`: the token before each text, or None.
    """

    vocabulary: str
    size: int
    special: Mapping[int, str]
    end: str
    added: Mapping[int, str] = field(default_factory=dict)
    begin: str | None = None
    normalizer: str | None = None
    ignore_merges: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json to a checkpoint's folder."""
        _write(folder / "tokenizer.json", self.content())
        settings = {"eos_token": self.end, "bos_token": self.begin, "tokenizer_class": "PreTrainedTokenizerFast"}
        _write(folder / "tokenizer_config.json", settings | dict(self.settings))

    def content(self) -> dict[str, Any]:
        """Return the JSON value of tokenizer.json."""
        cut = _cut(self.vocabulary)
        # A whole tokenizer.json has no added tokens among these; a cut one needs them to give them their ids.
        vocabulary = {**cut["tokens"], **{text: token for token, text in {**self.special, **self.added}.items()}}
        marks = [_added(token, text, special=True) for token, text in self.special.items()]
        pieces = [_added(token, text, special=False) for token, text in self.added.items()]
        return {
            "version": "1.0",
            "added_tokens": sorted([*marks, *pieces], key=lambda token: token["id"]),
            "normalizer": {"type": self.normalizer} if self.normalizer else None,
            "pre_tokenizer": SPLITS[self.vocabulary],
            "post_processor": self._post_processor(),
            "decoder": _level(use_regex=True),
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                "ignore_merges": self.ignore_merges, "vocab": vocabulary, "merges": cut["merges"],
            },
        }  # fmt: skip

    def _post_processor(self) -> dict[str, Any]:
        if self.begin is None:
            return _level(use_regex=False)
        token = next(token for token, text in self.special.items() if text == self.begin)
        place, text = {"SpecialToken": {"id": self.begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        second = {"Sequence": {"id": "B", "type_id": 1}}
        special = {self.begin: {"id": self.begin, "ids": [token], "tokens": [self.begin]}}
        template = {"type": "TemplateProcessing", "single": [place, text], "pair": [place, text, second]}
        steps = [_level(use_regex=True), template | {"special_tokens": special}]
        return {"type": "Sequence", "processors": steps}


_FIM = ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>")
_PHI4 = (
    "<|endofprompt|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>", "<|tool|>", "<|/tool|>", "<|tool_call|>",
    "<|/tool_call|>", "<|tool_response|>", "<|tag|>",
)  # fmt: skip

TOKENIZERS: Mapping[str, CutTokenizer] = {
    "llama3": CutTokenizer(
        "llama-3", 128256,
        {
            128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128004: "<|finetune_right_pad_id|>",
            128006: "<|start_header_id|>", 128007: "<|end_header_id|>", 128008: "<|eom_id|>", 128009: "<|eot_id|>",
        },
        "<|eot_id|>", begin="<|begin_of_text|>", ignore_merges=True,
    ),
    "smollm3": CutTokenizer(
        "llama-3", 128256,
        {128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128011: "<|im_start|>", 128012: "<|im_end|>"},
        "<|im_end|>", added={128002: "<think>", 128003: "</think>"}, ignore_merges=True,
        settings={"pad_token": "<|im_end|>"},
    ),
    "qwen2": CutTokenizer(
        "qwen-2", 151936, {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}, "<|im_end|>",
        added={151657: "<tool_call>", 151658: "</tool_call>"}, normalizer="NFC",
        settings={"pad_token": "<|endoftext|>", "add_bos_token": False, "add_prefix_space": False},
    ),
    "qwen3": CutTokenizer(
        "qwen-2", 151936, {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}, "<|im_end|>",
        added={151657: "<tool_call>", 151658: "</tool_call>", 151667: "<think>", 151668: "</think>"},
        normalizer="NFC", settings={"pad_token": "<|endoftext|>", "add_bos_token": False, "add_prefix_space": False},
    ),
    "nemo": CutTokenizer(
        "nemo", 131072, {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 10: "<pad>"}, "</s>",
        begin="<s>", ignore_merges=True, settings={"unk_token": "<unk>", "pad_token": "<pad>"},
    ),
    "olmo2": CutTokenizer(
        "olmo-2", 100352,
        {100257: "<|endoftext|>", 100264: "<|im_start|>", 100265: "<|im_end|>", 100277: "<|pad|>"}, "<|endoftext|>",
        added={100256: "|||IP_ADDRESS|||"},
        settings={"bos_token": "<|endoftext|>", "pad_token": "<|pad|>", "add_prefix_space": False},
    ),
    "granite": CutTokenizer(
        "granite-3", 49155,
        {0: "<|endoftext|>", **dict(enumerate(_FIM, 1)), 49152: "<|start_of_role|>", 49153: "<|end_of_role|>"},
        "<|endoftext|>",
        settings={"bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "add_prefix_space": False},
    ),
    "phi4": CutTokenizer(
        "o200k", 200064, {199999: "<|endoftext|>", **dict(enumerate(_PHI4, 200018))}, "<|endoftext|>",
        settings={
            "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
            "add_bos_token": False, "add_eos_token": False, "tokenizer_class": "GPT2Tokenizer",
        },
    ),
}  # fmt: skip


@functools.cache
def _cut(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress((VOCABULARIES / f"{name}.json.gz").read_bytes()))
    return content


def _added(token: int, text: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": special,
    }  # fmt: skip


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
