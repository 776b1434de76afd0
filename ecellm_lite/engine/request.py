"""A request to the engine: a prompt, its possible answers, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import ECINSTRUCT, AnswerForm, Listener, Outcome
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import ContextError, EcellmError

# A shorter instruction, in tokens, is not worth a sequence of its own.
SHORTEST_INSTRUCTION = 16

SHORTEN = "shorten the row, or allow a larger context if the model has one"
CONTEXT = ("context",)


@dataclass(slots=True, eq=False)
class Request:
    """A prompt, and the space of its possible answers.

    What the caller sets:

    `shared`: how many tokens at the prompt's start may be the same in other rows. They are the instruction's tokens
      and, if several questions are about the same text, the tokens of this text.
    `opening`: how many of the shared tokens belong to the instruction.
    `form`: how the model writes an answer after the prompt, which depends on the envelope.
    `adapter`: the name of the adapter to use, or None for the model alone.
    `storable`: whether the instruction may be stored on disk. This is allowed if the instruction comes from the task or
      the caller, and not from a row.
    `urgent`: whether the request is admitted before all others.
    `advice`, `settings`: if the row is too long, the ContextError tells the user this next step and these settings.
    `ended`: a function that the engine's thread calls once, when the request is done or was dropped.
    `cancelled`: any thread may set it, at any time, when the answer is no longer needed.

    What the engine sets:

    `outcome`, `error`: one of them is set when the request is done.
    `seconds`: the time from the request's admission to its end.
    `cached`: how many tokens of the prompt were in memory already.
    `decoded`: how many tokens of the answer the model chose and then read.
    `forced`: how many tokens of the answer the model read, but did not choose, because only one token was possible.
    `wasted`: how many tokens were computed for guesses of the answer that turned out wrong.
    `twins`: identical requests, which get the same answer.
    """

    prompt: Sequence[int]
    shared: int
    space: Space
    seed: int = 0
    form: AnswerForm = ECINSTRUCT
    adapter: str | None = None
    opening: int = 0
    storable: bool = False
    urgent: bool = False
    advice: str = SHORTEN
    settings: Sequence[str] = CONTEXT
    listener: Listener | None = None
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
        """How many tokens at the prompt's start stay in memory for later rows; 0 if fewer than SHORTEST_INSTRUCTION."""
        shared = min(self.shared, len(self.prompt) - 1)
        return shared if shared >= SHORTEST_INSTRUCTION else 0

    @property
    def done(self) -> bool:
        """Whether the engine has finished the request, with an answer or with an error."""
        return self.outcome is not None or self.error is not None

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for this request, or for an identical request that gets the same answer."""
        return not self.cancelled or any(not twin.cancelled for twin in self.twins)

    def end(self, outcome: Outcome | None = None, error: EcellmError | None = None) -> None:
        """Set the outcome or the error, and call `ended`. A dropped request gets neither an outcome nor an error."""
        self.outcome, self.error = outcome, error
        ended, self.ended = self.ended, None
        if ended:
            ended()

    def end_like(self, twin: Request) -> None:
        """End this request with the outcome or the error of an identical request, `twin`.

        The whole prompt counts as cached, because nothing was computed for this request.
        """
        self.cached = len(self.prompt)
        self.decoded, self.forced = twin.decoded, twin.forced
        self.end(twin.outcome, twin.error)

    def can_share_answer(self, other: Request) -> bool:
        """Whether the later request `other` can get this request's answer, because the two are identical.

        The result is False if this request is done, or if only `other` is urgent.
        """
        if (self.seed, self.adapter) != (other.seed, other.adapter):
            return False
        alike = self.space == other.space and list(self.prompt) == list(other.prompt)
        return alike and not self.done and self.urgent >= other.urgent


def context_error(length: str, longest: int, advice: str = SHORTEN, settings: Sequence[str] = CONTEXT) -> ContextError:
    """Return the error for a prompt that does not fit a context of `longest` tokens.

    `length` says how long the prompt is, such as `5,000 tokens`. `advice` is the error's next step for the user, and
    `settings` are the settings that the error names.
    """
    message = f"The prompt has {length}, which do not fit the {longest:,} tokens of the context"
    return ContextError(message, step=advice, settings=settings)
