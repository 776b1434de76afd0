"""Makes the small vocabularies of this folder. They have only the tokens and merges that a few test texts need.

    python -m tests.golden.vocabularies.cut LLAMA_CPP TIKTOKEN

LLAMA_CPP is a source tree of llama.cpp, such as vendor/llama.cpp in the source distribution of llama-cpp-python.
TIKTOKEN is the folder of the npm package tiktoken, which has cl100k_base.json and o200k_base.json in encoders/. The
Python that runs this module needs the packages of the extra `dev`.

The tokens keep their ids. So a small vocabulary gives the same tokens for the test texts as the whole vocabulary. One
of the texts is special: llama.cpp's converter recognizes a tokenizer by a hash of this text's tokens. A small
vocabulary splits any other text into more tokens than the whole vocabulary does.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ecellm_lite.convert.byte_pair_vocabulary import HASHED_TEXT
from ecellm_lite.convert.verify import TEXTS
from ecellm_lite.models.gguf_header import read_header
from tests.support.cut_vocabularies import SPLITS
from tests.support.multiscript import strings
from tests.support.tiny_tokenizers import packaged

HERE = Path(__file__).parent
STRINGS = 300
Pair = tuple[str, str]


def main(llama_cpp: str, tiktoken: str) -> None:
    for name, source in (("llama-3", "llama-bpe"), ("qwen-2", "qwen2"), ("granite-3", "refact")):
        metadata: Any = read_header(Path(llama_cpp) / "models" / f"ggml-vocab-{source}.gguf").metadata
        kinds = metadata["tokenizer.ggml.token_type"]
        ids = {text: token for token, text in enumerate(metadata["tokenizer.ggml.tokens"]) if kinds[token] == 1}
        write(name, ids, [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]])
    for name, source in (("olmo-2", "cl100k_base"), ("o200k", "o200k_base")):
        encoder = json.loads((Path(tiktoken) / "encoders" / f"{source}.json").read_text("utf-8"))
        write(name, *from_ranks(ranks_of(encoder["bpe_ranks"])))
    tekken = json.loads(packaged("mistral_common", "data", "tekken_240718.json").read_text("utf-8"))
    config = tekken["config"]
    first = config["default_num_special_tokens"]
    known = tekken["vocab"][: config["default_vocab_size"] - first]
    write("nemo", *from_ranks({base64.b64decode(entry["token_bytes"]): entry["rank"] + first for entry in known}))


def write(name: str, ids: Mapping[str, int], merges: Sequence[Sequence[str]]) -> None:
    """Write a small vocabulary: only the tokens (with their ids) and merges (in order) that the test texts need."""
    ranks: dict[Pair, int] = {(left, right): rank for rank, (left, right) in enumerate(merges)}
    tokens, used = {letter for letter in byte_letters() if letter in ids}, set[Pair]()
    splits = Tokenizer.from_str(
        json.dumps(
            {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": SPLITS[name]}
        )
    )
    for text in (HASHED_TEXT, *TEXTS, *strings(STRINGS, 1)):
        for word, _ in splits.pre_tokenizer.pre_tokenize_str(text):
            tokens |= {word} & ids.keys()
            for pair in merged(word, ranks):
                used.add(pair)
                tokens |= {*pair, "".join(pair)}
    content = {
        "tokens": {text: ids[text] for text in sorted(tokens, key=lambda text: ids[text])},
        "merges": sorted(used, key=lambda pair: ranks[pair]),
    }
    path = HERE / f"{name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content, ensure_ascii=False).encode(), mtime=0))


def merged(word: str, ranks: Mapping[Pair, int]) -> Iterable[Pair]:
    """Yield the pairs that byte-pair encoding merges in a word, in order."""
    parts = list(word)
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(range(len(pairs)), key=lambda place: ranks.get(pairs[place], len(ranks)))
        if pairs[best] not in ranks:
            return
        yield pairs[best]
        parts[best : best + 2] = ["".join(pairs[best])]


def ranks_of(lines: str) -> dict[bytes, int]:
    """Return each token's rank. `lines` is the value of `bpe_ranks` in an encoder file of the npm package tiktoken.

    A line is `NAME RANK TOKEN TOKEN …`, with the tokens in base64. The first token has this rank, the second token has
    the next rank, and so on.
    """
    ranks: dict[bytes, int] = {}
    for line in lines.split("\n"):
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + place for place, token in enumerate(tokens)}
    return ranks


def from_ranks(ranks: Mapping[bytes, int]) -> tuple[dict[str, int], list[Pair]]:
    """Compute a vocabulary's ids and merges from the ranks of its tokens, as transformers does."""
    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[Pair] = []
    for token in sorted(ranks, key=lambda token: ranks[token]):
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [pair for pair in cuts if pair[0] in ranks and pair[1] in ranks]
        pairs.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(spelled[left], spelled[right]) for left, right in pairs]
    return {spelled[token]: rank for token, rank in ranks.items()}, merges


def byte_letters() -> list[str]:
    """Return the character that represents each byte in a byte-level vocabulary."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(hidden)) for byte in range(256)]


if __name__ == "__main__":
    main(*sys.argv[1:])
