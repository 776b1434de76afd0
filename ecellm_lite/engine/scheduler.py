"""Computes many answers at once: rows fork the prefix that they share, and one call of the model serves many rows.

Each call is filled with the tokens of as many rows as fit. With some backends, the last bits of a row's logits depend
on the other rows of the call. With such a backend, deterministic mode runs one row at a time, with no other row in
memory. Each prompt is then read in two calls: the first reads the prefix, the second reads the rest.

All rows of a call have the same adapter. If rows wait for several adapters, the adapters take turns (see turns.py).
"""

from __future__ import annotations

import time

from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Step
from ecellm_lite.engine.admission import RESERVE, Admission
from ecellm_lite.engine.interface import Backend, Chunk
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.prefixes import Prefixes
from ecellm_lite.engine.request import Request, context_error
from ecellm_lite.engine.sharing import Sharing
from ecellm_lite.engine.slot import Slot
from ecellm_lite.engine.turns import ALONE_TURN_SECONDS, TURN_SECONDS, Turns
from ecellm_lite.engine.twins import Twins
from ecellm_lite.errors import ContextError, EcellmError, UsageError

PREFIX_SEQUENCES = 16

# Drafts are tried only in calls of at most this many tokens: such a call waits for the weights to come from memory, so
# a few more tokens cost little. In a fuller call each token has its full cost, and wrong drafts cost more than right
# ones save.
DRAFTING = 8


class Scheduler:
    """Takes requests and answers them in steps. A step is one call of the model.

    Nothing else may use the backend's memory. Any thread may call `submit` at any time. `step` must not be called by
    two threads at once.

    `files`: stores the states of instructions for later processes.
    `grouped`: if True, rows whose prompts begin alike run together and share this beginning. If False, rows run in
      order of arrival and share only their instruction.
    `drafts`: whether several tokens of free text may be guessed and checked in one call. In deterministic mode, tokens
      are guessed only if rows run one at a time, which is the case if `backend.stable` is False.
    `turn_seconds`: how long one adapter's rows may run while another adapter's rows wait.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        deterministic: bool = False,
        grouped: bool = True,
        drafts: bool = True,
        files: PrefixFiles | None = None,
        turn_seconds: float | None = None,
    ) -> None:
        if backend.sequences < 2:
            raise UsageError("A backend needs at least two sequences, one for a prefix and one for a row.")
        self._backend = backend
        self.deterministic = deterministic
        alone = deterministic and not backend.stable  # whether rows run one at a time
        self._grouped = grouped and not alone
        # The most drafts in one step. How many are checked depends on other rows, and may change an answer's usage.
        self._drafts = min(DRAFTING, backend.batch) - 1 if drafts and (alone or not deterministic) else 0
        prefix_sequences = 1 if alone else max(1, min(PREFIX_SEQUENCES, backend.sequences // 4))
        self._prefixes = Prefixes(backend, range(prefix_sequences))
        self._sequences = list(range(prefix_sequences, prefix_sequences + 1 if alone else backend.sequences))
        self._free = list(self._sequences)
        if turn_seconds is None:
            turn_seconds = ALONE_TURN_SECONDS if alone else TURN_SECONDS
        self._waiting = Turns(backend.adapters, grouped=self._grouped, seconds=turn_seconds)
        self._twins = Twins()
        self._active: list[Slot] = []  # oldest first
        self._adapter: str | None = None  # of the next call
        self.calls = 0  # of the model, so far
        self._admission = Admission(backend, self._waiting, self._prefixes, self._active, grouped=self._grouped)
        self._sharing = Sharing(
            backend,
            self._prefixes,
            self._waiting,
            self._admission,
            alone=alone,
            grouped=self._grouped,
            files=files,
        )
        if alone and backend.cells < backend.max_cells:
            backend.grow(backend.max_cells)  # the answer must not depend on a size that earlier rows left
        backend.clear()

    def submit(self, request: Request) -> None:
        """Queue a request. If its prompt leaves no room for an answer, the request ends at once with a ContextError."""
        if len(request.prompt) >= self._backend.max_length:
            request.end(error=self._too_long(request))
        elif not self._twins.join(request):
            self._waiting.put(request)

    @property
    def running(self) -> int:
        """How many rows are running."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """How many rows are waiting."""
        return len(self._waiting)

    def fail(self, error: EcellmError) -> None:
        """End all running and waiting requests with an error, because nothing can run any more."""
        self._put_back()
        for request in self._waiting.take_all():
            self._end(request, error=error)

    def step(self) -> None:
        """Call the model once, for as many rows as fit, and continue the answers of these rows."""
        admitting = True
        try:
            for slot in [slot for slot in self._active if self._twins.drop(slot.request)]:
                self._admission.row_ended()
                self._release(slot)
            self._admit()
            admitting = False
            if self._active:
                self._call(self._next_chunks() or self._make_room())
        except Exception as error:  # noqa: BLE001 - one row's fault must not end the others
            self._retry(_fault(error), len(self._active) + admitting)
        except BaseException:
            # Interrupted: the memory's contents are unknown, so the running rows start again.
            self._restart()
            raise

    def _call(self, chunks: list[Chunk]) -> None:
        if not chunks:
            return
        started = time.perf_counter()
        logits = iter(self._backend.decode(chunks))
        self._waiting.spend(self._adapter, time.perf_counter() - started)
        self.calls += 1
        slots = {slot.sequence: slot for slot in self._active}
        # A chunk of a prefix node has no slot. A slot advances when its chunk has asked for logits.
        for chunk, slot in [(chunk, slots[chunk.sequence]) for chunk in chunks if chunk.sequence in slots]:
            slot.length += len(chunk.tokens)
            if chunk.ask:
                self._advance(slot, next(logits))
        self._sharing.save()

    def _admit(self) -> None:
        self._waiting.advance_urgent()
        self._waiting.pass_on(self._active)
        while self._free and (request := self._waiting.first()):
            if self._twins.drop(request):
                self._admission.row_ended()
                self._waiting.pop()
                continue
            if self._admission.closed:
                return
            if not self._active:
                self._admission.grow(request)
            match = self._sharing.find(request)
            own = len(request.prompt) - match.length
            self._prefixes.hold(match)
            while own + RESERVE > self._admission.room and self._prefixes.evict():
                pass
            self._prefixes.release(match)
            if not self._admission.allows(request, own):
                return
            started = time.perf_counter()
            request.cached = match.length
            match = self._sharing.extended(request, match)
            slot = Slot(request, self._free.pop(), match, self._decoding(request), started, match.length)
            self._active.append(slot)
            self._waiting.pop()
            self._start(slot)

    def _decoding(self, request: Request) -> Decoding:
        room = self._backend.max_length - len(request.prompt)
        vocabulary, listener = self._backend.vocabulary, request.listener
        scene = Scene(vocabulary, room, request.seed, request.prompt, self._drafts, listener, request.form)
        return (yield from request.space.decode(scene))

    def _start(self, slot: Slot) -> None:
        request = slot.request
        request.decoded = request.forced = request.wasted = 0
        self._prefixes.hold(slot.match)
        slot.pending.extend(request.prompt[slot.length :])
        self._advance(slot, None)

    def _begin(self, slot: Slot) -> bool:
        """Let a running request fork its prefix, if the prefix is in memory and the request has not forked it yet.

        Return whether the request has forked its prefix, now or earlier.
        """
        if not slot.begun and slot.match.ready:
            slot.begun = True
            if slot.match.prefix:
                self._backend.fork(slot.match.prefix.sequence, slot.sequence, slot.match.length)
        return slot.begun

    def _next_chunks(self) -> list[Chunk]:
        """Return the chunks of tokens for the next call of the model. All belong to rows of one adapter.

        The adapters take turns. If no row of an adapter can run, the next adapter gets the turn.
        """
        for adapter in self._waiting.order():
            if chunks := self._chunks(adapter):
                self._adapter = adapter
                self._backend.adapt(adapter)
                return chunks
        return []

    def _chunks(self, adapter: str | None) -> list[Chunk]:
        # A row begins only when its prefix is in memory: chunks of this same call do not count yet.
        begun = [slot for slot in self._active if slot.request.adapter == adapter and self._begin(slot)]
        budget, room = self._backend.batch, self._admission.room
        chunks: list[Chunk] = []
        for node in list(self._prefixes.unfilled(adapter)):  # their room is reserved already
            if budget:
                chunks.append(self._prefixes.chunk(node, budget))
                budget -= len(chunks[-1].tokens)
        idle = DRAFTING - (self._backend.batch - budget) - sum(len(slot.pending) - slot.drafted for slot in begun)
        for slot in begun:
            while slot.drafted and (slot.drafted > idle or len(slot.pending) > min(budget, room)):
                slot.pending.pop()
                slot.drafted -= 1
            idle -= slot.drafted
            take = max(0, min(len(slot.pending), budget, room))
            if take:
                tokens = [slot.pending.popleft() for _ in range(take)]
                chunks.append(Chunk(slot.sequence, slot.length, tokens, 0 if slot.pending else slot.drafted + 1))
                budget -= take
                room -= take
        return chunks

    def _make_room(self) -> list[Chunk]:
        """Return the tokens for the next call of the model, as chunks.

        If there is too little memory for them, drop prefixes. If that is not enough, put the newest rows back into the
        queue. If the last running row still does not fit, put it back too and enlarge the memory. If the memory already
        has its maximum size, end this row with a ContextError. Return an empty list if no row is left running.
        """
        while not (chunks := self._next_chunks()):
            if self._prefixes.evict():
                continue
            slot = self._active[-1]
            self._release(slot)
            if self._active or self._backend.cells < self._backend.max_cells:
                self._waiting.put_back([slot.request])
                if not self._active:
                    self._admission.reserve(2 * self._backend.cells)
                    return []
            else:
                self._end(slot.request, error=self._too_long(slot.request, with_answer=True))
                return []
        return chunks

    def _advance(self, slot: Slot, logits: Logits | None) -> None:
        """Continue a row's answer with the logits of its last token. Queue the tokens that the model must read next.

        At the start of an answer there are no logits yet.
        """
        request = slot.request
        base = len(request.prompt)
        settled = slot.length - base - slot.drafted  # the answer's tokens in memory, without drafts
        outcome: Outcome | None = None
        failure: EcellmError | None = None
        try:
            step: Step = next(slot.decoding) if logits is None else slot.decoding.send(logits)
        except StopIteration as stop:
            outcome = stop.value
            slot.count_drafts(len(stop.value.tokens) - settled)
        except Exception as error:  # noqa: BLE001 - one row's fault must not end the others
            failure = _fault(error)
        else:
            slot.count_drafts(step.keep - settled)
            if logits is not None and base + step.keep < slot.length:
                self._backend.truncate(slot.sequence, base + step.keep)
                slot.length = base + step.keep
            slot.pending.extend(step.tokens)
            slot.drafted = step.drafted
            request.forced += step.forced
            request.decoded += len(step.tokens) - step.forced - step.drafted
            if base + step.keep + len(step.tokens) <= self._backend.max_length:
                return
            failure = self._too_long(request, with_answer=True)
        request.seconds = time.perf_counter() - slot.started
        self._admission.row_ended()
        self._release(slot)
        self._end(request, outcome, failure)

    def _too_long(self, request: Request, *, with_answer: bool = False) -> ContextError:
        length = f"{len(request.prompt):,} tokens" + (", plus those of its answer" if with_answer else "")
        return context_error(length, self._backend.max_length, request.advice, request.settings)

    def _end(self, request: Request, outcome: Outcome | None = None, error: EcellmError | None = None) -> None:
        # Last, because the waiting caller may continue at once.
        request.end(outcome, error)
        self._twins.end(request)

    def _release(self, slot: Slot) -> None:
        slot.decoding.close()
        self._active.remove(slot)
        self._backend.truncate(slot.sequence, 0)
        self._free.append(slot.sequence)
        self._prefixes.release(slot.match)

    def _retry(self, error: EcellmError, rows: int) -> None:
        """Run the rows of a failed call again, one at a time.

        If the call had only one row, end this row with the error.
        """
        adapter = self._active[0].request.adapter if self._active else self._waiting.current
        self._restart()
        if rows > 1:
            self._admission.retry(rows)
            return
        self._waiting.current = adapter
        if request := self._waiting.first():
            self._waiting.pop()
            self._admission.row_ended()
            self._end(request, error=error)

    def _restart(self) -> None:
        """Put the running rows back in the queue and clear the memory."""
        self._put_back()
        self._free = list(self._sequences)
        self._prefixes.forget()
        self._backend.clear()

    def _put_back(self) -> None:
        running = [slot.request for slot in self._active]
        # If we were interrupted in between, a request is both running and waiting.
        self._waiting.put_back([request for request in running if not request.done and request not in self._waiting])
        for request in running:
            if request.done:
                self._twins.end(request)
        self._active.clear()


def _fault(error: Exception) -> EcellmError:
    """Return an EcellmError unchanged, and any other exception as an EcellmError that reports an internal error."""
    if isinstance(error, EcellmError):
        return error
    fault = EcellmError(f"An internal error ended this row: {type(error).__name__}: {error}.")
    fault.__cause__ = error
    return fault
