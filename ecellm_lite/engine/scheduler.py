"""Runs many answers at once: rows fork the prefix they share, and each call of the model takes what all of them need.

In fast mode every call is filled with the tokens of as many rows as there is room for. Batching is not bit-stable in
llama.cpp, so deterministic mode runs one row at a time over an otherwise empty memory, and reads every prompt in the
same two calls, [prefix] and [row], whether the prefix was in memory or not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Space, Step
from ecellm_lite.engine.interface import Backend, Chunk
from ecellm_lite.engine.prefixes import Prefix, Prefixes
from ecellm_lite.errors import ContextError, EcellmError

# Prefixes shorter than this are not worth a sequence of their own.
SHORTEST_PREFIX = 16
PREFIX_SEQUENCES = 8

# Rows are admitted while their prompts come to so many batches: attention is computed over every cell in use, other
# rows' too, so a call that is already full gets slower with each row that stands by.
CROWD = 2

# Room that a row is admitted with besides its prompt; a row that needs more waits for others to end.
RESERVE = 64


@dataclass(slots=True, eq=False)
class Request:
    """A prompt whose first `shared` tokens other prompts have too, and the space that its answer must come from.

    `cancelled` may be set at any time, by any thread: nobody waits for it any more. When `done`, it has an outcome
    or an error, the tokens it found in memory (`cached`), the answer tokens that the model was shown (`decoded`
    chosen, `forced` not), and the seconds since it was admitted.
    """

    prompt: Sequence[int]
    shared: int
    space: Space
    seed: int = 0
    cancelled: bool = False
    outcome: Outcome | None = None
    error: EcellmError | None = None
    cached: int = 0
    decoded: int = 0
    forced: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether there is an outcome or an error."""
        return self.outcome is not None or self.error is not None


@dataclass(slots=True, eq=False)
class _Slot:
    """A request in the model's memory: `length` tokens of it are there, `pending` ones are to follow."""

    request: Request
    sequence: int
    prefix: Prefix | None
    decoding: Decoding
    started: float
    length: int = 0
    pending: deque[int] = field(default_factory=deque)

    @property
    def own(self) -> int:
        """The memory it takes besides its prefix, in tokens."""
        return self.length - (len(self.prefix.tokens) if self.prefix else 0)


class Scheduler:
    """Takes requests and, step by step, brings them to their end.

    The backend's memory is its own from the start on. `submit` may be called by any thread at any time, `step` by one
    at a time.
    """

    def __init__(self, backend: Backend, *, deterministic: bool = False) -> None:
        self._backend = backend
        self._deterministic = deterministic
        kept = 1 if deterministic else max(1, min(PREFIX_SEQUENCES, backend.sequences - 1))
        self._prefixes = Prefixes(backend, range(kept))
        self._sequences = list(range(kept, kept + 1 if deterministic else backend.sequences))
        self._free = list(self._sequences)
        self._waiting: deque[Request] = deque()
        self._active: list[_Slot] = []  # oldest first
        self._alone = 0  # rows that are still to run one at a time, after a call that failed
        backend.clear()

    def submit(self, request: Request) -> None:
        """Queue a request; one whose prompt leaves no room for an answer ends at once with a ContextError."""
        if len(request.prompt) >= self._backend.longest:
            request.error = ContextError(
                f"The prompt has {len(request.prompt):,} tokens and the context holds {self._backend.longest:,}: "
                "shorten the row, or give a larger --context if the model allows one."
            )
        else:
            self._waiting.append(request)

    def step(self) -> None:
        """Call the model once for as many rows as fit, and take the answers on by what it gives."""
        admitting = True
        try:
            for slot in [slot for slot in self._active if slot.request.cancelled]:
                self._release(slot)
            self._admit()
            admitting = False
            if self._active:
                chunks = self._chunks() or self._make_room()
                logits = iter(self._backend.decode(chunks)) if chunks else iter(())
                for slot, chunk in [(self._slot(chunk.sequence), chunk) for chunk in chunks]:
                    slot.length += len(chunk.tokens)
                    if chunk.logits:
                        self._advance(slot, next(logits))
        except EcellmError as error:
            self._retry(error, len(self._active) + admitting)
        except BaseException:
            # Interrupted: what the memory holds is unknown, so the running rows start again.
            self._restart()
            raise

    def _slot(self, sequence: int) -> _Slot:
        return next(slot for slot in self._active if slot.sequence == sequence)

    def _admit(self) -> None:
        while self._waiting and self._free:
            request = self._waiting[0]
            if request.cancelled:
                self._waiting.popleft()
                continue
            if self._alone and self._active:
                return
            shared = min(request.shared, len(request.prompt) - 1)
            tokens = request.prompt[: shared if shared >= SHORTEST_PREFIX else 0]
            prefix = self._prefixes.find(tokens)
            needed = len(request.prompt) - (len(tokens) if prefix else 0) + RESERVE
            while needed > self._room() and self._prefixes.evict(keep=tokens):
                pass
            if self._active and (needed > self._room() or self._crowded(len(request.prompt) - len(tokens))):
                return
            started = time.perf_counter()
            request.cached = len(tokens) if prefix else 0
            if prefix is None and self._deterministic:
                self._backend.clear()
                self._prefixes.forget()
            if tokens and prefix is None:
                prefix = self._prefixes.add(tokens)
            self._waiting.popleft()
            self._start(_Slot(request, self._free.pop(), prefix, self._decoding(request), started))

    def _crowded(self, own: int) -> bool:
        standing = sum(slot.own + len(slot.pending) for slot in self._active)
        return standing + own > CROWD * self._backend.batch

    def _decoding(self, request: Request) -> Decoding:
        room = self._backend.longest - len(request.prompt)
        return (yield from request.space.decode(Scene(self._backend.vocabulary, room, request.seed)))

    def _start(self, slot: _Slot) -> None:
        request = slot.request
        request.decoded = request.forced = 0
        self._active.append(slot)
        if slot.prefix:
            slot.prefix.users += 1
            slot.length = len(slot.prefix.tokens)
            self._backend.fork(slot.prefix.sequence, slot.sequence, slot.length)
        slot.pending.extend(request.prompt[slot.length :])
        self._advance(slot, None)

    def _chunks(self) -> list[Chunk]:
        budget = min(self._backend.batch, self._room())
        chunks: list[Chunk] = []
        for slot in self._active:
            take = min(len(slot.pending), budget)
            if take:
                tokens = [slot.pending.popleft() for _ in range(take)]
                chunks.append(Chunk(slot.sequence, slot.length, tokens, logits=not slot.pending))
                budget -= take
        return chunks

    def _make_room(self) -> list[Chunk]:
        """Return the next chunks when memory is full: prefixes go, then the youngest rows wait for their turn again."""
        while not (chunks := self._chunks()):
            if self._prefixes.evict():
                continue
            slot = self._active[-1]
            self._release(slot)
            if self._active:
                self._waiting.appendleft(slot.request)
            else:
                slot.request.error = ContextError(
                    f"The prompt and its answer need more than the {self._backend.cells:,} tokens of the context: "
                    "shorten the row, or give a larger --context if the model allows one."
                )
                return []
        return chunks

    def _room(self) -> int:
        return self._backend.cells - self._prefixes.cells - sum(slot.own for slot in self._active)

    def _advance(self, slot: _Slot, logits: Logits | None) -> None:
        """Let the answer's space decide by the logits (None: at its start), and note what it wants to see next."""
        request = slot.request
        try:
            step: Step = next(slot.decoding) if logits is None else slot.decoding.send(logits)
        except StopIteration as stop:
            request.outcome = stop.value
        except EcellmError as error:
            request.error = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one row must not take the others along
            request.error = EcellmError(f"A fault of ours ended this row: {type(error).__name__}: {error}.")
            request.error.__cause__ = error
        else:
            base = len(request.prompt)
            if logits is not None and base + step.keep < slot.length:
                self._backend.truncate(slot.sequence, base + step.keep)
                slot.length = base + step.keep
            slot.pending.extend(step.tokens)
            request.forced += step.forced
            request.decoded += len(step.tokens) - step.forced
            if base + step.keep + len(step.tokens) <= self._backend.longest:
                return
            request.error = ContextError(
                f"The prompt has {base:,} tokens, and with its answer it does not fit the context of "
                f"{self._backend.longest:,}: shorten the row, or give a larger --context if the model allows one."
            )
        request.seconds = time.perf_counter() - slot.started
        self._alone = max(0, self._alone - 1)
        self._release(slot)

    def _release(self, slot: _Slot) -> None:
        slot.decoding.close()
        self._active.remove(slot)
        self._backend.truncate(slot.sequence, 0)
        self._free.append(slot.sequence)
        if slot.prefix:
            slot.prefix.users -= 1

    def _retry(self, error: EcellmError, rows: int) -> None:
        """Run the rows of a call that failed again, each alone: the one that makes it fail ends with the error."""
        self._restart()
        if rows > 1:
            self._alone = rows
        elif self._waiting:
            self._waiting.popleft().error = error
            self._alone = max(0, self._alone - 1)

    def _restart(self) -> None:
        self._waiting.extendleft(slot.request for slot in reversed(self._active) if not slot.request.done)
        self._active.clear()
        self._free = list(self._sequences)
        self._prefixes.forget()
        self._backend.clear()
