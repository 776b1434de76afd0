"""The answer space that has only the answers `yes` and `no`."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.options import OneOf, Option

_OPTIONS = (Option("yes", "yes"), Option("no", "no"))

# The words for yes and no, and for the truth values of a spreadsheet, in English, German, French, Italian, Spanish,
# Dutch, Polish and Portuguese. No word means yes in one of them and no in another.
_YES = "yes true ja wahr oui vrai sì si vero sí verdadero waar tak prawda sim verdadeiro"
_NO = "no false nein falsch non faux falso nee onwaar nie fałsz não nao"
_WORDS = {**dict.fromkeys(_YES.split(), "yes"), **dict.fromkeys(_NO.split(), "no")}


@dataclass(frozen=True, slots=True)
class Predicate(OneOf):
    """The space of the answers `yes` (true) and `no` (false). The model's first token decides."""

    type: ClassVar[str] = "predicate"

    @property
    def offered(self) -> tuple[Option, ...]:
        """The options `yes` and `no`."""
        return _OPTIONS

    def spellings(self, option: Option) -> tuple[str, ...]:
        """Return two spellings of an option, such as `yes` and `Yes`, because most general models capitalize it."""
        return option.text, option.text.capitalize()

    def value(self, key: str) -> bool:
        """Return whether `key` is `yes`."""
        return key == "yes"

    def normalized(self, text: str) -> str:
        """Return `yes` or `no`.

        A spreadsheet's `TRUE` and `FALSE` are accepted too. So are the words for yes, no, true and false in some other
        languages, such as `oui` and `WAHR`.
        """
        word = unicodedata.normalize("NFC", text.strip()).casefold()
        return OneOf.normalized(self, _WORDS.get(word, text))

    def longest(self, scene: Scene) -> int:
        """Return how many tokens to reserve: 1, because every vocabulary has `yes` and `no` as one token."""
        return 1
