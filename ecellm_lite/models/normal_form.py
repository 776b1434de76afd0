"""The Unicode normal form of texts. Some tokenizers normalize a text before they split the text into tokens.

llama.cpp does not normalize texts, so the engine does it. Qwen's tokenizers, for example, compose characters (NFC): "e"
with a combining accent becomes "é".
"""

from __future__ import annotations

NORMAL_FORM_KEY = "ecellm.tokenizer.normal_form"
NORMAL_FORMS = ("NFC",)

# Files from other converters do not have the key. Of their names for how texts are split, this one is Qwen's alone.
_BY_PRE_TOKENIZER = {"qwen2": "NFC"}


def normal_form(value: str | None, pre_tokenizer: str | None) -> str | None:
    """Return the Unicode normal form that a model's tokenizer applies to texts, or None if it applies none.

    `value`: the metadata value under NORMAL_FORM_KEY, or None if the file does not have the key.
    `pre_tokenizer`: the metadata value under tokenizer.ggml.pre, or None.
    """
    return value if value in NORMAL_FORMS else _BY_PRE_TOKENIZER.get(pre_tokenizer or "")
