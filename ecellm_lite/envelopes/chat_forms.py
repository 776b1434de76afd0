"""The known chat forms, as data. docs/envelopes.md lists the models of each form.

Sources: llama.cpp (MIT licence) has chat templates in `models/templates/` and the expected prompts in
`tests/test-chat-template.cpp`. In the forms of Mistral's SentencePiece models, the spaces after control tokens are
those that the library mistral-common writes. Some models' templates print today's date. The forms here leave the date
out, or have the template's fixed default date, so that a prompt is the same every day. The prompt of a thinking model
contains the empty block of thoughts that the model's own template writes when thinking is turned off.
"""

from __future__ import annotations

from dataclasses import replace

from ecellm_lite.envelopes.chat_form import ChatForm, TurnForm
from ecellm_lite.envelopes.prompt import ControlToken

# ChatML: OpenHermes, Hermes 2 and 3, and many fine-tunes.
_START, _END = ControlToken("<|im_start|>"), ControlToken("<|im_end|>")

CHATML = ChatForm(
    "chatml",
    user=TurnForm((_START, "user\n"), (_END, "\n")),
    assistant=TurnForm((_START, "assistant\n"), (_END, "\n")),
    system=TurnForm((_START, "system\n"), (_END, "\n")),
    tail=(_START, "assistant\n"),
    end=_END,
)
QWEN2 = replace(CHATML, name="qwen2", default="You are a helpful assistant.")
QWEN25 = replace(CHATML, name="qwen2.5", default="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
_THINK, _THOUGHT = ControlToken("<think>", optional=True), ControlToken("</think>", optional=True)
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
    assistant=TurnForm((_START, "assistant\n", _THINK, "\n\n", _THOUGHT, "\n"), (_END, "\n")),
    system=TurnForm((_START, _SMOLLM3_FACTS.format(date="")), ("\n\n", _END, "\n")),
    tail=(*CHATML.tail, _THINK, "\n\n", _THOUGHT, "\n"),
    default=f"{_SMOLLM}.",
)

# Llama 3, and from 3.1 on a system turn with dates; theirs is the default date of the template.
_HEADER, _HEADER_END = ControlToken("<|start_header_id|>"), ControlToken("<|end_header_id|>")
_TURN_END = ControlToken("<|eot_id|>")
LLAMA3 = ChatForm(
    "llama3",
    head=(ControlToken("<|begin_of_text|>"),),
    user=TurnForm((_HEADER, "user", _HEADER_END, "\n\n"), (_TURN_END,)),
    assistant=TurnForm((_HEADER, "assistant", _HEADER_END, "\n\n"), (_TURN_END,)),
    system=TurnForm((_HEADER, "system", _HEADER_END, "\n\n"), (_TURN_END,)),
    tail=(_HEADER, "assistant", _HEADER_END, "\n\n"),
    end=_TURN_END,
    trims=True,
)
_LLAMA31_FACTS = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
LLAMA31 = replace(
    LLAMA3,
    name="llama3.1",
    system=TurnForm((_HEADER, "system", _HEADER_END, f"\n\n{_LLAMA31_FACTS}"), (_TURN_END,)),
    default="",
)

# Gemma 1 to 3: the system message stands in the first user's turn.
_GEMMA_START, _GEMMA_END = ControlToken("<start_of_turn>"), ControlToken("<end_of_turn>")
GEMMA = ChatForm(
    "gemma",
    head=(ControlToken("<bos>"),),
    user=TurnForm((_GEMMA_START, "user\n"), (_GEMMA_END, "\n")),
    assistant=TurnForm((_GEMMA_START, "model\n"), (_GEMMA_END, "\n")),
    tail=(_GEMMA_START, "model\n"),
    end=_GEMMA_END,
    trims=True,
)

# Phi-3 and 3.5: their tokenizer drops white space after these tokens.
_PHI3 = {role: ControlToken(f"<|{role}|>", "\n", strips=True) for role in ("user", "assistant", "system", "end")}
PHI3 = ChatForm(
    "phi3",
    user=TurnForm((_PHI3["user"],), (_PHI3["end"],)),
    assistant=TurnForm((_PHI3["assistant"],), (_PHI3["end"],)),
    system=TurnForm((_PHI3["system"],), (_PHI3["end"],)),
    tail=(_PHI3["assistant"],),
    end=_PHI3["end"],
)

# Phi-4-mini.
_PHI4 = {role: ControlToken(f"<|{role}|>") for role in ("user", "assistant", "system", "end")}
PHI4_MINI = ChatForm(
    "phi4-mini",
    user=TurnForm((_PHI4["user"],), (_PHI4["end"],)),
    assistant=TurnForm((_PHI4["assistant"],), (_PHI4["end"],)),
    system=TurnForm((_PHI4["system"],), (_PHI4["end"],)),
    tail=(_PHI4["assistant"],),
    end=_PHI4["end"],
)

# Phi-4, the 14 B model.
_SEPARATOR = ControlToken("<|im_sep|>")
PHI4 = ChatForm(
    "phi4",
    user=TurnForm((_START, "user", _SEPARATOR), (_END,)),
    assistant=TurnForm((_START, "assistant", _SEPARATOR), (_END,)),
    system=TurnForm((_START, "system", _SEPARATOR), (_END,)),
    tail=(_START, "assistant", _SEPARATOR),
    end=_END,
)

# Mistral 7B Instruct v0.1 and v0.2, Mixtral 8x7B: `[INST]` is plain text. SentencePiece puts the space after `<s>` and
# `</s>`. The system message stands in the first user's turn.
_BOS, _EOS = ControlToken("<s>", " "), ControlToken("</s>", " ")
MISTRAL_V1 = ChatForm(
    "mistral-v1",
    head=(_BOS,),
    user=TurnForm(("[INST] ",), ()),
    assistant=TurnForm((" [/INST] ",), (_EOS,)),
    tail=(" [/INST]",),
    end=_EOS,
    lead=" ",
)
# Mistral 7B Instruct v0.3 and its like: `[INST]` is a token, and SentencePiece puts the space after it.
# From here on, the system message stands in the last user's turn.
MISTRAL_V3 = ChatForm(
    "mistral-v3",
    head=(ControlToken("<s>"),),
    user=TurnForm((ControlToken("[INST]", " "),), ()),
    assistant=TurnForm((ControlToken("[/INST]", " "),), (ControlToken("</s>"),)),
    tail=(ControlToken("[/INST]"),),
    end=ControlToken("</s>"),
    folded="last",
)
# Mistral Nemo, Ministral 8B: byte-level BPE, and no space.
MISTRAL_NEMO = replace(
    MISTRAL_V3,
    name="mistral-nemo",
    user=TurnForm((ControlToken("[INST]"),), ()),
    assistant=TurnForm((ControlToken("[/INST]"),), (ControlToken("</s>"),)),
)

# Zephyr 7B and TinyLlama: the roles are plain text.
_ZEPHYR_END = ControlToken("</s>")
ZEPHYR = ChatForm(
    "zephyr",
    user=TurnForm(("<|user|>\n",), (_ZEPHYR_END, "\n")),
    assistant=TurnForm(("<|assistant|>\n",), (_ZEPHYR_END, "\n")),
    system=TurnForm(("<|system|>\n",), (_ZEPHYR_END, "\n")),
    tail=("<|assistant|>\n",),
    end=_ZEPHYR_END,
)

# OLMo 2: as Zephyr's, with a control token only after the model's turns.
_TEXT_END = ControlToken("<|endoftext|>")
OLMO2 = replace(
    ZEPHYR,
    name="olmo2",
    head=(_TEXT_END,),
    user=TurnForm(("<|user|>\n",), ("\n",)),
    assistant=TurnForm(("<|assistant|>\n",), (_TEXT_END, "\n")),
    system=TurnForm(("<|system|>\n",), ("\n",)),
    end=_TEXT_END,
)

# Granite 3.
_ROLE, _ROLE_END = ControlToken("<|start_of_role|>"), ControlToken("<|end_of_role|>")
_GRANITE_END = ControlToken("<|end_of_text|>")
GRANITE3 = ChatForm(
    "granite3",
    user=TurnForm((_ROLE, "user", _ROLE_END), (_GRANITE_END, "\n")),
    assistant=TurnForm((_ROLE, "assistant", _ROLE_END), (_GRANITE_END, "\n")),
    system=TurnForm((_ROLE, "system", _ROLE_END), (_GRANITE_END, "\n")),
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
_PLAIN_BOS, _PLAIN_EOS = ControlToken("<s>"), ControlToken("</s>")
_SMOLLM3_DATED = _SMOLLM3_FACTS.format(date="Today Date: 26 July 2024\n")
SPELLINGS = (
    replace(SMOLLM3, system=TurnForm((_START, _SMOLLM3_DATED), ("\n\n", _END, "\n"))),
    replace(GRANITE33, default=_GRANITE33.format(date=" Today's Date: July 26, 2024.")),
    replace(MISTRAL_V1, head=(_PLAIN_BOS,), assistant=TurnForm((" [/INST]",), (_PLAIN_EOS,))),
    replace(MISTRAL_V1, head=(_PLAIN_BOS,), assistant=TurnForm((" [/INST]",), (_EOS,))),
    replace(MISTRAL_V3, folded="first"),
    replace(MISTRAL_NEMO, folded="first"),
)
