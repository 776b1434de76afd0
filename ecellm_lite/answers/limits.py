"""Limits on the size, depth and cost of grammars, checked before native code sees them.

llguidance reports most mistakes itself. This module refuses what would crash or stall llguidance:

- long chains of rules or references, which overflow its stack;
- a schema with `allOf` and many patterns, which takes unbounded time and memory;
- many or large numbers in `multipleOf`, because the cost grows with their product;
- operators that intersect or negate regular expressions, which take unbounded time and memory.

The limits were found by experiment, with llguidance 1.9 on a stack of 1 MiB, the smallest that a thread usually has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from ecellm_lite.errors import GrammarError

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 64  # brackets in a grammar, schemas in a schema
MAX_CHAIN = 256  # the deepest nesting that rules or references can reach together
MAX_JOINED = 12  # patterns and formats in a schema that joins schemas: 16 take seconds, 60 all memory
MAX_KEYS = 32  # regular expressions for the names of properties, each compared with every other
MAX_MULTIPLE = 100_000  # the product of all `multipleOf`, the number of remainders to distinguish

# Keys that describe a schema and do not change what it allows.
_REMARKS = frozenset(("title", "description", "default", "examples", "deprecated", "$comment", "$schema"))


def check_size(what: str, text: str, most: int = MAX_CHARACTERS) -> None:
    """Raise GrammarError for a text that is longer than `most` characters, or that is not valid Unicode.

    `what` is the word for the text in the error's message, such as "grammar".
    """
    if len(text) > most:
        raise GrammarError(f"The {what} has {len(text):,} characters", step=f"shorten it to at most {most:,}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"The {what} has half a surrogate pair at character {error.start}"
        raise GrammarError(message, step="remove it") from None


def check_schema(definition: Any) -> None:
    """Raise GrammarError if a JSON schema could exhaust the machine. `definition` is the parsed schema."""
    deep = depth(definition)
    targets: dict[str, int] = {}
    multiples: set[Decimal] = set()
    joins, strings, keys = False, 0, 0
    for schema in _objects(definition):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            targets.setdefault(reference, depth(_target(definition, reference)))
            joins = joins or bool(set(schema) - _REMARKS - {"$ref", "$defs", "definitions"})
        branches = schema.get("allOf")
        if isinstance(branches, list):
            joins = joins or len(branches) > 1 or bool(set(schema) - _REMARKS - {"allOf", "$defs", "definitions"})
        strings += isinstance(schema.get("pattern"), str) + isinstance(schema.get("format"), str)
        names = schema.get("patternProperties")
        keys += len(names) if isinstance(names, Mapping) else 0
        multiple = schema.get("multipleOf")
        if isinstance(multiple, int | float) and not isinstance(multiple, bool):
            multiples.add(_coefficient(multiple))
    _check_chain("schema", "references", deep + sum(targets.values()))
    if joins and strings > MAX_JOINED:
        raise GrammarError(
            f"The schema joins schemas (allOf, or $ref beside other keys) and has {strings} patterns and formats",
            step=f"merge the joined schemas into one, or use at most {MAX_JOINED} patterns and formats",
        )
    if keys > MAX_KEYS:
        message = f"The schema has {keys} patternProperties"
        raise GrammarError(message, step=f"use at most {MAX_KEYS}, and name the other properties")
    product = Decimal(1)
    for multiple in multiples:
        product *= multiple
    if not product <= MAX_MULTIPLE:
        raise GrammarError(
            f"The product of the schema's multipleOf is {product:.6g}",
            step=f"use smaller or fewer ones, with a product of at most {MAX_MULTIPLE:,}",
        )


def depth(value: Any, what: str = "schema") -> int:
    """Return how many levels of lists and objects a JSON value has.

    Raises GrammarError if there are more than 2 * MAX_DEPTH levels. `what` is the word for the value in the
    error's message, such as "schema".
    """
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        node, level = waiting.pop()
        if not isinstance(node, Mapping | list):
            continue
        if level > 2 * MAX_DEPTH:
            raise GrammarError(f"The {what} is nested more than {MAX_DEPTH} deep", step="flatten it")
        deepest = max(deepest, level)
        waiting.extend((part, level + 1) for part in (node.values() if isinstance(node, Mapping) else node))
    return deepest


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object inside a JSON schema. Some of them are not schemas, but checking them does no harm."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _target(definition: Any, reference: str) -> Any:
    """Return the schema that a reference such as `#/$defs/NAME` points to. Raises GrammarError for other references."""
    target = definition
    try:
        if not reference.startswith("#") or (reference != "#" and not reference.startswith("#/")):
            raise KeyError(reference)
        for part in unquote(reference[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
    except (KeyError, IndexError, TypeError, ValueError):
        message = f"The schema's reference {reference[:80]!r} points to nothing in it"
        raise GrammarError(message, step="write it as '#/$defs/NAME'") from None
    return target


def _coefficient(multiple: float) -> Decimal:
    """Return the digits of a number as an integer, without its sign and decimal point: 0.25 becomes 25."""
    number = abs(Decimal(repr(multiple)))
    if not number.is_finite() or not number:
        return Decimal(1)  # refused by llguidance itself
    exponent = number.normalize().as_tuple().exponent
    return number.scaleb(-min(0, int(exponent)))


# A comment, a string or a regular expression, as in llguidance's lexer: brackets and colons in them mean nothing.
# An unterminated one matches up to where it should have ended, and llguidance then reports it.
_LITERAL = re.compile(r'(?:#|//)[^\n]*|"(?:\\.|[^"\\\n])*"?|/(?:\\.|[^/\\])+/?')
_JSON = re.compile(r"%json\s*(?=\{)")


# Intersections and complements of expressions can take endless time; special tokens are not text.
_EXPRESSION = "write out what is allowed"
_REFUSED = {"&": _EXPRESSION, "~": _EXPRESSION, "<": "remove it; an answer holds no special tokens"}


def check_lark(text: str) -> None:
    """Raise GrammarError for a Lark grammar that could crash or stall llguidance, or has special tokens."""
    bare = _LITERAL.sub(lambda literal: " " * len(literal[0]), text)
    for place in _JSON.finditer(bare):
        try:
            definition, end = json.JSONDecoder().raw_decode(text, place.end())
        except (ValueError, RecursionError) as error:
            raise GrammarError(f"The grammar's %json is not JSON ({error})", step="correct it") from None
        check_schema(definition)
        bare = bare[: place.start()] + " " * (end - place.start()) + bare[end:]
    for sign, step in _REFUSED.items():
        if sign in bare:
            line = bare[: bare.index(sign)].count("\n") + 1
            raise GrammarError(f"The grammar has a {sign!r} in line {line}", step=step, line=line)
    level = deepest = total = 0
    for character in bare:
        level = max(0, level + (character in "([{") - (character in ")]}"))
        deepest = max(deepest, level)
        if level > MAX_DEPTH:
            raise GrammarError(f"The grammar is nested more than {MAX_DEPTH} deep", step="flatten it")
        if character == ":":
            total, deepest = total + 1 + deepest, level
    _check_chain("grammar", "rules", total + deepest)


def _check_chain(what: str, parts: str, levels: int) -> None:
    if levels > MAX_CHAIN:
        message = f"The {what}'s {parts} could nest {levels:,} deep"
        raise GrammarError(message, step=f"use fewer {parts}; at most {MAX_CHAIN} levels are allowed")
