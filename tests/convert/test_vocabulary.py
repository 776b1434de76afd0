"""Tests the conversion of a checkpoint's vocabulary to GGUF metadata, and the errors for invalid vocabulary files."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.convert.byte_pair_vocabulary import HASHED_TEXT
from ecellm_lite.convert.vocabulary import vocabulary_metadata
from ecellm_lite.errors import ModelError
from tests.support.cut_vocabularies import SPLITS, TOKENIZERS
from tests.support.refusals import refusal
from tests.support.tiny_tokenizers import (
    mistral_model,
    mistral_settings,
    mistral_tokenizer,
    write_mistral_model,
    write_mistral_tokenizer,
    write_phi_files,
)


def padded_mistral(folder: Path) -> None:
    write_mistral_tokenizer(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<pad>": 32000, "<item>": 32001, "past": 40000}), "utf-8")


def test_added_tokens_and_padding_are_written(tmp_path: Path) -> None:
    padded_mistral(tmp_path)
    metadata = vocabulary_metadata(tmp_path, {"vocab_size": 32004})
    texts, kinds = metadata["tokenizer.ggml.tokens"][1], metadata["tokenizer.ggml.token_type"][1]
    assert texts[31999:] == ["梦", "<pad>", "<item>", "[PAD32002]", "[PAD32003]"]
    assert kinds[31999:] == [1, 3, 4, 5, 5]


def test_scores_are_those_of_the_model_file(tmp_path: Path) -> None:
    """Scores computed from tokenizer.json must put the tokens into the same order as the scores in tokenizer.model."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, write in ((one, write_mistral_model), (other, write_mistral_tokenizer)):
        folder.mkdir()
        write(folder)
    true = vocabulary_metadata(one, {"vocab_size": 32000})["tokenizer.ggml.scores"][1]
    scores = vocabulary_metadata(other, {"vocab_size": 32000})["tokenizer.ggml.scores"][1]
    merged = {merge.replace(" ", "") for merge in mistral_tokenizer()["model"]["merges"]}
    products = [token for text, token in mistral_tokenizer()["model"]["vocab"].items() if text in merged]
    by_score = sorted(products, key=lambda token: -scores[token])
    assert len(products) > 20_000
    assert all(true[left] >= true[right] for left, right in pairwise(by_score))


def test_flags_and_ids_come_from_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = mistral_tokenizer() | {"post_processor": None, "normalizer": None}
    write_json(tmp_path / "tokenizer.json", tokenizer)
    metadata = vocabulary_metadata(tmp_path, {"vocab_size": 32000, "bos_token_id": 1, "eos_token_id": [2, 5]})
    assert metadata["tokenizer.ggml.bos_token_id"] == ("UINT32", 1)
    assert metadata["tokenizer.ggml.eos_token_id"] == ("UINT32", 2)
    assert metadata["tokenizer.ggml.add_space_prefix"] == ("BOOL", False)
    assert "tokenizer.ggml.add_bos_token" not in metadata
    assert "tokenizer.chat_template" not in metadata


def test_the_end_token_is_found_by_its_text(tmp_path: Path) -> None:
    write_phi_files(tmp_path)
    metadata = vocabulary_metadata(tmp_path, {"vocab_size": 51200})
    assert metadata["tokenizer.ggml.eos_token_id"] == ("UINT32", 50256)
    assert metadata["tokenizer.ggml.token_type"][1][50256] == 3


def test_only_a_text_is_taken_as_a_chat_template(tmp_path: Path) -> None:
    write_mistral_model(tmp_path)
    text = "{% for x in range(10**9) %}{{ x.__class__ }}{% endfor %}"
    write_json(tmp_path / "tokenizer_config.json", {})
    (tmp_path / "chat_template.jinja").write_text(text, "utf-8")
    assert vocabulary_metadata(tmp_path, {"vocab_size": 32000})["tokenizer.chat_template"] == ("STRING", text)
    named = [{"name": "tools", "template": "b"}, {"name": "default", "template": "a"}]
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": named})
    assert vocabulary_metadata(tmp_path, {"vocab_size": 32000})["tokenizer.chat_template"] == ("STRING", "a")


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")


def changed_tokenizer(**changes: Any) -> dict[str, Any]:
    return mistral_tokenizer() | changes


def changed_model(**changes: Any) -> dict[str, Any]:
    return mistral_tokenizer() | {"model": mistral_tokenizer()["model"] | changes}


def byte_level(**changes: Any) -> dict[str, Any]:
    few = {chr(code): code for code in range(32, 127)}
    model = {"byte_fallback": False, "vocab": few, "merges": []} | changes
    return changed_model(**model) | {"added_tokens": [], "normalizer": None, "post_processor": None}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: changed_tokenizer(normalizer={"type": "NFKC"}), "NFKC"),
        (lambda: changed_tokenizer(normalizer=[1]), "normalizers"),
        (lambda: changed_tokenizer(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda: changed_model(dropout=0.1), "dropout"),
        (lambda: changed_model(type="Unigram"), "BPE"),
        (lambda: changed_model(merges=mistral_tokenizer()["model"]["merges"][1:]), "'t'"),
        (lambda: changed_model(merges=[["a", "b", "c"]]), "c"),
        (lambda: changed_model(merges=[["▁", "q1q1q1"]]), "q1q1q1"),
        (lambda: changed_model(merges={}), "merges"),
        (lambda: changed_model(vocab={"a": 1, "b": 1}), "'b'"),
        (lambda: changed_model(vocab={"a": 32000}), "32,000"),
        (lambda: changed_model(vocab={"a": -1}), "'-1'"),
        (lambda: changed_model(vocab={"a": True}), "'True'"),
        (lambda: changed_model(vocab={"": 1}), ""),
        (lambda: changed_model(vocab={"\ud800": 1}), "\\ud800"),
        (lambda: changed_model(vocab=[]), "vocab"),
        (lambda: byte_level(), ""),
        (lambda: byte_level(merges=[["▁", "q1"]]), ""),
        (lambda: byte_level() | {"post_processor": [1]}, ""),
        (lambda: byte_level() | {"pre_tokenizer": split("(((")}, ""),
        (lambda: byte_level() | {"pre_tokenizer": split("a" * 5000)}, "4,096"),
        (
            lambda: byte_level() | {"normalizer": {"type": "Replace", "content": "a" * 1000}},
            "Replace",
        ),
        (lambda: byte_level() | {"normalizer": 7}, "7"),
        (lambda: byte_level(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda: changed_tokenizer(model=7), "BPE"),
        (lambda: changed_tokenizer(added_tokens=7), ""),
        (lambda: changed_tokenizer(added_tokens=[7, {}]), " 7"),
        (lambda: changed_tokenizer(added_tokens=[{"id": 1, "content": 3}]), "'3'"),
        (lambda: changed_tokenizer(added_tokens=[{"id": 5, "content": "the", "special": 1}]), " 5"),
        (lambda: changed_tokenizer(added_tokens=[{"id": 5, "content": "▁the", "special": True}]), "'▁t'"),
        (list, ""),
    ],
)
def test_unsupported_tokenizers_are_refused(make: Callable[[], Any], value: str, tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", make())
    with refusal(ModelError, value):
        vocabulary_metadata(tmp_path, {"vocab_size": 32000})


def test_an_unknown_way_of_splitting_words_is_refused(tmp_path: Path) -> None:
    """The splitting rule is recognized by a hash of the token ids of a test text. The error names this hash."""
    from tokenizers import Tokenizer

    tokenizer = TOKENIZERS["phi4"].content() | {"pre_tokenizer": SPLITS["llama-3"]}
    write_json(tmp_path / "tokenizer.json", tokenizer)
    ids = Tokenizer.from_str(json.dumps(tokenizer)).encode(HASHED_TEXT).ids
    with refusal(ModelError, hashlib.sha256(str(ids).encode()).hexdigest()[:16]):
        vocabulary_metadata(tmp_path, {"vocab_size": 200064})


HOSTILE = ['{"a":' * 100_000, "[" * 100_000, '{"a": 1' + "0" * 10_000 + "}", "\0", "{", '"\\ud800"']


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json", "vocab.json"])
def test_hostile_json_is_refused(name: str, text: str, tmp_path: Path) -> None:
    if name != "tokenizer.json":
        write_json(tmp_path / "vocab.json", {"a": 0})
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ModelError):
        vocabulary_metadata(tmp_path, {"vocab_size": 10})


def test_settings_of_the_wrong_type_are_ignored_or_refused(tmp_path: Path) -> None:
    values: list[Any] = [None, 7, -1, 1e300, True, "x", [], [[]], {}, {"content": 7}, {"7": 7}, {"x": {}}, [{"id": []}]]
    types = {"STRING": str, "BOOL": bool, "UINT32": int, "ARRAY": list}
    tokenizer = mistral_tokenizer()
    few = {text: token for text, token in tokenizer["model"]["vocab"].items() if token < 400}
    small = tokenizer | {"model": tokenizer["model"] | {"vocab": few, "merges": []}}
    for place, names in (("tokenizer_config.json", mistral_settings()), ("tokenizer.json", small)):
        for name in names:
            for value in values:
                write_json(tmp_path / "tokenizer.json", small)
                write_json(tmp_path / "tokenizer_config.json", mistral_settings())
                write_json(tmp_path / place, names | {name: value})
                try:
                    metadata = vocabulary_metadata(tmp_path, {"vocab_size": 400, "bos_token_id": value})
                except ModelError:
                    continue
                for key, (kind, entry) in metadata.items():
                    assert type(entry) is types[kind], (name, value, key)


def test_hostile_sentencepiece_models_are_refused(tmp_path: Path) -> None:
    whole = mistral_model().read_bytes()
    generator = random.Random(3)
    path = tmp_path / "tokenizer.model"
    for _ in range(60):
        data = bytearray(whole[-2000:] if generator.random() < 0.5 else whole[:20_000])
        for _ in range(generator.randint(1, 30)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(data[: generator.randrange(len(data))])
        with suppress(ModelError):
            vocabulary_metadata(tmp_path, {"vocab_size": 32000})
    for short in (b"", b"\x00", b"\x0a\xff\xff\xff\xff\x7f", b"\xff" * 20, b"\x0b", b"\x0a\x02\x0a\x00"):
        path.write_bytes(short)
        with pytest.raises(ModelError):
            vocabulary_metadata(tmp_path, {"vocab_size": 32000})


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    write_mistral_model(tmp_path)
    with refusal(ModelError, "32,000", "31,999"):
        vocabulary_metadata(tmp_path, {"vocab_size": 31999})


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with refusal(ModelError, "tokenizer.model", file=str(tmp_path)):
        vocabulary_metadata(tmp_path, {"vocab_size": 10})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tokenizer.model").symlink_to(mistral_model())
    with refusal(ModelError, file=str(folder / "tokenizer.model")):
        vocabulary_metadata(folder, {"vocab_size": 32000})
