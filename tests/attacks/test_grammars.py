"""Checks that hostile schemas and grammars are refused before the library llguidance reads them.

They would crash or hang llguidance, or use all memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ecellm_lite import GrammarError, grammar, schema
from ecellm_lite.answers.limits import MAX_CHAIN, MAX_JOINED, MAX_KEYS, MAX_MULTIPLE


def rules(count: int, name: str = "a") -> str:
    """Return `count` grammar rules, each of which contains the next rule."""
    chain = "\n".join(f"{name}{i}: {name}{i + 1}" for i in range(count))
    return f'start: {name}0\n{chain}\n{name}{count}: "x"'


def definitions(count: int, link: str) -> dict[str, Any]:
    """Return a schema with a chain of `count` definitions, each of which refers to the next.

    `link` is the JSON of one definition, with the word NEXT in place of the reference.
    """
    links: dict[str, Any] = {f"a{i}": json.loads(link.replace("NEXT", f"#/$defs/a{i + 1}")) for i in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{count}": {"type": "boolean"}}}


def nested(count: int) -> dict[str, Any]:
    deep: dict[str, Any] = {"type": "boolean"}
    for _ in range(count):
        deep = {"allOf": [deep]}
    return deep


STARS = [rf"/(a{{{count}}})*b/" for count in (97, 101, 103, 107)]
REFERENCE = '{"$ref": "NEXT"}'

GRAMMARS = {
    # Stack overflows: a segmentation fault.
    "rules": rules(10_000),
    "terminals": rules(10_000, "A"),
    "rules in brackets": "start: a0\n" + "\n".join(f"a{i}: {'(' * 20}a{i + 1}{')' * 20}" for i in range(1000)),
    "references in a schema in a grammar": f"start: %json {json.dumps(definitions(3000, REFERENCE))}",
    "brackets": f'start: {"(" * 100_000}"a"{")" * 100_000}',
    # Hours of work.
    "in common": f"start: A\nA: {' & '.join(STARS)}",
    "not in either": f"start: A\nA: ~(~{' | ~'.join(STARS)})",
    # Read differently by two parsers.
    "in common, behind a quote in a regular expression of two lines": f'start: A\nA: /x\n"/ | {" & ".join(STARS)} //"',
    "in common, behind a quote in a comment": f'start: A # "\nA: {" & ".join(STARS)} # "',
    "in common, behind a quote in a special token": f'start: A\nA: <a"> | {" & ".join(STARS)} | "b"',
    "a string without end": "start: " + '\\"' * 120_000,
    "a regular expression without end": "start: /" + "\\/" * 120_000,
    "too long": "start: " + " | ".join(f'"{i}"' for i in range(100_000)),
    # Not valid text or not a valid number for native code.
    "half a pair": 'start: "\ud800"',
    "half a pair, escaped": r'start: "\ud800"',
    "half a pair in a regular expression": r"start: /\ud800/",
    "half a pair in a schema in a grammar": r'start: %json {"const": "\ud800"}',
    "1e400 in a schema in a grammar": 'start: %json {"type": "number", "maximum": 1e400}',
    "NaN in a schema in a grammar": 'start: %json {"type": "number", "maximum": NaN}',
    "a repetition without end": 'start: "a"{1,' + "9" * 30 + "}",
    # These crashed llama.cpp's own parser.
    "gbnf: brackets": f'root ::= {"(" * 30_000}"a"{")" * 30_000}',
    "gbnf: repetition": 'root ::= (("a"{1,100000}){1,100000}){1,100000}',
    "gbnf: a number without end": f'root ::= "a"{{{"9" * 5000}}}',
    "gbnf: a repetition of spaces": 'root ::= "a"{1' + " " * 60_000,
    "gbnf: a string without end": 'root ::= "' + '\\"' * 30_000,
    "gbnf: rules": "root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1}" for i in range(5000)),
    "gbnf: a backslash at the end": 'root ::= "\\',
    "gbnf: half a pair": r'root ::= "\ud800"',
    "gbnf: no such character": r'root ::= "\Uffffffff"',
    "gbnf: no root": 'other ::= "a"',
    "gbnf: no such rule": "root ::= other",
    "gbnf: too long": "root ::= " + '"a" ' * 20_000,
}

PATTERN = {"type": "string", "pattern": "a.*b"}

SCHEMAS: dict[str, dict[str, Any]] = {
    # Stack overflows.
    "references": definitions(10_000, REFERENCE),
    "references in items": definitions(1500, '{"type": "array", "items": {"$ref": "NEXT"}}'),
    "references in allOf": definitions(1500, '{"allOf": [{"$ref": "NEXT"}, {"$ref": "NEXT"}]}'),
    "nesting": nested(10_000),
    # All memory, or hours of work.
    "patterns in common": {"allOf": [{"type": "string", "pattern": f"a.*b{i}.*"} for i in range(60)]},
    "patterns by reference": {
        "$ref": "#/$defs/a0",
        "$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}", "pattern": f"b{i}"} for i in range(60)} | {"a60": {}},
    },
    "patterns of one property": {"allOf": [{"properties": {"x": {**PATTERN, "title": str(i)}}} for i in range(60)]},
    "names by pattern": {"patternProperties": {f"^a.{{{i}}}$": PATTERN for i in range(1000)}},
    "multiples": {"anyOf": [{"type": "integer", "multipleOf": factor} for factor in (9973, 9967, 9949)]},
    "one multiple": {"type": "integer", "multipleOf": 9_999_991},
    "multiples in common": {"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}], "type": "integer"},
    "no reference": {"$ref": "http://127.0.0.1/schema"},
    "an anchor": {"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}},
    "a reference to nowhere": {"$ref": "#/$defs/a/0/1"},
    # What JSON text cannot hold, or what is not a float.
    "1e400": {"type": "number", "maximum": json.loads("1e400")},
    "-1e400": {"type": "integer", "minimum": json.loads("-1e400")},
    "a length of 1e400": {"type": "string", "minLength": json.loads("1e400")},
    "a multiple of 1e400": {"type": "number", "multipleOf": json.loads("1e400")},
    "NaN": {"type": "number", "maximum": json.loads("NaN")},
    "NaN in a constant": {"const": {"a": [json.loads("NaN")]}},
    "NaN in a remark": {"type": "string", "default": json.loads("NaN")},
    "NaN for a type": {"type": json.loads("NaN")},
    "401 digits": {"const": 10**400},
    "5001 digits": {"const": 10**5000},
    "a multiple of 5001 digits": {"type": "integer", "multipleOf": 10**5000},
    "half a pair": {"const": json.loads(r'"\ud800"')},
    "half a pair in a key": {"type": "object", "properties": {"\udc00": {"type": "string"}}},
    "half a pair in a pattern": {"type": "string", "pattern": "\ud800"},
    "half a pair in a remark": {"type": "string", "description": "\ud800"},
    "half a pair in a reference": {"$ref": "#/$defs/\ud800", "$defs": {"\ud800": {"type": "string"}}},
    "a type of types": {"type": [["integer"]]},
    "a type that is an object": {"type": {"a": 1}},
    "no JSON": {"const": {1, 2}},
    # Not seen by the checks of lists.
    "a tuple": {"allOf": tuple({"type": "string", "pattern": f"a.*b{i}.*"} for i in range(60))},
}
SCHEMAS["itself"] = {"type": "array", "items": SCHEMAS}


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_hostile_grammar_is_refused(name: str) -> None:
    with pytest.raises(GrammarError) as caught:
        grammar(GRAMMARS[name])
    assert caught.value.step


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_hostile_schema_is_refused(name: str) -> None:
    with pytest.raises(GrammarError) as caught:
        schema(SCHEMAS[name])
    assert caught.value.step


# The largest inputs within the limits compile and give their first mask on a small stack and in little memory.
LARGEST = [
    ("grammar", rules(MAX_CHAIN - 3)),
    ("grammar", rules(MAX_CHAIN - 3, "A")),
    ("grammar", "start: a0\n" + "\n".join(f"a{i}: {'(' * 20}a{i + 1}{')' * 20}" for i in range(11)) + '\na11: "x"'),
    ("grammar", "start: /((a{1,1000}){1,1000}){1,1000}/"),
    ("grammar", 'start: "a"{1,1000000000}'),
    ("grammar", "start: /(a|b)*a(a|b){1000}c/"),
    ("grammar", "start: " + " | ".join(f'"{i}"' for i in range(1500))),
    ("grammar", "root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1}" for i in range(240)) + '\na240 ::= "x"'),
    ("schema", definitions(80, '{"allOf": [{"$ref": "NEXT"}]}')),
    ("schema", definitions(120, '{"type": "array", "items": {"$ref": "NEXT"}}')),
    ("schema", {"allOf": [{"type": "string", "pattern": f"a.*b{i}?"} for i in range(MAX_JOINED)]}),
    ("schema", {"type": "object", "patternProperties": {f"^{chr(97 + i % 26)}{i}x$": {} for i in range(MAX_KEYS)}}),
    ("schema", {"type": "integer", "multipleOf": MAX_MULTIPLE - 9}),
    ("schema", {"allOf": [{"anyOf": [{"properties": {f"a{j}": {"const": i}}} for i in range(9)]} for j in range(9)]}),
    ("schema", {"type": "array", "items": {"type": "boolean"}, "minItems": 10**9, "maxItems": 10**9}),
    ("schema", {"type": "string", "minLength": 10**9, "maxLength": 10**9}),
    ("schema", {"type": "string", "pattern": "(" * 20_000 + "a" + ")" * 20_000}),
    ("schema", {"type": "string", "pattern": "^(a{1,100000}){1,100000}$"}),
    ("schema", {"enum": [f"value {i}" for i in range(10_000)]}),
    ("schema", {"$ref": "#"}),
    ("schema", {"allOf": [{"$ref": "#"}]}),
    ("schema", {"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
]

_PROGRAM = """
import json, resource, sys, threading
from ecellm_lite import GrammarError, grammar, schema
from ecellm_lite.engine.fake import FakeVocabulary
from llguidance import LLMatcher

tokenizer = FakeVocabulary().grammar_tokenizer()
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

def compile_all():
    for kind, source in json.load(sys.stdin):
        try:
            space = {"grammar": grammar, "schema": schema}[kind](source)
        except GrammarError:
            print("refused")
            continue
        matcher = LLMatcher(tokenizer, space.compiled, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()
        print("compiled")

threading.stack_size(1 << 20)
thread = threading.Thread(target=compile_all)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of a process are set as Linux has them")
def test_grammars_within_the_limits_compile_on_a_small_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(LARGEST), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-500:]
    ends = done.stdout.split()
    assert len(ends) == len(LARGEST), done.stderr[-500:]
    assert ends[:10] == ["compiled"] * 10
