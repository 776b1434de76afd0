"""The base class of every answer space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import tempered_outcome
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.errors import InputError

# An open answer may keep at most a quarter of the context free: its limit says little about its length.
SHARE = 4


class Space(ABC):
    """The set of answers that one row may get, and everything that depends on their kind.

    A space of your own defines `type`, `decode` and `parse`, and inherits the rest, which suits an open answer. An
    outcome with probabilities is calibrated and shown as one of a few answers.

    `type` is the answer's type in the contract: predicate, choice, score, ranking, extraction, text or schema.
    `generates`: answers are generated token by token rather than scored in a few calls of the model. `scored`: answers
    have a probability, which `claims` explains and a calibration can correct. `biased`: a calibration has a bias beside
    its temperature.
    """

    __slots__ = ()

    type: ClassVar[str]
    generates: ClassVar[bool] = True
    scored: ClassVar[bool] = False
    biased: ClassVar[bool] = False

    @abstractmethod
    def decode(self, scene: Scene) -> Decoding:
        """Decode one answer of this space."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Return the value that an ECInstruct answer string stands for, or raise InputError."""

    def written(self, text: str) -> str:
        """Return the answer string that a person's own writing of an answer stands for, or raise InputError."""
        self.parse(text)
        return text

    def value_of(self, text: str) -> Any:
        """Return the value of an answer that a person wrote, as answers have it; raises InputError as `parse` does."""
        return self.parse(text)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The answer strings that the model chooses from; empty where they are not a few."""
        return ()

    def longest(self, scene: Scene) -> int:
        """Return how many tokens, at least 1, to keep free for an answer in an empty context of `scene.room` tokens."""
        return max(1, scene.room // SHARE)

    def as_options(self) -> dict[str, Any] | None:
        """Return the options of a request that stand for this space in another process, None where none do."""
        return None

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return an outcome at a temperature; without probabilities it stays as it is."""
        return tempered_outcome(outcome, temperature)

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return what the probability of an answer claims, beside the answer string that it should have been.

        There is at least one claim, and the answer is correct if all of them are. `labels` come from `read_labels`.
        Raises InputError for a gold answer outside the space, and if answers have no probability.
        """
        raise InputError(
            f"Answers of the type {self.type} have no probability", step="evaluate answers of another type"
        )

    def read_labels(self, labels: Any) -> tuple[str, ...] | None:
        """Return the relevance labels of a row whose products are ranked, else None; raises InputError for others."""
        return None

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return constant answers to compare with: the same for every row, as far as the space allows.

        `golds` are the distinct answer strings of a data set, at least one, the commonest first.
        """
        return tuple(golds)

    def headline(self, answer: Answer) -> str:
        """Return an answer in one line for a person; it has a value."""
        return answer.text or "(empty)"

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return what a person may want to see below the headline, of an abstention too."""
        return bars(answer)
