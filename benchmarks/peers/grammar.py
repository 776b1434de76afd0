"""The GBNF grammars that a user of llama.cpp would write for the ten tasks."""

from __future__ import annotations

import json

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.space import Space

# A JSON list in json.dumps' form; the string rule is that of llama.cpp's own json.gbnf.
_EXTRACTION = r"""
root ::= "[" entry (", " entry)* "]"
entry ::= "{\"attribute\": " string ", \"value\": " string ", \"source\": " string "}"
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
"""


def gbnf(space: Space) -> str | None:
    """Return the grammar of a row's answers, or None for free text.

    The grammar of a ranking allows exactly as many letters as there are products, so that the model must stop. It does
    not prevent repeated letters.
    """
    if isinstance(space, Predicate):
        return 'root ::= "yes" | "no"'
    if isinstance(space, Choice):
        return "root ::= " + " | ".join(_quoted(option.text) for option in space.options)
    if isinstance(space, Ranking):
        letter = f"[{''.join(space.letters)}]"
        return f'root ::= {letter} ("," {letter}){{{len(space.letters) - 1}}}'
    return _EXTRACTION if isinstance(space, Extraction) else None


def _quoted(text: str) -> str:
    # GBNF has JSON's escapes, except surrogate pairs.
    return json.dumps(text, ensure_ascii=False)
