"""The base class of every answer space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.answers.calibration import Correction, tempered_outcome
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail, bars
from ecellm_lite.answers.option_corrections import OptionCorrection
from ecellm_lite.errors import InputError

# A quarter of the context is kept free for an answer of open length: its limit says little about its length.
SHARE = 4


class Space(ABC):
    """The answers that one row may get, and all operations that depend on the type of answer.

    A subclass must define `type`, `decode` and `parse`. The other methods have defaults that suit a space with too many
    answers to list, such as free text. The defaults of `calibrated` and `details` also suit a space whose answers have
    `probabilities` (see Outcome in decoding.py).

    - `type`: the type of answer that users see, such as `predicate` or `ranking`.
    - `generates`: whether the model writes an answer token by token. If not, the possible answers are scored in a few
      calls.
    - `scored`: whether answers have a probability, which a calibration can correct. If so, `claims` splits an answer
      into its decisions.
    - `biased`: whether a calibration has a bias in addition to a temperature.
    """

    __slots__ = ()

    type: ClassVar[str]
    generates: ClassVar[bool] = True
    scored: ClassVar[bool] = False
    biased: ClassVar[bool] = False

    @abstractmethod
    def decode(self, scene: Scene) -> Decoding:
        """Decode one answer of this space, as a generator (see decoding.py)."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Return the value of an ECInstruct answer string.

        Raises InputError if the string is not an answer of this space.
        """

    def normalized(self, text: str) -> str:
        """Return the answer string for a text that a person typed. Raises InputError if the text is not an answer."""
        self.parse(text)
        return text

    def written(self, output: str | list[Any]) -> str:
        """Return the output of a labelled row as an answer string. Call `parse` to check the string.

        Raises InputError if the output is a list, but answers of this space are not lists.
        """
        if isinstance(output, str):
            return output
        raise InputError("The row's output is a list", step="give its answer as a text", field="output")

    def label(self, text: str) -> str:
        """Convert an answer string to the form that it has as the `output` of a labelled row."""
        return text

    def value_of(self, text: str) -> Any:
        """Return the `Answer.value` for an answer that a person typed.

        Raises InputError if the text is not an answer.
        """
        return self.parse(text)

    def warnings_of(self, text: str) -> tuple[AnswerWarning, ...]:
        """Return the warnings about the value of an answer that a person typed."""
        return ()

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The answer strings that the model chooses from. Empty if there are too many to list."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the options. Empty if the answer is not a choice among a few options."""
        return ()

    @property
    def digest(self) -> str | None:
        """A text that identifies the possible answers, if the prompt does not list them. Otherwise None."""
        return None

    def longest(self, scene: Scene) -> int:
        """Return how many tokens to reserve for an answer, at least 1.

        The caller sets `scene.room` to the size of the whole context, in tokens.
        """
        return max(1, scene.room // SHARE)

    def as_options(self) -> dict[str, Any] | None:
        """Return request options from which another process can make an equal space, or None if that is impossible."""
        return None

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return `outcome`, a decoded answer, with its probabilities rescaled by a temperature.

        An outcome without probabilities stays the same. Only extractions and answers with several labels use `bias`.
        """
        return tempered_outcome(outcome, temperature)

    def corrected(self, outcome: Outcome, correction: Correction, own: Mapping[str, Correction]) -> Outcome:
        """Return `outcome`, a decoded answer, with corrected probabilities.

        `own` has separate corrections for some labels, by label. All other labels are corrected by `correction`.
        """
        return self.calibrated(outcome, correction.temperature, correction.bias)

    def corrected_by_option(self, outcome: Outcome, correction: OptionCorrection) -> Outcome:
        """Return `outcome`, a decoded answer, with corrected probabilities. Its answer is now the likeliest option.

        `correction` must be for the options in `keys`. Call this only if `keys` is not empty.
        """
        raise NotImplementedError

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Split an answer into claims (single decisions), each compared with the gold answer string.

        There is at least one claim. The answer is correct if every claim is correct. `labels` come from `read_labels`.
        Raises InputError if the gold answer is not in the space, or if answers of this type have no probability.
        """
        raise InputError(f"Answers of type {self.type} have no probability", step="evaluate answers of another type")

    def read_labels(self, labels: Any) -> tuple[str, ...] | None:
        """Return the relevance labels of a row. None if this space does not rank products.

        Raises InputError for invalid labels.
        """
        return None

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return the answer string of each constant baseline: a baseline that gives every row the same answer.

        `golds`: the distinct gold answers of a data set, the most frequent first. There is at least one.
        """
        return tuple(golds)

    def headline(self, answer: Answer) -> str:
        """Return the answer in one line for people to read, such as the likeliest option.

        The answer must have a value.
        """
        return answer.text or "(empty)"

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return the lines to show below the headline. An abstention may have lines too."""
        return bars(answer)
