"""Tests that a chat form gives a conversation the same token ids as apply_chat_template of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.answers.decoding import AnswerForm, Scene
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.envelopes import ENVELOPES, Turn, get_envelope
from ecellm_lite.envelopes.chat_form import ChatForm
from ecellm_lite.envelopes.chat_forms import CHAT_FORMS
from ecellm_lite.errors import ModelError
from tests.convert.test_token_ids import loaded
from tests.support.chat_templates import CONVERSATIONS, TEMPLATES, exchange, messages_of, rendered
from tests.support.cut_vocabularies import TOKENIZERS
from tests.support.refusals import refusal
from tests.support.tiny_tokenizers import mistral_tokenizer, packaged, write_mistral_tokenizer, write_smollm_tokenizer

# Forms by vocabulary: SentencePiece's, which puts a space before each text, or byte-level BPE. Where roles are plain
# text, the vocabulary has no tokens for them.
VOCABULARIES = {"phi3": "spaced", "mistral-v1": "mistral", "zephyr": "mistral", "olmo2": "smollm"}
NAMES = [form.name for form in CHAT_FORMS]
# mistral-common decides about Mistral's spaces; transformers' tokenizer has them for a template without them alone.
HUGGING_FACE = [name for name in NAMES if name not in ("mistral-v1", "mistral-v3")]
# Forms whose answers are compared in a vocabulary of their models, with the ids of the prompt's text and the answer.
# The templates give no thoughts in a last turn, and SmolLM2's vocabulary splits the line breaks of Llama 3's form.
OWN_VOCABULARIES = {"qwen3": "qwen3", "smollm3": "smollm3", "llama3": "llama3", "llama3.1": "llama3"}
ANSWERS = ("yes", "A: very positive", '[{"attribute": "color"}]', "B,A,C")
# Qwen's `<think>` is an added token that is no control token.
ADDED = ("<think>", "</think>")


def control_tokens() -> list[str]:
    return list(dict.fromkeys(token.text for form in CHAT_FORMS for token in form.control_tokens))


def write_tokenizer(folder: Path, tokenizer: dict[str, Any], first: int, rstrip: frozenset[str]) -> int:
    """Write `tokenizer` as tokenizer.json, and add the tokens of all chat forms. Return the number of tokens.

    `first`: the id of the first added token. `rstrip`: the added tokens that take in the white space after them.
    """
    present = {token["content"] for token in tokenizer["added_tokens"]}
    added = [text for text in control_tokens() if text not in present]
    tokenizer = tokenizer | {
        "added_tokens": tokenizer["added_tokens"]
        + [
            {
                "id": first + place, "content": text, "single_word": False, "lstrip": False, "rstrip": text in rstrip,
                "normalized": False, "special": text not in ADDED,
            }
            for place, text in enumerate(added)
        ]
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    return first + len(added)


class Pair:
    """The same vocabulary twice: in llama.cpp (`ours`) and in Hugging Face's package `tokenizers` (`theirs`)."""

    def __init__(self, ours: LlamaVocabulary, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.ours, self.folder = ours, folder
        self.theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ids(self, text: str) -> list[int]:
        return list(self.theirs.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("byte_level")
    write_smollm_tokenizer(folder)
    size = write_tokenizer(folder, json.loads((folder / "tokenizer.json").read_text("utf-8")), 49152, frozenset())
    with loaded(folder, size) as vocabulary:
        yield Pair(vocabulary, folder)


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("spaced")
    strips = frozenset(token.text for form in CHAT_FORMS for token in form.control_tokens if token.strips)
    size = write_tokenizer(folder, mistral_tokenizer(), 32000, strips)
    with loaded(folder, size) as vocabulary:
        yield Pair(vocabulary, folder)


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("smollm")
    write_smollm_tokenizer(folder)
    with loaded(folder, 49152) as vocabulary:
        yield Pair(vocabulary, folder)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("mistral")
    write_mistral_tokenizer(folder)
    with loaded(folder, 32000) as vocabulary:
        yield Pair(vocabulary, folder)


@pytest.fixture
def pair(request: pytest.FixtureRequest, name: str) -> Pair:
    result: Pair = request.getfixturevalue(VOCABULARIES.get(name, "byte_level"))
    return result


def form_of(name: str) -> ChatForm:
    form = get_envelope(name)
    assert isinstance(form, ChatForm)
    return form


# Of these forms' templates, the sentence with today's date, which the forms leave out.
DATES = {"smollm3": r"Today Date: \d\d \w+ \d{4}\n", "granite3.3": r" Today's Date: \w+ \d\d, \d{4}\."}


def undated(name: str, text: str) -> str:
    return re.sub(DATES[name], "", text) if name in DATES else text


def test_every_form_has_a_template() -> None:
    assert sorted(TEMPLATES) == sorted(NAMES)
    assert len(CONVERSATIONS) == 20
    assert set(ENVELOPES) == {"alpaca", "mistral", *NAMES}


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_token_ids_are_those_of_the_template(name: str, pair: Pair) -> None:
    for system, turns in CONVERSATIONS:
        prompt = form_of(name).conversation(system, turns)
        text = undated(name, rendered(name, messages_of((system, turns))))
        assert str(prompt) == text
        assert prompt.tokens(pair.ours) == pair.ids(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_token_ids_are_those_of_apply_chat_template(name: str, pair: Pair) -> None:
    transformers = pytest.importorskip("transformers", reason="apply_chat_template is transformers' (extra 'train')")
    template, bos, eos = TEMPLATES[name]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(pair.folder / "tokenizer.json"), chat_template=template, bos_token=bos or None, eos_token=eos
    )
    settings = {
        "date_string": "26 Jul 2024",
        "add_generation_prompt": True,
        "return_dict": False,
        "enable_thinking": False,
    }
    for system, turns in CONVERSATIONS:
        messages = messages_of((system, turns))
        prompt = form_of(name).conversation(system, turns)
        assert str(prompt) == undated(name, tokenizer.apply_chat_template(messages, tokenize=False, **settings))
        if name not in DATES:
            assert prompt.tokens(pair.ours) == tokenizer.apply_chat_template(messages, **settings)


@pytest.mark.parametrize(
    ("name", "version"), [pytest.param("mistral-v1", "v1", marks=pytest.mark.slow), ("mistral-v3", "v3")]
)
def test_token_ids_are_those_of_mistral_common(name: str, version: str, tmp_path: Path) -> None:
    common = pytest.importorskip("mistral_common.tokens.tokenizers.mistral")
    protocol = pytest.importorskip("mistral_common.protocol.instruct.request")
    file = {"v1": "tokenizer.model.v1", "v3": "mistral_instruct_tokenizer_240323.model.v3"}[version]
    path = packaged("mistral_common", "data", file)
    (tmp_path / "tokenizer.model").write_bytes(path.read_bytes())
    theirs = common.MistralTokenizer.from_file(str(path))
    with loaded(tmp_path, {"v1": 32000, "v3": 32768}[version]) as vocabulary:
        # It refuses blank messages, and removes white space at the ends of the model's.
        accepted = [(system, turns) for system, turns in CONVERSATIONS if all(turn.text.strip() for turn in turns)]
        assert len(accepted) == 19
        for system, turns in accepted:
            turns = tuple(replace(turn, text=turn.text.strip()) if turn.role == "assistant" else turn for turn in turns)
            request = protocol.ChatCompletionRequest(messages=messages_of((system, turns)))
            prompt = form_of(name).conversation(system, turns)
            assert prompt.tokens(vocabulary) == theirs.encode_chat_completion(request).tokens, (system, turns)


@pytest.mark.parametrize("name", NAMES)
def test_text_never_becomes_a_control_token(name: str, pair: Pair) -> None:
    form = form_of(name)
    forbidden = [id_ for token in form.control_tokens if (id_ := pair.ours.special_token_id(token.text)) is not None]
    assert forbidden
    spelled = " ".join(token.text for token in form.control_tokens)
    for hostile in (spelled, spelled.replace(" ", ""), f"x{spelled}x", *(token.text for token in form.control_tokens)):
        plain, attacked = (
            form.conversation(system, [Turn("user", text), Turn("assistant", text), Turn("user", text)])
            for system, text in (("Be brief.", "Harmless."), (hostile, hostile))
        )
        ids, expected = attacked.tokens(pair.ours), plain.tokens(pair.ours)
        assert [ids.count(token) for token in forbidden] == [expected.count(token) for token in forbidden]
        text = pair.ours.detokenize(ids).decode().replace(" ", "")
        assert text.count(hostile.replace(" ", "")) >= 4


@pytest.mark.parametrize("name", [name for name in HUGGING_FACE if name not in OWN_VOCABULARIES])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_has_the_token_ids_of_the_models_turn(name: str, pair: Pair, answer: str) -> None:
    form = form_of(name)
    scene = Scene(pair.ours, 100, form=AnswerForm.of(form, pair.ours))
    messages = messages_of(("", exchange("Is it loud?", answer)))
    ids = [*form.conversation("", exchange("Is it loud?")).tokens(pair.ours), *scene.continuation(answer), scene.end]
    expected = pair.ids(undated(name, rendered(name, messages, answer=True)))
    assert ids == expected[: len(ids)]
    assert scene.end in scene.ends


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_VOCABULARIES)
def test_an_answer_has_the_token_ids_of_the_text_in_the_models_own_vocabulary(name: str, tmp_path: Path) -> None:
    form, tokenizer = form_of(name), TOKENIZERS[OWN_VOCABULARIES[name]]
    tokenizer.write(tmp_path)
    question = exchange("Is it loud?")
    text = undated(name, rendered(name, messages_of(("", question))))
    with loaded(tmp_path, tokenizer.size) as vocabulary:
        pair = Pair(vocabulary, tmp_path)
        scene = Scene(vocabulary, 100, form=AnswerForm.of(form, vocabulary))
        prompt = form.conversation("", question).tokens(vocabulary)
        for answer in ANSWERS:
            ids = [*prompt, *scene.continuation(answer), scene.end]
            assert ids == pair.ids(f"{text}{answer}{form.end.text}"), answer
        assert scene.end in scene.ends


@pytest.mark.parametrize("name", ["mistral-v1", "mistral-v3"])
def test_an_answer_has_the_token_ids_of_mistrals_turn(name: str, spaced: Pair) -> None:
    form = form_of(name)
    scene = Scene(spaced.ours, 100, form=AnswerForm.of(form, spaced.ours))
    before, whole = exchange("Is it loud?"), exchange("Is it loud?", "yes", "Sure?")
    ids = [*form.conversation("", before).tokens(spaced.ours), *scene.continuation("yes"), scene.end]
    assert ids == form.conversation("", whole).tokens(spaced.ours)[: len(ids)]


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_of_a_row_is_a_users_turn(name: str) -> None:
    form = form_of(name)
    prompt = form.wrap("Do it.", "The text", '["A: x"]')
    assert prompt == form.conversation("", exchange('Do it.\n\nInput:\nThe text\n\nOptions:\n["A: x"]'))
    assert str(prompt).startswith(str(form.prefix("Do it.")))
    assert str(form.conversation("Be brief.", exchange("x"))).startswith(str(form.opening("Be brief.")))
    assert str(prompt).endswith(form.prompt_end)


def test_a_vocabulary_without_the_forms_tokens_is_refused(smollm: Pair) -> None:
    AnswerForm.of(get_envelope("qwen3"), smollm.ours)  # its tokens around thoughts may be text
    assert form_of("qwen3").conversation("", exchange("x")).tokens(smollm.ours)
    with refusal(ModelError, "<|begin_of_text|>", "envelope", settings=("envelope",)):
        AnswerForm.of(get_envelope("llama3"), smollm.ours)
