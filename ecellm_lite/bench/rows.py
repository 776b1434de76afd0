"""Made-up rows for measurements. They are made from each task's example row by shuffling its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.tasks.task import Task


def made_up_rows(task: Task, count: int) -> list[dict[str, Any]]:
    """Return `count` rows of a task. Each is as long as the task's example, and no two are equal.

    The words of each text are shuffled with the row's number as the seed, so every call returns the same rows. The
    prompts share only their instruction, so a cache of row texts would not help.
    """
    rows = []
    for number in range(count):
        row = {name: _shuffled(value, Random(f"{name} {number}")) for name, value in task.example().items()}  # noqa: S311
        rows.append({**row, "id": number})
    return rows


def _shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, str):
        words = value.split(" ")
        random.shuffle(words)
        return " ".join(words)
    if isinstance(value, list):
        return [_shuffled(entry, random) for entry in value]
    if isinstance(value, Mapping):
        return {name: _shuffled(entry, random) for name, entry in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class FixedLengthText(Space):
    """An answer space for text of exactly `tokens` tokens, or as many as the context has room for.

    The text goes on even if the model would end it earlier. The length is fixed because different settings change the
    logits slightly, and could make a text shorter. A setting must not seem faster only because its text is shorter.
    """

    tokens: int
    type: ClassVar[str] = "text"

    def decode(self, scene: Scene) -> Decoding:
        """Choose the most likely token at each step."""
        tape = Tape()
        for _ in range(min(self.tokens, scene.room - 1)):
            logits = yield tape.step()
            tape.choose(int(logits.argmax()))
        text = scene.vocabulary.detokenize(tape.tokens).decode("utf-8", "replace")
        return Outcome(value=text, text=text, tokens=tape.tokens)

    def parse(self, text: str) -> str:
        """Return the text itself."""
        return text
