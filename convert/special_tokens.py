"""Reads which tokens begin and end a text, and whether the tokenizer adds them to a prompt.

The rules are from gguf-py's SpecialVocab (gguf/vocab.py of llama.cpp). A chat template is copied as text and never
rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.reading import damaged, inside, read_bytes, read_json
from ecellm_lite.convert.token_list import AddedToken

MAX_TEMPLATE_BYTES = 1 << 20

# The keys of a GGUF file by the names in a tokenizer_config.json.
_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # the format's spelling
    "pad": "tokenizer.ggml.padding_token_id",
    "cls": "tokenizer.ggml.cls_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}


def special_tokens(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any] | None,
    added: Sequence[AddedToken],
    size: int,
) -> dict[str, MetadataValue]:
    """Return the special tokens and the chat template as GGUF metadata.

    The metadata say which tokens begin and end a prompt.

    - `config`: the content of config.json. Its token ids are used if the tokenizer's files name none, or if there is no
      tokenizer.json.
    - `tokenizer`: the content of tokenizer.json, if there is one.
    - `size`: the size of the model's vocabulary. A special token is left out if its id is `size` or more.
    """
    settings = settings_of(folder)
    ids = {token.text: token.id for token in added}
    metadata: dict[str, MetadataValue] = {}
    texts = {name: token_text(settings.get(f"{name}_token")) for name in _KEYS}
    for name, key in _KEYS.items():
        named, configured = ids.get(texts[name] or ""), _configured(config.get(f"{name}_token_id"), size)
        if named is not None and named >= size:
            named = None
        if tokenizer is None and name not in {"bos", "eos"}:
            named = None  # as in llama.cpp's converter, which looks up these names only in tokenizer.json
        token = named if named is not None and (tokenizer or configured is None) else configured
        if token is not None:
            metadata[key] = ("UINT32", token)
    automatic = _added_automatically(tokenizer, texts)
    for name in ("bos", "eos"):
        flag = automatic.get(name, settings.get(f"add_{name}_token"))
        if isinstance(flag, bool):
            metadata[f"tokenizer.ggml.add_{name}_token"] = ("BOOL", flag)
    template = chat_template(folder, settings)
    if template is not None:
        metadata["tokenizer.chat_template"] = ("STRING", template)
    return metadata


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the content of tokenizer_config.json, or an empty dict if there is none."""
    return read_json(inside(folder, "tokenizer_config.json")) if (folder / "tokenizer_config.json").exists() else {}


def token_text(entry: object) -> str | None:
    """Return the text of a token in tokenizer_config.json.

    The entry is a text, or an object with the text as `content`.
    """
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def _configured(value: object, size: int) -> int | None:
    # Chat models may name several tokens that end a text; the first one ends a sequence.
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int and 0 <= first < size else None


def _added_automatically(tokenizer: Mapping[str, Any] | None, texts: Mapping[str, str | None]) -> dict[str, bool]:
    """Return whether tokenizer.json adds a BOS token ("bos") and an EOS token ("eos") to a text.

    For example, {"bos": True} means that a BOS token is added, and that the file says nothing about EOS.

    `texts`: the texts of both tokens, with the same keys.
    """
    flags: dict[str, bool] = {}
    processor = (tokenizer or {}).get("post_processor")
    if not isinstance(processor, dict):
        return flags
    steps = processor.get("processors") if processor.get("type") == "Sequence" else [processor]
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue
        if step.get("type") == "ByteLevel":
            flags.setdefault("bos", False)
            flags.setdefault("eos", False)
        single = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(single, list) and len(single) > 1:
            for name, place in (("bos", single[0]), ("eos", single[-1])):
                special = place.get("SpecialToken") if isinstance(place, dict) else None
                if isinstance(special, dict):
                    flags[name] = texts[name] is None or special.get("id") == texts[name]
    return flags


def chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return a checkpoint's chat template as text, or None. `settings` is the content of tokenizer_config.json."""
    template = settings.get("chat_template")
    if template is None and (folder / "chat_template.jinja").exists():
        try:
            template = read_bytes(inside(folder, "chat_template.jinja"), MAX_TEMPLATE_BYTES).decode("utf-8")
        except ValueError:
            raise damaged(folder / "chat_template.jinja", "is not UTF-8") from None
    elif template is None and (folder / "chat_template.json").exists():
        template = read_json(inside(folder, "chat_template.json")).get("chat_template")
    if isinstance(template, list):
        defaults = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = defaults[0].get("template") if defaults else None
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE_BYTES:
        return None
    return template.encode("utf-8", "replace").decode()
