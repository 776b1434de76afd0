"""What a tokenizer says of its special tokens: which begins and ends a text, which are put there unasked.

The rules are those of gguf-py's SpecialVocab (gguf/vocab.py of llama.cpp). A chat template is kept as the text that it
is; nothing here renders one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import Value
from ecellm_lite.convert.checkpoint import inside, read_bytes, read_json
from ecellm_lite.convert.token_list import AddedToken
from ecellm_lite.errors import ModelError

MAX_TEMPLATE_BYTES = 1 << 20

# The keys of a GGUF file by the names of a tokenizer_config.json.
_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # so spelled by the format
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
) -> dict[str, Value]:
    """Return the keys for special tokens, whether they are added, and the chat template.

    `config`: that of config.json, whose ids count where the tokenizer names none. `tokenizer`: what tokenizer.json
    holds, if there is one. `size`: the model's tokens, beyond which no id may lie.
    """
    settings = settings_of(folder)
    ids = {token.text: token.id for token in added}
    found: dict[str, Value] = {}
    texts = {name: _text(settings.get(f"{name}_token")) for name in _KEYS}
    for name, key in _KEYS.items():
        named, configured = ids.get(texts[name] or ""), _configured(config.get(f"{name}_token_id"), size)
        if named is not None and named >= size:
            named = None
        if tokenizer is None and name not in {"bos", "eos"}:
            named = None  # as in llama.cpp's converter, which looks the names up in tokenizer.json alone
        token = named if named is not None and (tokenizer or configured is None) else configured
        if token is not None:
            found[key] = ("UINT32", token)
    at_once = _added_at_once(tokenizer, texts)
    for name in ("bos", "eos"):
        said = at_once.get(name, settings.get(f"add_{name}_token"))
        if isinstance(said, bool):
            found[f"tokenizer.ggml.add_{name}_token"] = ("BOOL", said)
    template = _chat_template(folder, settings)
    if template is not None:
        found["tokenizer.chat_template"] = ("STRING", template)
    return found


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what tokenizer_config.json holds; nothing, where there is none."""
    return read_json(inside(folder, "tokenizer_config.json")) if (folder / "tokenizer_config.json").exists() else {}


def _text(entry: object) -> str | None:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def _configured(said: object, size: int) -> int | None:
    # Chat models may name several ends of a text; the first is the sequence's own.
    first = said[0] if isinstance(said, list) and said else said
    return first if type(first) is int and 0 <= first < size else None


def _added_at_once(tokenizer: Mapping[str, Any] | None, texts: Mapping[str, str | None]) -> dict[str, bool]:
    """Return whether the post-processor of a tokenizer.json adds BOS and EOS, where it says so."""
    found: dict[str, bool] = {}
    processor = (tokenizer or {}).get("post_processor")
    if not isinstance(processor, dict):
        return found
    steps = processor.get("processors") if processor.get("type") == "Sequence" else [processor]
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue
        if step.get("type") == "ByteLevel":
            found.setdefault("bos", False)
            found.setdefault("eos", False)
        single = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(single, list) and len(single) > 1:
            for name, place in (("bos", single[0]), ("eos", single[-1])):
                special = place.get("SpecialToken") if isinstance(place, dict) else None
                if isinstance(special, dict):
                    found[name] = texts[name] is None or special.get("id") == texts[name]
    return found


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    said = settings.get("chat_template")
    if said is None and (folder / "chat_template.jinja").exists():
        try:
            said = read_bytes(inside(folder, "chat_template.jinja"), MAX_TEMPLATE_BYTES).decode("utf-8")
        except ValueError:
            raise ModelError(f"{folder / 'chat_template.jinja'} is no UTF-8: get it again.") from None
    elif said is None and (folder / "chat_template.json").exists():
        said = read_json(inside(folder, "chat_template.json")).get("chat_template")
    if isinstance(said, list):
        named = [one for one in said if isinstance(one, dict) and one.get("name") == "default"]
        said = named[0].get("template") if named else None
    if not isinstance(said, str) or len(said) > MAX_TEMPLATE_BYTES:
        return None
    return said.encode("utf-8", "replace").decode()
