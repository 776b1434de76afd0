"""Task files as users write them: one for each kind of answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROUTING = '''\
name = "support_routing"
summary = "Send a support mail to the right desk."
instruction = """
Given a customer's mail, choose the desk that should answer it.
Answer only from the options."""

[[fields]]
name = "mail"
doc = "The customer's mail."
example = "I was charged twice."
long = true

[answer]
type = "choice"
choices = [
  { value = "billing", description = "invoices, payments and refunds" },
  { value = "delivery", description = "parcels" },
  { value = "B" },
]
'''

FIELDS = """
[[fields]]
name = "question"
[[fields]]
name = "notes"
list = true
example = ["The lamp is blue.", "It has a steel base."]
[[fields]]
name = "shop"
required = false
"""

ROW = {"question": "Blue lamp?", "notes": ["A blue lamp with a steel base.", "A red chair."]}

ANSWERS = {
    "predicate": 'type = "predicate"',
    "choice": 'type = "choice"\nchoices = [{ value = "A" }, { value = "AB" }]',
    "choice or none": 'type = "choice"\nchoices = [{ value = "A" }, { value = "AB" }]\nnone = "neither"',
    "many choices": 'type = "choice"\nchoices = [' + ", ".join(f'{{ value = "desk {i}" }}' for i in range(255)) + "]",
    "labels": 'type = "labels"\nat_most = 2\nthreshold = 0.6\n'
    'choices = [{ value = "A" }, { value = "AB", threshold = 0.3 }, { value = "C" }]',
    "score": 'type = "score"\nlevels = ["very bad", "bad", "good", "very good"]',
    "ranking": 'type = "ranking"\nover = "notes"',
    "extraction": 'type = "extraction"\nattributes = ["Color", "Material"]',
    "extraction of a field": 'type = "extraction"\nattributes_from = "notes"',
    "text": 'type = "text"\nmax_tokens = 9',
    "schema": 'type = "schema"\nmax_tokens = 60\nschema = { enum = ["yes", "no", 3] }',
    "grammar": 'type = "grammar"\ngrammar = """root ::= [a-c]{2} | "\\\\u00e9" """',
    "lark": "type = \"grammar\"\ngrammar = 'start: /[a-c]{2}/'",
}


def task_text(answer: str, fields: str = FIELDS, name: str = "own") -> str:
    return f'name = "{name}"\nsummary = "A test."\ninstruction = "Answer."\n{fields}\n[answer]\n{answer}\n'


Write = Callable[..., Path]
