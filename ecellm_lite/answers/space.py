"""What may be answered: the base of every answer space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ecellm_lite.answers.decoding import Decoding, Scene


class Space(ABC):
    """The set of answers that one row may get.

    `type` is the answer's type in the contract: predicate, choice, score, ranking, extraction, text or schema.
    `generates` says whether answers are generated token by token rather than scored in a few calls of the model.
    """

    __slots__ = ()

    type: ClassVar[str]
    generates: ClassVar[bool] = True

    @abstractmethod
    def decode(self, scene: Scene) -> Decoding:
        """Decode one answer of this space."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Return the value that an ECInstruct answer string stands for, or raise InputError."""
