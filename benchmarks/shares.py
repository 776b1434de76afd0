"""Measures how much of a run's time each part takes. The parts are the backend, the vocabulary and the answer spaces.

Each part is wrapped in a class that times its calls. If one part calls another, the time counts for the inner part
only. For example, if an answer space tokenizes, that time counts for the tokenizer.

The clock makes each call a few microseconds slower. So the rows per second are measured elsewhere, without the clock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.peers.peer import Rows
from ecellm_lite import Runtime
from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Vocabulary
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.interface import Backend, Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.settings import Settings
from ecellm_lite.tasks.task import Question

PYTHON, TOKENIZE, SPACES = "other Python", "tokenize", "answer spaces"
PREFILL, DECODE = "model, prompts only", "model, prompts and answers"


class Clock:
    """A clock that adds up the time of each part of a run."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running = [PYTHON]
        self._since = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of a `with` block for the part `name`.

        If another part runs inside the block, its time counts only for that part.
        """
        self.turn()
        self._running.append(name)
        try:
            yield
        finally:
            self.turn()
            self._running.pop()

    def turn(self) -> None:
        """Add the time since the last call of `turn` to the part of the run that is timed now (see `part`)."""
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since  # type: ignore[assignment]
        self._since = now


class TimedVocabulary:
    """A vocabulary whose tokenizing is timed."""

    def __init__(self, vocabulary: Vocabulary, clock: Clock) -> None:
        self._vocabulary = vocabulary
        self._clock = clock

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the token ids of a text, and add the seconds that tokenizing takes to the clock."""
        with self._clock.part(TOKENIZE):
            return self._vocabulary.tokenize(text, begin=begin)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)


class TimedBackend:
    """A backend whose calls are timed.

    Calls that only read prompts and calls that continue answers are counted separately.
    """

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._answering: set[int] = set()  # sequences whose prompt has been read to its end
        self.vocabulary = TimedVocabulary(backend.vocabulary, clock)
        self.tokens = self.calls = 0

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Decode as the backend does. Count the call and its tokens, and add its time to the clock."""
        answers = any(chunk.sequence in self._answering for chunk in chunks)
        self._answering.update(chunk.sequence for chunk in chunks if chunk.ask)
        self.tokens += sum(len(chunk.tokens) for chunk in chunks)
        self.calls += 1
        with self._clock.part(DECODE if answers else PREFILL):
            return self._backend.decode(chunks)

    def fork(self, source: int, target: int, length: int) -> None:
        """Fork `source` to `target`. From now on, time spent on `target` counts as reading its prompt."""
        self._answering.discard(target)
        self._backend.fork(source, target, length)

    def truncate(self, sequence: int, length: int) -> None:
        """Truncate a sequence. If `length` is 0, time spent on the sequence from now on counts as reading a prompt."""
        if not length:
            self._answering.discard(sequence)
        self._backend.truncate(sequence, length)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class TimedSpace:
    """An answer space whose computations are timed."""

    def __init__(self, space: Space, clock: Clock) -> None:
        self._space = space
        self._clock = clock

    @property
    def type(self) -> str:
        """The answer space's type, such as `choice`."""
        return self._space.type

    def decode(self, scene: Scene) -> Decoding:
        """Decode an answer, and time what the answer space computes. Waiting for the model's logits does not count."""
        decoding = self._space.decode(scene)
        logits: Logits | None = None
        while True:
            with self._clock.part(SPACES):
                try:
                    step = next(decoding) if logits is None else decoding.send(logits)
                except StopIteration as stop:
                    return cast("Outcome", stop.value)
            logits = yield step

    def parse(self, text: str) -> Any:
        """Return the value of an answer string."""
        return self._space.parse(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)


class Timed(Runtime):
    """A Runtime that adds the time spent in answer spaces to `clock`."""

    clock: Clock

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        """Return the request with an answer space whose calls are timed."""
        return super().request(question, cast("Space", TimedSpace(space or question.space, self.clock)), seed=seed)


def shares(model: Path, envelope: str, threads: int, tasks: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Return, for each task, the fraction of the time that each part of the program took.

    The result also has the number of model calls and of tokens.
    """
    clock = Clock()
    backend = TimedBackend(LlamaBackend(model, Settings(threads=threads)), clock)
    results = {}
    with Timed.over(cast("Backend", backend), envelope=envelope) as runtime:
        cast("Timed", runtime).clock = clock
        for task, rows in tasks.items():
            list(runtime.answers(task, [one.row for one in rows.warm]))
            clock.turn()
            clock.seconds.clear()
            backend.tokens = backend.calls = 0
            list(runtime.answers(task, [one.row for one in rows.measured]))
            clock.turn()
            whole = sum(clock.seconds.values())
            results[task] = {
                **{part: round(seconds / whole, 4) for part, seconds in sorted(clock.seconds.items())},
                "calls": backend.calls,
                "tokens": backend.tokens,
            }
    return results
