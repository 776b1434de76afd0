"""Chat templates that are similar to published ones, and twenty conversations to try them with."""

# ruff: noqa: E501 - a template is a line

from __future__ import annotations

from datetime import datetime
from typing import Any

from ecellm_lite.envelopes import Turn

Conversation = tuple[str, tuple[Turn, ...]]


def exchange(*texts: str) -> tuple[Turn, ...]:
    """Return a conversation with these texts. The user begins, and the user and the model take turns."""
    return tuple(Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(texts))


_TEXTS = (
    "Is it loud?", "Größe L, 49,99 €", "  two spaces before", "a newline after\n", "\nand one before", "yes", " ",
    "Eine Zeile\n\nund noch eine", "日本語のレビュー", "👍🏽 great™", "def f(x):\n    return x", "1 12 123 1234",
    "don't, we'll, I'd", '{"title": "caf\\u00e9"}',
)  # fmt: skip

CONVERSATIONS: tuple[Conversation, ...] = (
    *(("", exchange(text)) for text in _TEXTS[:10]),
    ("Be brief.", exchange("Is it loud?")),
    ("Sei kurz.\nUnd freundlich.", exchange("Größe?")),
    ("", exchange("Hello.", "Hello!", "Is it loud?")),
    ("", exchange("Hello.", "Two\nlines", " and a space")),
    ("Be brief.", exchange("Hello.", "Hello!", "Is it loud?")),
    ("Be brief.", exchange("One.", "Two.", "Three.", "Four.", "Five.")),
    ("", exchange(*_TEXTS[10:], "the last")),
    ("", exchange("x" * 300)),
    ("", exchange("A: red\nB: blue", "A", "B: green")),
    ("Answer yes or no.", exchange("Is {{ it }} blue? {% if %}")),
)

_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _with_default(system: str) -> str:
    first = f"<|im_start|>system\n{system}<|im_end|>\n"
    return f"{{% if messages[0].role != 'system' %}}{{{{ {first!r} }}}}{{% endif %}}{_CHATML}"


_SMOLLM3 = (
    "{{ '<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: ' + strftime_now('%d %B %Y') }}"
    "{{ '\nReasoning Mode: /no_think\n\n## Custom Instructions\n\n' }}{{ messages[0].content if messages[0].role == 'system'"
    " else 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' }}{{ '\n\n<|im_end|>\n' }}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' if add_generation_prompt }}"
)
_LLAMA3 = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim }}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_LLAMA31 = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% endif %}{{ '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{{ 'Cutting Knowledge Date: December 2023\nToday Date: ' + (date_string if date_string is defined else strftime_now('%d %b %Y'))"
    " + '\n\n' + system + '<|eot_id|>' }}" + _LLAMA3
)
_GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{{ '<start_of_turn>' }}"
    "{{ ('model' if m.role == 'assistant' else 'user') + '\n' + (first if loop.first else '') + m.content | trim }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_OLMO2 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' }}{{ '\n' }}{% endfor %}{{ '<|assistant|>\n' if add_generation_prompt }}"
)
_MISTRAL_V1 = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + eos_token }}{% endfor %}"
)
_MISTRAL = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST]SPACE' + (system if loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ 'SPACE' + m.content + eos_token }}{% endif %}{% endfor %}"
)
_GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
_GRANITE33_FACTS = (
    "{% if messages[0].role != 'system' %}{{ '<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: '"
)
_GRANITE33_FACTS += (
    " + 'April 2024. Today\\'s Date: ' + strftime_now('%B %d, %Y') + '. You are Granite, developed by IBM. '"
)
_GRANITE33_FACTS += " + 'You are a helpful AI assistant.<|end_of_text|>\n' }}{% endif %}"

# Each form's template, BOS and EOS. Thinking and dates are as in the models' own templates.
TEMPLATES: dict[str, tuple[str, str, str]] = {
    "chatml": (_CHATML, "", "<|im_end|>"),
    "qwen2": (_with_default("You are a helpful assistant."), "", "<|im_end|>"),
    "qwen2.5": (
        _with_default("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), "", "<|im_end|>",
    ),
    "qwen3": (
        _CHATML + "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
        "", "<|im_end|>",
    ),
    "smollm2": (
        _with_default("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), "", "<|im_end|>",
    ),
    "smollm3": (_SMOLLM3, "", "<|im_end|>"),
    "llama3": ("{{ bos_token }}" + _LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "llama3.1": (_LLAMA31, "<|begin_of_text|>", "<|eot_id|>"),
    "gemma": (_GEMMA, "<bos>", "<eos>"),
    "phi3": (_PHI3, "<s>", "<|endoftext|>"),
    "phi4-mini": (_PHI3.replace("\n", ""), "<|endoftext|>", "<|endoftext|>"),
    "phi4": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{{ '<|im_start|>assistant<|im_sep|>' if add_generation_prompt }}",
        "<|endoftext|>", "<|im_end|>",
    ),
    "mistral-v1": (_MISTRAL_V1, "<s>", "</s>"),
    "mistral-v3": (_MISTRAL.replace("SPACE", " "), "<s>", "</s>"),
    "mistral-nemo": (_MISTRAL.replace("SPACE", ""), "<s>", "</s>"),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt }}",
        "<s>", "</s>",
    ),
    "olmo2": (_OLMO2, "<|endoftext|>", "<|endoftext|>"),
    "granite3": (_GRANITE, "<|end_of_text|>", "<|end_of_text|>"),
    "granite3.3": (_GRANITE33_FACTS + _GRANITE, "<|end_of_text|>", "<|end_of_text|>"),
}  # fmt: skip


def messages_of(conversation: Conversation) -> list[dict[str, str]]:
    """Return a conversation as the list of messages that a chat template gets."""
    system, turns = conversation
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": turn.role, "content": turn.text} for turn in turns]


def rendered(name: str, messages: list[dict[str, str]], *, answer: bool = False) -> str:
    """Return messages as a text, rendered with the chat template `name`. The result is the same as in transformers.

    `answer`: whether the last message is the model's answer.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template, bos, eos = TEMPLATES[name]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = datetime(2024, 7, 26).strftime
    settings: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "enable_thinking": False}
    return environment.from_string(template).render(messages=messages, add_generation_prompt=not answer, **settings)
