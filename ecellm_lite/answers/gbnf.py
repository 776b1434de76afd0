r"""Converts a grammar from GBNF, llama.cpp's format, to the Lark format that llguidance reads.

llguidance's own converter does the work. That converter cannot handle escapes such as `\u00e9`, a missing rule, or two
rules whose names differ only in case. So this module first rewrites the text into a form that the converter accepts. If
that is impossible, it raises an error that names the line at fault. Source: grammars/README.md of ggml-org/llama.cpp.
"""

from __future__ import annotations

import re
from typing import NoReturn

from ecellm_lite.answers.limits import MAX_CHAIN, MAX_DEPTH, check_size
from ecellm_lite.errors import GrammarError

# The converter's time grows with a grammar's size times its rules.
MAX_CHARACTERS = 1 << 16
MAX_REPEATS = 2000  # llama.cpp's limit

_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.MULTILINE)

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\r\n]*) | (?P<line>\r?\n|\r) | (?P<head>[A-Za-z0-9_-]+[ \t]*::=) | (?P<name>[A-Za-z0-9_-]+)
    | "(?P<text>(?:\\.|[^"\\\r\n])*)" | \[(?P<negated>\^?)(?P<range>(?:\\.|[^\]\\\r\n])+)\] | (?P<any>\.)
    | \{\s*(?P<least>\d{1,9})\s*(?:(?P<comma>,)\s*(?:(?P<most>\d{1,9})\s*)?)?\} | (?P<sign>[()|*+?])""",
    re.VERBOSE,
)
_CHARACTER = re.compile(
    r'\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})|\\([nrt"\\\[\]])|([^\\])', re.DOTALL
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}


def is_gbnf(text: str) -> bool:
    """Return whether a grammar is in GBNF: it defines its rules with `::=`."""
    return _RULE.search(text) is not None


def lark_of(text: str) -> str:
    """Return a GBNF grammar in Lark's format. Raises GrammarError if the grammar is not valid."""
    from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

    check_size("grammar", text, MAX_CHARACTERS)
    try:
        lark: str = gbnf_to_lark(_GrammarReader(text).rewritten())
    except GbnfToLarkError as error:
        raise GrammarError(f"The GBNF grammar cannot be read ({error})", step="correct it") from None
    return lark


class _GrammarReader:
    """Rewrites a GBNF grammar in one pass. The new grammar has plain rule names and only the simplest escapes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line = 1
        self._names = {"root": "root"}
        self._defined: set[str] = set()
        self._used: dict[str, int] = {}  # name -> the line of its first use

    def rewritten(self) -> str:
        """Return the grammar in the form that llguidance's converter accepts.

        Raises GrammarError if the grammar is refused. If one line is at fault, the error names it.
        """
        parts: list[str] = []
        place = depth = 0
        while place < len(self._text):
            token = _TOKEN.match(self._text, place)
            if not token:
                self._refuse(f"{self._text[place : place + 12]!r} cannot be read")
            parts.append(self._part(token))
            depth += (token["sign"] == "(") - (token["sign"] == ")")
            if not 0 <= depth <= MAX_DEPTH:
                self._refuse("a bracket closes nothing" if depth < 0 else f"brackets are more than {MAX_DEPTH} deep")
            place = token.end()
        missing = [name for name in self._used if name not in self._defined]
        if "root" not in self._defined:
            message = "The GBNF grammar has no rule 'root', with which every answer begins"
            raise GrammarError(message, step="name one rule root")
        if missing:
            self._line = self._used[missing[0]]
            self._refuse(f"the rule {missing[0]!r} is not defined")
        if len(self._defined) > MAX_CHAIN:
            message = f"The grammar has {len(self._defined):,} rules"
            raise GrammarError(message, step=f"use at most {MAX_CHAIN}")
        return "".join(parts)

    def _part(self, token: re.Match[str]) -> str:
        if token["line"]:
            self._line += 1
            return "\n"
        if token["head"]:
            name = token["head"].removesuffix("::=").strip()
            if name in self._defined:
                self._refuse(f"the rule {name!r} is defined twice")
            self._defined.add(name)
            return f"{self._plain(name)} ::="
        if token["name"]:
            self._used.setdefault(token["name"], self._line)
            return self._plain(token["name"])
        if token["text"] is not None:
            return self._literal(self._characters(token["text"]))
        if token["range"] is not None:
            return f"[{token['negated']}{self._class(token['range'])}]"
        if token["any"]:
            return "[\\x00-\U0010ffff]"  # any character, including a line feed, which a dot in Lark excludes
        if token["least"]:
            return self._repeats(token)
        return token["sign"] or " "

    def _plain(self, name: str) -> str:
        return self._names.setdefault(name, f"r{len(self._names)}")

    def _repeats(self, token: re.Match[str]) -> str:
        least = int(token["least"])
        most = int(token["most"]) if token["most"] else least
        if max(least, most) > MAX_REPEATS or least > most:
            self._refuse(f"{token[0]!r} is not a count of at most {MAX_REPEATS:,}")
        return f"{{{least}{token['comma'] or ''}{most if token['most'] else ''}}}"

    def _characters(self, text: str) -> list[str]:
        """Return the characters of a text, with its escapes decoded."""
        characters: list[str] = []
        place = 0
        while place < len(text):
            match = _CHARACTER.match(text, place)
            number = int(match[1] or match[2] or match[3] or "0", 16) if match else 0
            if not match or number > 0x10FFFF or 0xD800 <= number < 0xE000:
                self._refuse(f"{text[place : place + 10]!r} is not a character")
            characters.append(match[5] or (_NAMED.get(match[4], match[4]) if match[4] else chr(number)))
            place = match.end()
        return characters

    def _literal(self, characters: list[str]) -> str:
        # The converter accepts a control character in a class, but not in a string.
        parts = re.split("([\x00-\x08\x0b\x0c\x0e-\x1f\x7f])", "".join(characters))
        quoted = [f"[\\x{ord(part):02x}]" if i % 2 else f'"{_escaped(part)}"' for i, part in enumerate(parts)]
        # In brackets, so that a following repetition applies to all of it.
        return quoted[0] if len(quoted) == 1 else f"({' '.join(quoted)})"

    def _class(self, text: str) -> str:
        """Return the text between the brackets of a GBNF character class, written as in a regular expression.

        Characters that are special in regular expressions, but not in GBNF, are escaped.
        """
        place, parts = 0, []
        while place < len(text):
            match = _CHARACTER.match(text, place)
            if not match:
                self._refuse(f"{text[place : place + 10]!r} is not a character")
            [character] = self._characters(match[0])
            is_range = match[0] == "-" and 0 < place < len(text) - 1
            parts.append("-" if is_range else _class_escaped(character))
            place = match.end()
        return "".join(parts)

    def _refuse(self, reason: str) -> NoReturn:
        message = f"The GBNF grammar has an error in line {self._line} ({reason})"
        raise GrammarError(message, step="correct it", line=self._line)


_SIMPLE = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def _escaped(text: str) -> str:
    return "".join(_SIMPLE.get(character, character) for character in text)


def _class_escaped(character: str) -> str:
    plain = character.isalnum() or ord(character) > 0x7F
    return character if plain else f"\\x{ord(character):02x}"
