"""Finds out, before a model runs, which chat form gives the same prompts as the model's chat template.

A chat form is this project's own description of the text around a conversation. No template is rendered when a model
runs, because a template is an untrusted program. Instead, the chat form is found when a model is converted or added. A
known template is recognized by its hash. An unknown template is rendered for a few fixed conversations, in a child
process with a sandbox, a time limit and a memory limit. The results are compared with the prompts of the chat forms.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.special_tokens import chat_template, settings_of, token_text
from ecellm_lite.envelopes.chat_form import ChatForm
from ecellm_lite.envelopes.chat_forms import CHAT_FORMS, SPELLINGS
from ecellm_lite.envelopes.envelope import Turn
from ecellm_lite.models.chat_templates import known_form

SECONDS = 20  # for the child, most of which Python and jinja2 take to start
MOST_LETTERS = 1 << 16

# System messages and turns. The second has white space, which some forms remove; not every template takes the last two.
PROBES: tuple[tuple[str, tuple[Turn, ...]], ...] = (
    ("", (Turn("user", "First, with {{ signs }}."),)),
    ("", (Turn("user", " Second. \n"), Turn("assistant", "An answer."), Turn("user", "Third."))),
    ("A rule.", (Turn("user", "Fourth."),)),
    ("A rule.", (Turn("user", "Fifth."), Turn("assistant", "An answer."), Turn("user", "Sixth."))),
)
_NEEDED = 2  # so many of the first probes must be rendered, without an error


def form_of(metadata: Mapping[str, MetadataValue]) -> str | None:
    """Return the name of the chat form that gives the same prompts as a GGUF file's chat template.

    Return None if there is no template or no such chat form.
    """
    template = str(metadata.get("tokenizer.chat_template", ("STRING", ""))[1])
    if not template:
        return None
    return known_form(template) or recognized_form(template, *(_token(metadata, name) for name in ("bos", "eos")))


def form_of_folder(folder: Path) -> str | None:
    """Return the name of the chat form that gives the same prompts as the chat template in a checkpoint's folder.

    Return None if there is no template or no such chat form. The folder need not contain the vocabulary.
    """
    settings = settings_of(folder)
    template = chat_template(folder, settings)
    if not template:
        return None
    return known_form(template) or recognized_form(
        template, *(token_text(settings.get(f"{name}_token")) or "" for name in ("bos", "eos"))
    )


def recognized_form(template: str, bos: str, eos: str) -> str | None:
    """Return the name of the chat form that gives the same prompts as a chat template, or None.

    `bos`, `eos`: the texts of the BOS and EOS tokens, which the template may use.
    """
    texts = rendered(template, bos, eos)
    if None in texts[:_NEEDED]:
        return None
    for form in (*CHAT_FORMS, *SPELLINGS):
        if all(text is None or text == _prompt(form, *probe) for text, probe in zip(texts, PROBES, strict=True)):
            return form.name
    return None


def rendered(template: str, bos: str, eos: str) -> Sequence[str | None]:
    """Render each conversation of PROBES with a chat template, in a child process.

    Return one text per conversation, or None for a conversation that the template cannot render.
    """
    probes = [
        [{"role": "system", "content": system}] * bool(system)
        + [{"role": turn.role, "content": turn.text} for turn in turns]
        for system, turns in PROBES
    ]
    nothing = [None] * len(PROBES)
    request = json.dumps({"template": template, "bos": bos, "eos": eos, "conversations": probes, "most": MOST_LETTERS})
    command = [sys.executable, "-m", "ecellm_lite.convert.template_child"]
    try:
        result = subprocess.run(  # noqa: S603 - this program's own module
            command, input=request.encode(), capture_output=True, timeout=SECONDS, check=False
        )
        texts: list[Any] = json.loads(result.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return nothing
    return texts if len(texts) == len(PROBES) else nothing


def _prompt(form: ChatForm, system: str, turns: Sequence[Turn]) -> str:
    return str(form.conversation(system, turns))


def _token(metadata: Mapping[str, MetadataValue], name: str) -> str:
    token = metadata.get(f"tokenizer.ggml.{name}_token_id", ("UINT32", -1))[1]
    texts = metadata.get("tokenizer.ggml.tokens", ("ARRAY", ()))[1]
    return str(texts[token]) if isinstance(token, int) and 0 <= token < len(texts) else ""
