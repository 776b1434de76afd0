"""The Unicode normal form that a model's tokenizer gives to a text before it splits the text.

llama.cpp has no such step, so the engine normalizes texts itself. Qwen's tokenizers, for example, compose characters
(NFC): "e" with a combining accent becomes "é".
"""

from __future__ import annotations

NORMAL_FORM_KEY = "ecellm.tokenizer.normal_form"
NORMAL_FORMS = ("NFC",)

# Files from other converters do not have the key. Of their names for how texts are split, this one is Qwen's alone.
_BY_PRE_TOKENIZER = {"qwen2": "NFC"}


def normal_form(value: str | None, pre_tokenizer: str | None) -> str | None:
    """Return a file's normal form; None if texts stay as they are.

    `value`: the file's NORMAL_FORM_KEY. `pre_tokenizer`: its tokenizer.ggml.pre. None: the file has no such key.
    """
    return value if value in NORMAL_FORMS else _BY_PRE_TOKENIZER.get(pre_tokenizer or "")
