"""The known chat forms, as data. docs/envelopes.md lists the models of each form.

Sources: the templates in `models/templates/` and the expected texts in `tests/test-chat-template.cpp` of llama.cpp (MIT
licence), and mistral-common for SentencePiece's spaces. If a model's template prints today's date, the form here leaves
the date out, so that a prompt does not depend on the day. The prompt of a thinking model gets an empty block of
thoughts, as in the model's own template when thinking is turned off.
"""

from __future__ import annotations

from dataclasses import replace

from ecellm_lite.envelopes.chat_form import Around, ChatForm
from ecellm_lite.envelopes.prompt import Mark

# ChatML: OpenHermes, Hermes 2 and 3, and many fine-tunes.
_START, _END = Mark("<|im_start|>"), Mark("<|im_end|>")

CHATML = ChatForm(
    "chatml",
    user=Around((_START, "user\n"), (_END, "\n")),
    assistant=Around((_START, "assistant\n"), (_END, "\n")),
    system=Around((_START, "system\n"), (_END, "\n")),
    tail=(_START, "assistant\n"),
    end=_END,
)
QWEN2 = replace(CHATML, name="qwen2", default="You are a helpful assistant.")
QWEN25 = replace(CHATML, name="qwen2.5", default="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
_THINK, _THOUGHT = Mark("<think>", optional=True), Mark("</think>", optional=True)
QWEN3 = replace(CHATML, name="qwen3", tail=(*CHATML.tail, _THINK, "\n\n", _THOUGHT, "\n\n"))
_SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SMOLLM2 = replace(CHATML, name="smollm2", default=_SMOLLM)
_SMOLLM3_FACTS = (
    "system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n{date}Reasoning Mode: /no_think\n\n"
    "## Custom Instructions\n\n"
)
SMOLLM3 = replace(
    CHATML,
    name="smollm3",
    assistant=Around((_START, "assistant\n", _THINK, "\n\n", _THOUGHT, "\n"), (_END, "\n")),
    system=Around((_START, _SMOLLM3_FACTS.format(date="")), ("\n\n", _END, "\n")),
    tail=(*CHATML.tail, _THINK, "\n\n", _THOUGHT, "\n"),
    default=f"{_SMOLLM}.",
)

# Llama 3, and from 3.1 on a system turn with dates; theirs is the default date of the template.
_HEADER, _HEADER_END, _TURN_END = Mark("<|start_header_id|>"), Mark("<|end_header_id|>"), Mark("<|eot_id|>")
LLAMA3 = ChatForm(
    "llama3",
    head=(Mark("<|begin_of_text|>"),),
    user=Around((_HEADER, "user", _HEADER_END, "\n\n"), (_TURN_END,)),
    assistant=Around((_HEADER, "assistant", _HEADER_END, "\n\n"), (_TURN_END,)),
    system=Around((_HEADER, "system", _HEADER_END, "\n\n"), (_TURN_END,)),
    tail=(_HEADER, "assistant", _HEADER_END, "\n\n"),
    end=_TURN_END,
    trims=True,
)
_LLAMA31_FACTS = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
LLAMA31 = replace(
    LLAMA3,
    name="llama3.1",
    system=Around((_HEADER, "system", _HEADER_END, f"\n\n{_LLAMA31_FACTS}"), (_TURN_END,)),
    default="",
)

# Gemma 1 to 3: the system message stands in the first user's turn.
_GEMMA_START, _GEMMA_END = Mark("<start_of_turn>"), Mark("<end_of_turn>")
GEMMA = ChatForm(
    "gemma",
    head=(Mark("<bos>"),),
    user=Around((_GEMMA_START, "user\n"), (_GEMMA_END, "\n")),
    assistant=Around((_GEMMA_START, "model\n"), (_GEMMA_END, "\n")),
    tail=(_GEMMA_START, "model\n"),
    end=_GEMMA_END,
    trims=True,
)

# Phi-3 and 3.5: their tokenizer drops white space behind these tokens.
_PHI3 = {role: Mark(f"<|{role}|>", "\n", strips=True) for role in ("user", "assistant", "system", "end")}
PHI3 = ChatForm(
    "phi3",
    user=Around((_PHI3["user"],), (_PHI3["end"],)),
    assistant=Around((_PHI3["assistant"],), (_PHI3["end"],)),
    system=Around((_PHI3["system"],), (_PHI3["end"],)),
    tail=(_PHI3["assistant"],),
    end=_PHI3["end"],
)

# Phi-4-mini.
_PHI4 = {role: Mark(f"<|{role}|>") for role in ("user", "assistant", "system", "end")}
PHI4_MINI = ChatForm(
    "phi4-mini",
    user=Around((_PHI4["user"],), (_PHI4["end"],)),
    assistant=Around((_PHI4["assistant"],), (_PHI4["end"],)),
    system=Around((_PHI4["system"],), (_PHI4["end"],)),
    tail=(_PHI4["assistant"],),
    end=_PHI4["end"],
)

# Phi-4, the 14 B model.
_SEPARATOR = Mark("<|im_sep|>")
PHI4 = ChatForm(
    "phi4",
    user=Around((_START, "user", _SEPARATOR), (_END,)),
    assistant=Around((_START, "assistant", _SEPARATOR), (_END,)),
    system=Around((_START, "system", _SEPARATOR), (_END,)),
    tail=(_START, "assistant", _SEPARATOR),
    end=_END,
)

# Mistral 7B Instruct v0.1 and v0.2, Mixtral 8x7B: `[INST]` is plain text. SentencePiece puts the space behind `<s>` and
# `</s>`. The system message stands in the first user's turn.
_BOS, _EOS = Mark("<s>", " "), Mark("</s>", " ")
MISTRAL_V1 = ChatForm(
    "mistral-v1",
    head=(_BOS,),
    user=Around(("[INST] ",), ()),
    assistant=Around((" [/INST] ",), (_EOS,)),
    tail=(" [/INST]",),
    end=_EOS,
    lead=" ",
)
# Mistral 7B Instruct v0.3 and its like: `[INST]` is a token, and SentencePiece puts the space behind it.
# From here on, the system message stands in the last user's turn.
MISTRAL_V3 = ChatForm(
    "mistral-v3",
    head=(Mark("<s>"),),
    user=Around((Mark("[INST]", " "),), ()),
    assistant=Around((Mark("[/INST]", " "),), (Mark("</s>"),)),
    tail=(Mark("[/INST]"),),
    end=Mark("</s>"),
    folded="last",
)
# Mistral Nemo, Ministral 8B: byte-level BPE, and no space.
MISTRAL_NEMO = replace(
    MISTRAL_V3,
    name="mistral-nemo",
    user=Around((Mark("[INST]"),), ()),
    assistant=Around((Mark("[/INST]"),), (Mark("</s>"),)),
)

# Zephyr 7B and TinyLlama: the roles are plain text.
_ZEPHYR_END = Mark("</s>")
ZEPHYR = ChatForm(
    "zephyr",
    user=Around(("<|user|>\n",), (_ZEPHYR_END, "\n")),
    assistant=Around(("<|assistant|>\n",), (_ZEPHYR_END, "\n")),
    system=Around(("<|system|>\n",), (_ZEPHYR_END, "\n")),
    tail=("<|assistant|>\n",),
    end=_ZEPHYR_END,
)

# OLMo 2: as Zephyr's, with a mark only behind the model's turns.
_TEXT_END = Mark("<|endoftext|>")
OLMO2 = replace(
    ZEPHYR,
    name="olmo2",
    head=(_TEXT_END,),
    user=Around(("<|user|>\n",), ("\n",)),
    assistant=Around(("<|assistant|>\n",), (_TEXT_END, "\n")),
    system=Around(("<|system|>\n",), ("\n",)),
    end=_TEXT_END,
)

# Granite 3.
_ROLE, _ROLE_END, _GRANITE_END = Mark("<|start_of_role|>"), Mark("<|end_of_role|>"), Mark("<|end_of_text|>")
GRANITE3 = ChatForm(
    "granite3",
    user=Around((_ROLE, "user", _ROLE_END), (_GRANITE_END, "\n")),
    assistant=Around((_ROLE, "assistant", _ROLE_END), (_GRANITE_END, "\n")),
    system=Around((_ROLE, "system", _ROLE_END), (_GRANITE_END, "\n")),
    tail=(_ROLE, "assistant", _ROLE_END),
    end=_GRANITE_END,
)
_GRANITE33 = (
    "Knowledge Cutoff Date: April 2024.{date} You are Granite, developed by IBM. You are a helpful AI assistant."
)
GRANITE33 = replace(GRANITE3, name="granite3.3", default=_GRANITE33.format(date=""))

CHAT_FORMS = (
    CHATML, QWEN2, QWEN25, QWEN3, SMOLLM2, SMOLLM3, LLAMA3, LLAMA31, GEMMA, PHI3, PHI4_MINI, PHI4, MISTRAL_V1,
    MISTRAL_V3, MISTRAL_NEMO, ZEPHYR, OLMO2, GRANITE3, GRANITE33,
)  # fmt: skip

# Other spellings of the forms: what a template prints with a date, and older templates of the same models.
_PLAIN_BOS, _PLAIN_EOS = Mark("<s>"), Mark("</s>")
_SMOLLM3_DATED = _SMOLLM3_FACTS.format(date="Today Date: 26 July 2024\n")
SPELLINGS = (
    replace(SMOLLM3, system=Around((_START, _SMOLLM3_DATED), ("\n\n", _END, "\n"))),
    replace(GRANITE33, default=_GRANITE33.format(date=" Today's Date: July 26, 2024.")),
    replace(MISTRAL_V1, head=(_PLAIN_BOS,), assistant=Around((" [/INST]",), (_PLAIN_EOS,))),
    replace(MISTRAL_V1, head=(_PLAIN_BOS,), assistant=Around((" [/INST]",), (_EOS,))),
    replace(MISTRAL_V3, folded="first"),
    replace(MISTRAL_NEMO, folded="first"),
)
