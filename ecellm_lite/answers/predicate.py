"""Yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

_WORDS = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Predicate(Space):
    """The answers `yes` (true) and `no` (false), decided on their first token."""

    type: ClassVar[str] = "predicate"
    generates: ClassVar[bool] = False

    def decode(self, scene: Scene) -> Decoding:
        """Weigh yes against no on the prompt's last logits."""
        rows = [scene.continuation(word) for word in _WORDS]
        weighed = yield from weigh(Candidates(rows, scene.vocabulary.end), Tape())
        yes, no = weighed.shares.tolist()
        return Outcome(
            value=yes >= no,
            text=_WORDS[0] if yes >= no else _WORDS[1],
            tokens=rows[0] if yes >= no else rows[1],
            probability=max(yes, no),
            probabilities={"yes": yes, "no": no},
            confidence=confidence((yes, no)),
            coverage=weighed.coverage,
        )

    def parse(self, text: str) -> bool:
        """Return whether the answer string is `yes`; anything but yes and no is an InputError."""
        if text not in _WORDS:
            raise InputError(f"The answer {text[:80]!r} is neither yes nor no", step="write one of the two")
        return text == "yes"
