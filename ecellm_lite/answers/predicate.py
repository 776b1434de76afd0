"""The answer space that has only the answers `yes` and `no`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.options import OneOf, Option

_OPTIONS = (Option("yes", "yes"), Option("no", "no"))


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

        `True` and `False` are accepted too, because a spreadsheet may store `yes` and `no` in this form.
        """
        return OneOf.normalized(self, {"true": "yes", "false": "no"}.get(text.strip().casefold(), text))

    def longest(self, scene: Scene) -> int:
        """Return how many tokens to reserve: 1, because every vocabulary has `yes` and `no` as one token."""
        return 1
