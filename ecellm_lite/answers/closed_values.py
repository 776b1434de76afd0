"""Chooses an attribute's value from a closed list, instead of copying it from the product's texts."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping
from functools import cached_property

from ecellm_lite.answers.candidates import Candidates, ChosenCandidate
from ecellm_lite.answers.decoding import Logits, Scene, Step
from ecellm_lite.answers.label_matrix import label_matrix
from ecellm_lite.answers.label_search import search
from ecellm_lite.answers.label_set import DETOURS, Labels
from ecellm_lite.answers.spans import NONE
from ecellm_lite.answers.tape import Tape

_AFTER = '"value":'


class ClosedValues:
    """The values that an attribute may have. No two of them differ only in upper and lower case.

    - `labels`: the ids and texts of the values.
    - `lasting`: true if a task's file lists the values, and false if a row lists them. The tokens of a row's values are
      never kept on disk.
    """

    def __init__(self, labels: Labels, *, lasting: bool) -> None:
        self.labels = labels
        self.lasting = lasting

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClosedValues) and self.labels == other.labels

    def __hash__(self) -> int:
        return hash(self.labels)

    @cached_property
    def by_text(self) -> Mapping[str, int]:
        """Each value's index in the list, by the value's text in lower case."""
        return {text.lower(): index for index, text in enumerate(self.labels.texts)}

    def index(self, name: str) -> int | None:
        """Return the index of a value, by its text or id. Upper and lower case are treated as equal.

        Returns None if there is no such value.
        """
        text = self.labels.find(name.strip())
        return None if text is None else self.by_text[text.lower()]

    def choose(
        self, scene: Scene, tape: Tape, without: Collection[str] = ()
    ) -> Generator[Step, Logits, tuple[str, ChosenCandidate]]:
        """Find the attribute's likeliest value. Return the value in lower case, and how likely it is.

        Before the call, the tape (the tokens of the answer's JSON so far) ends with the JSON key "value". The call
        appends the value and then the JSON key "source". If it is likeliest that the product has no value, the result
        is "None".

        `without`: values that were chosen before, in lower case. They cannot be chosen again. If there are any, "None"
        cannot be chosen either.
        """
        digest = f"{self.labels.digest} with none"
        matrix = label_matrix(digest, self._pieces, scene, after=_AFTER, lasting=self.lasting)
        texts = (*self.by_text, NONE.value)
        if without:
            kept = [row for row, index in enumerate(matrix.order) if texts[index] not in {*without, NONE.value}]
            order = [matrix.order[row] for row in kept]
            matrix = Candidates.restored(matrix.matrix[kept], order, scene.end)
        before = tuple(tape.tokens)
        found = yield from search(matrix, tape, detours=DETOURS, best=1, before=before)
        index, probability = found.labels[0]
        tape.move([*before, *found.tokens])
        return texts[index], ChosenCandidate(index, probability, found.coverage)

    @cached_property
    def _pieces(self) -> list[str]:
        return [f' {json.dumps(text)}, "source":' for text in (*self.by_text, NONE.value)]
