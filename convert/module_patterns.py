r"""PEFT's rank_pattern and alpha_pattern. They set the rank or alpha of modules whose names match a pattern.

A pattern is a regular expression. In PEFT, a pattern must match a module's whole name or its end after a dot: `q_proj`
matches `layers.3.q_proj`. Patterns are untrusted, so only common elements are accepted: letters, digits, dots, `\d+`,
one `.*`, alternatives with `|`, and the anchors `^` and `$`. Such a pattern matches without backtracking, in time
proportional to the length of the pattern times the length of the name.

>>> patterns = ModulePatterns({r"layers\.\d+\.q_proj": 8, "v_proj|down_proj": 4}, "rank_pattern")
>>> [patterns.value(name, 16) for name in ("model.layers.3.q_proj", "v_proj", "other_v_proj")]
[8, 4, 16]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_KEY_LENGTH = 256
MAX_LETTERS = 1 << 18  # in all keys together; enough for the names of 5,000 modules
MAX_WORK = 1 << 32  # letters of all keys times letters of all modules' names; 20 seconds at worst

_PIECE = re.compile(r"(?P<digits>\\d\+)|(?P<all>\.\*)|(?P<any>\.)|\\?(?P<literal>[.-])|(?P<word>\w)")


class ModulePatterns:
    """A list of patterns for module names, each with a rank or alpha. The first pattern that matches a name counts.

    A pattern is a simple regular expression. Raises ValueError for patterns that are too long or too complex.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._name = name
        self._letters = sum(map(len, values))
        if self._letters > MAX_LETTERS:
            raise ValueError(f"{name} has keys of {self._letters:,} letters, more than {MAX_LETTERS:,}")
        self._patterns = [(_alternatives(key, name), value) for key, value in values.items()]

    def check_work(self, modules: Iterable[str]) -> None:
        """Raise ValueError if comparing every pattern with every module's name could take too long."""
        if self._letters * sum(map(len, modules)) > MAX_WORK:
            raise ValueError(f"{self._name} has too many keys for the number of the adapter's modules")

    def value(self, module: str, default: Any) -> Any:
        """Return a module's rank or alpha. If no pattern matches its name, return `default`."""
        for alternatives, value in self._patterns:
            if any(alternative.matches(module) for alternative in alternatives):
                return value
        return default


@dataclass(frozen=True, slots=True)
class _Alternative:
    """One alternative of a pattern. `head` is the text before its `.*`, and `tail` the text after it.

    Without a `.*`, `head` is the whole text and `tail` is None.
    """

    head: re.Pattern[str]
    tail: re.Pattern[str] | None

    def matches(self, module: str) -> bool:
        """Return whether the pattern matches a module's whole name, or its end after a dot."""
        if self.tail is None:
            return self.head.fullmatch(module) is not None
        # The first match of the head (the part before `.*`) also ends first, so it leaves the most room for the tail.
        head = self.head.match(module)
        return head is not None and self.tail.search(module, head.end()) is not None


def _alternatives(key: str, name: str) -> list[_Alternative]:
    try:
        if len(key) > MAX_KEY_LENGTH:
            raise ValueError
        return [_alternative(text) for text in key.split("|")]
    except ValueError:
        raise ValueError(
            f"{name} has the key {key[:80]!r}, which does not consist only of words, dots, \\d+, | and one .*"
        ) from None


def _alternative(text: str) -> _Alternative:
    # PEFT's own prefix, but lazy, so that the first match begins as early as possible.
    start = "" if text.startswith("^") else r"(?:.*?\.)??"
    pieces = _pieces(text.removeprefix("^").removesuffix("$"))
    if ".*" not in pieces:
        return _Alternative(re.compile(start + "".join(pieces), re.DOTALL), None)
    place = pieces.index(".*")
    head, tail = pieces[:place], pieces[place + 1 :]
    if ".*" in tail:
        raise ValueError
    # Next to `.*`, `\d` matches the same names as `\d+`, and cannot backtrack.
    if head[-1:] == [r"\d+"]:
        head[-1] = r"\d"
    if tail[:1] == [r"\d+"]:
        tail[0] = r"\d"
    return _Alternative(re.compile(start + "".join(head), re.DOTALL), re.compile("".join(tail) + r"\Z", re.DOTALL))


def _pieces(text: str) -> list[str]:
    r"""Split a pattern into its elements, and return them as regular expressions.

    `\d+` must not be followed by a digit. Otherwise a name could match in several ways, and matching would need
    backtracking. So `\d+5` is refused, and a dot directly after `\d+` matches any character except a digit.
    """
    pieces: list[str] = []
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        follows_digits = pieces[-1:] == [r"\d+"]
        if piece is None or (follows_digits and (piece["digits"] or (piece["word"] or "").isdecimal())):
            raise ValueError
        if piece["any"]:
            pieces.append(r"\D" if follows_digits else ".")
        else:
            pieces.append(piece["digits"] or piece["all"] or re.escape(piece["literal"] or piece["word"]))
        place = piece.end()
    return pieces
