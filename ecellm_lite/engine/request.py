"""A request: a prompt, the space that its answer must come from, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import ContextError, EcellmError

# An instruction of fewer tokens is not worth a sequence of its own.
SHORTEST_INSTRUCTION = 16

SHORTEN = "shorten the row, or allow a larger context if the model has one"
CONTEXT = ("context",)


@dataclass(slots=True, eq=False)
class Request:
    """A prompt whose first `shared` tokens are its instruction's, and the space that its answer must come from.

    `lasting` says that the instruction may be kept on disk: it is a task's or the caller's own, not a row's.
    `advice` is the next step for whoever gave a row that is too long, and `settings` are those that it is about.
    `ended` is called once, by the thread that runs the engine, when there is an outcome or an error, or when it was
    dropped because it was `cancelled`. One that is `urgent` is admitted before all that wait and are not.

    `cancelled` may be set at any time, by any thread: nobody waits for it any more. When `done`, it has an outcome
    or an error, the tokens it found in memory (`cached`), the answer tokens that the model was shown (`decoded`
    chosen, `forced` not), those that were computed besides because a draft was wrong (`wasted`), and the seconds
    since it was admitted. `twins` are requests that ask the same: they get what this one gets.
    """

    prompt: Sequence[int]
    shared: int
    space: Space
    seed: int = 0
    lasting: bool = False
    urgent: bool = False
    advice: str = SHORTEN
    settings: Sequence[str] = CONTEXT
    ended: Callable[[], None] | None = None
    cancelled: bool = False
    outcome: Outcome | None = None
    error: EcellmError | None = None
    cached: int = 0
    decoded: int = 0
    forced: int = 0
    wasted: int = 0
    seconds: float = 0.0
    twins: list[Request] = field(default_factory=list)

    @property
    def instruction(self) -> int:
        """How many tokens of the prompt are worth keeping as its instruction."""
        shared = min(self.shared, len(self.prompt) - 1)
        return shared if shared >= SHORTEST_INSTRUCTION else 0

    @property
    def done(self) -> bool:
        """Whether there is an outcome or an error."""
        return self.outcome is not None or self.error is not None

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it, or for one of its twins."""
        return not self.cancelled or any(not twin.cancelled for twin in self.twins)

    def end(self, outcome: Outcome | None = None, error: EcellmError | None = None) -> None:
        """Note the outcome or the error (neither: it was dropped), and call `ended`."""
        self.outcome, self.error = outcome, error
        ended, self.ended = self.ended, None
        if ended:
            ended()

    def end_like(self, twin: Request) -> None:
        """End as a request that asked the same did; this one cost nothing more."""
        self.cached = len(self.prompt)
        self.decoded, self.forced = twin.decoded, twin.forced
        self.end(twin.outcome, twin.error)

    def asks_the_same(self, other: Request) -> bool:
        """Whether the other request must get this one's answer, and can: this one has none yet."""
        alike = self.seed == other.seed and self.space == other.space and list(self.prompt) == list(other.prompt)
        return alike and not self.done and self.urgent >= other.urgent


def context_error(length: str, longest: int, advice: str = SHORTEN, settings: Sequence[str] = CONTEXT) -> ContextError:
    """Return the error of a prompt, of `length` in words, that does not fit a context of `longest` tokens."""
    message = f"The prompt has {length}, which do not fit the {longest:,} tokens of the context"
    return ContextError(message, step=advice, settings=settings)
