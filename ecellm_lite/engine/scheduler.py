"""Runs many answers at once: rows fork the prefix they share, and each call of the model takes what all of them need.

In fast mode every call is filled with the tokens of as many rows as there is room for. Batching is not bit-stable in
llama.cpp, so deterministic mode runs one row at a time over an otherwise empty memory, and reads every prompt in the
same two calls, [prefix] and [row], whether the prefix was in memory or not.
"""

from __future__ import annotations

import time

from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Step
from ecellm_lite.engine.interface import Backend, Chunk
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.prefixes import Match, Prefixes
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.slot import Slot
from ecellm_lite.engine.twins import Twins
from ecellm_lite.engine.waiting import Waiting
from ecellm_lite.errors import ContextError, EcellmError, ModelError, UsageError

# What rows share beyond their instruction is not worth a sequence of its own if that saves fewer tokens.
LEAST_SAVING = 32
PREFIX_SEQUENCES = 16

# Rows are admitted while their prompts come to so many batches: attention looks at every cell in use, other rows'
# too, so a call that is already full gets slower with each row that stands by. Generated answers need a call for nearly
# each token, which only many rows can fill: there, with RESERVE for each, to two thirds of the memory.
CROWD, WRITING_CROWD = 2, 10

# Room that a row is admitted with besides its prompt; a row that needs more waits for others to end.
RESERVE = 64

# Drafts are tried while a call has no more tokens than this: then it waits for the weights to come from memory, and
# some tokens more cost little. In a fuller call each costs what any token does, and those that are wrong cost more
# than the right ones save.
DRAFTING = 8


class Scheduler:
    """Takes requests and, step by step, brings them to their end.

    The backend's memory is its own from the start on. `submit` may be called by any thread at any time, `step` by one
    at a time. `files` keeps instructions' states from one process to the next. With `grouped` False rows are taken
    as they come, and share their instruction alone; with `drafts` False free text is written token by token.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        deterministic: bool = False,
        grouped: bool = True,
        drafts: bool = True,
        files: PrefixFiles | None = None,
    ) -> None:
        if backend.sequences < 2:
            raise UsageError("A backend of one sequence holds no prefix beside a row: it needs two at least.")
        self._backend = backend
        self.deterministic = deterministic
        self._grouped = grouped and not deterministic
        self._drafts = min(DRAFTING, backend.batch) - 1 if drafts else 0  # the most in one step
        self._files = files
        kept = 1 if deterministic else max(1, min(PREFIX_SEQUENCES, backend.sequences // 4))
        self._prefixes = Prefixes(backend, range(kept))
        self._sequences = list(range(kept, kept + 1 if deterministic else backend.sequences))
        self._free = list(self._sequences)
        self._waiting = Waiting(grouped=self._grouped)
        self._twins = Twins()
        self._active: list[Slot] = []  # oldest first
        self._most = backend.most  # the memory that may be asked for because many rows wait
        self._outgrown = False  # whether rows are let run out, so that the memory can grow
        self._alone = 0  # rows that are still to run one at a time, after a call that failed
        if deterministic and backend.cells < backend.most:
            backend.grow(backend.most)  # where the memory's size came from what ran before, the answer might too
        backend.clear()

    def submit(self, request: Request) -> None:
        """Queue a request; one whose prompt leaves no room for an answer ends at once with a ContextError."""
        if len(request.prompt) >= self._backend.longest:
            request.error = ContextError(
                f"The prompt has {len(request.prompt):,} tokens and the context holds {self._backend.longest:,}: "
                "shorten the row, or give a larger --context if the model allows one."
            )
            return
        if not self._twins.join(request):
            self._waiting.put(request)

    def step(self) -> None:
        """Call the model once for as many rows as fit, and take the answers on by what it gives."""
        admitting = True
        try:
            for slot in [slot for slot in self._active if self._twins.drop(slot.request)]:
                self._alone = max(0, self._alone - 1)
                self._release(slot)
            self._admit()
            admitting = False
            if self._active:
                self._call(self._chunks() or self._make_room())
        except EcellmError as error:
            self._retry(error, len(self._active) + admitting)
        except BaseException:
            # Interrupted: what the memory holds is unknown, so the running rows start again.
            self._restart()
            raise

    def _call(self, chunks: list[Chunk]) -> None:
        if not chunks:
            return
        logits = iter(self._backend.decode(chunks))
        slots = {slot.sequence: slot for slot in self._active}
        # A chunk of a node's has no slot; where one asks for logits, its slot goes on.
        for chunk, slot in [(chunk, slots[chunk.sequence]) for chunk in chunks if chunk.sequence in slots]:
            slot.length += len(chunk.tokens)
            if chunk.ask:
                self._advance(slot, next(logits))
        if self._files:
            for node in self._prefixes.unsaved():
                if state := self._backend.save(node.sequence):
                    self._files.write(node.tokens, state)

    def _admit(self) -> None:
        while self._free and (request := self._waiting.first()):
            if self._twins.drop(request):
                self._alone = max(0, self._alone - 1)
                self._waiting.pop()
                continue
            if self._active and (self._alone or self._outgrown or self._runnable() >= self._backend.batch):
                return
            if not self._active:
                self._grow(request)
            match = self._find(request)
            own = len(request.prompt) - match.length
            self._prefixes.hold(match)
            while own + RESERVE > self._room() and self._prefixes.evict():
                pass
            self._prefixes.let_go(match)
            if self._active and self._crowded(request, own):
                # As below, but where the memory is of the size that what waits wants there is nothing to win.
                self._outgrown = request.space.generates and self._backend.cells < self._wanted(request)
                return
            if self._active and own + RESERVE > self._room():
                # It takes an empty memory to grow; without this one, rows that keep coming would never leave it empty.
                self._outgrown = self._backend.cells < self._backend.most
                return
            started = time.perf_counter()
            request.cached = match.length
            match = self._extended(request, match)
            slot = Slot(request, self._free.pop(), match, self._decoding(request), started, match.length)
            self._active.append(slot)
            self._waiting.pop()
            self._start(slot)

    def _grow(self, request: Request) -> None:
        """Make the memory large enough for what waits, if it can be made larger: in powers of two, so seldom."""
        try:
            self._reserve(self._wanted(request))
        except ModelError:  # what waits can wait longer
            self._most = self._backend.cells
            self._reserve(len(request.prompt) + RESERVE)
        self._outgrown = False

    def _wanted(self, request: Request) -> int:
        """Return the memory that what waits could use at once, in tokens."""
        least = len(request.prompt) + RESERVE
        if not self._grouped:
            return least
        if request.space.generates:
            waiting = 3 * self._waiting.tokens(WRITING_CROWD * self._backend.batch) // 2
        else:
            waiting = self._waiting.tokens(CROWD * self._backend.batch)
        return max(least, min(waiting + RESERVE, self._most))

    def _reserve(self, tokens: int) -> None:
        backend = self._backend
        if backend.cells < min(tokens, backend.most):
            try:
                backend.grow(min(backend.most, 1 << (tokens - 1).bit_length()))
            finally:
                self._prefixes.forget()

    def _runnable(self) -> int:
        """Return how many tokens the next call could take."""
        nodes = sum(len(node.tokens) - node.filled for node in self._prefixes.unfilled())
        return nodes + sum(len(slot.pending) for slot in self._active if slot.match.ready)

    def _crowded(self, request: Request, own: int) -> bool:
        """Whether the rows that run are enough without this one, of which so many tokens are its own."""
        standing = own + sum(slot.own + len(slot.pending) for slot in self._active)
        if standing <= CROWD * self._backend.batch:
            return False
        requests = [request, *(slot.request for slot in self._active)]
        if not any(one.space.generates for one in requests):
            return True
        room = 2 * (self._backend.cells - self._prefixes.cells) // 3
        return standing + RESERVE * len(requests) > min(WRITING_CROWD * self._backend.batch, room)

    def _find(self, request: Request) -> Match:
        match = self._prefixes.find(request.prompt)
        if not self.deterministic:
            return match
        # Only the same tokens read in the same call are the same to the bit.
        if match.prefix and len(match.prefix.tokens) == match.length == request.instruction:
            return match
        self._backend.clear()
        self._prefixes.forget()
        return Match()

    def _extended(self, request: Request, match: Match) -> Match:
        """Return the match with nodes behind it for what others will share: the instruction, and what neighbours do."""
        prompt = request.prompt
        instruction = request.instruction
        if instruction > match.length:
            match = self._prefixes.add(prompt[:instruction], match, instruction=request.lasting)
            if self._loaded(request, match):
                request.cached = instruction
        while self._grouped and not self._alone:
            # Of the beginnings that it shares with the rows behind it, the one that saves the most tokens.
            saved, length = max(
                (
                    ((tokens - match.length) * (rows - 1), tokens)
                    for tokens, rows in self._waiting.sharing(prompt, match.length)
                    if tokens < len(prompt)
                ),
                default=(0, 0),
            )
            longer = self._prefixes.add(prompt[:length], match) if saved >= LEAST_SAVING else match
            if longer.length == match.length:
                break
            match = longer
        return match

    def _loaded(self, request: Request, match: Match) -> bool:
        """Whether the instruction's node, which is new, could be filled from a file."""
        node = match.prefix
        if not self._files or not node or not node.instruction or node.begun:
            return False
        # What is loaded shares no cells with other nodes.
        if node.origin.length + len(request.prompt) - match.length + RESERVE > self._room():
            return False
        # One that does not load is written anew when the node has been filled.
        state = self._files.read(node.tokens)
        return state is not None and self._prefixes.load(node, state)

    def _decoding(self, request: Request) -> Decoding:
        room = self._backend.longest - len(request.prompt)
        scene = Scene(self._backend.vocabulary, room, request.seed, request.prompt, self._drafts)
        return (yield from request.space.decode(scene))

    def _start(self, slot: Slot) -> None:
        request = slot.request
        request.decoded = request.forced = request.wasted = 0
        self._prefixes.hold(slot.match)
        slot.pending.extend(request.prompt[slot.length :])
        self._advance(slot, None)

    def _begin(self, slot: Slot) -> bool:
        """Fork a slot from its prefix once that is in memory; False as long as it is not."""
        if not slot.begun and slot.match.ready:
            slot.begun = True
            if slot.match.prefix:
                self._backend.fork(slot.match.prefix.sequence, slot.sequence, slot.match.length)
        return slot.begun

    def _chunks(self) -> list[Chunk]:
        # A row begins when its prefix is in memory, which a call that is still to come cannot have put there.
        begun = [slot for slot in self._active if self._begin(slot)]
        budget, room = self._backend.batch, self._room()
        chunks: list[Chunk] = []
        for node in list(self._prefixes.unfilled()):  # whose room is theirs already
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
        """Return the next chunks when memory is full: prefixes go, then the youngest rows wait for their turn again."""
        while not (chunks := self._chunks()):
            if self._prefixes.evict():
                continue
            slot = self._active[-1]
            self._release(slot)
            if self._active or self._backend.cells < self._backend.most:
                self._waiting.put_back([slot.request])
                if not self._active:
                    self._reserve(2 * self._backend.cells)
                    return []
            else:
                slot.request.error = ContextError(
                    f"The prompt and its answer need more than the {self._backend.cells:,} tokens of the context: "
                    "shorten the row, or give a larger --context if the model allows one."
                )
                self._twins.tell(slot.request)
                return []
        return chunks

    def _room(self) -> int:
        return self._backend.cells - self._prefixes.cells - sum(slot.own for slot in self._active)

    def _advance(self, slot: Slot, logits: Logits | None) -> None:
        """Let the answer's space decide by the logits (None: at its start), and note what it wants to see next."""
        request = slot.request
        base = len(request.prompt)
        settled = slot.length - base - slot.drafted  # of the answer's tokens in memory, those that were no guess
        outcome: Outcome | None = None
        failure: EcellmError | None = None
        try:
            step: Step = next(slot.decoding) if logits is None else slot.decoding.send(logits)
        except StopIteration as stop:
            outcome = stop.value
            slot.count_drafts(len(stop.value.tokens) - settled)
        except EcellmError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one row must not take the others along
            failure = EcellmError(f"A fault of ours ended this row: {type(error).__name__}: {error}.")
            failure.__cause__ = error
        else:
            slot.count_drafts(step.keep - settled)
            if logits is not None and base + step.keep < slot.length:
                self._backend.truncate(slot.sequence, base + step.keep)
                slot.length = base + step.keep
            slot.pending.extend(step.tokens)
            slot.drafted = step.drafted
            request.forced += step.forced
            request.decoded += len(step.tokens) - step.forced - step.drafted
            if base + step.keep + len(step.tokens) <= self._backend.longest:
                return
            failure = ContextError(
                f"The prompt has {base:,} tokens, and with its answer it does not fit the context of "
                f"{self._backend.longest:,}: shorten the row, or give a larger --context if the model allows one."
            )
        request.seconds = time.perf_counter() - slot.started
        # Last, for it makes the request done, and another thread may be waiting for that.
        request.outcome, request.error = outcome, failure
        self._alone = max(0, self._alone - 1)
        self._release(slot)
        self._twins.tell(request)

    def _release(self, slot: Slot) -> None:
        slot.decoding.close()
        self._active.remove(slot)
        self._backend.truncate(slot.sequence, 0)
        self._free.append(slot.sequence)
        self._prefixes.let_go(slot.match)

    def _retry(self, error: EcellmError, rows: int) -> None:
        """Run the rows of a call that failed again, each alone: the one that makes it fail ends with the error."""
        self._restart()
        if rows > 1:
            self._alone = rows
        elif request := self._waiting.first():
            self._waiting.pop()
            request.error = error
            self._twins.tell(request)
            self._alone = max(0, self._alone - 1)

    def _restart(self) -> None:
        first = self._waiting.first()  # it may be among those that run, if that is where we were interrupted
        running = [slot.request for slot in self._active]
        self._waiting.put_back([request for request in running if not request.done and request is not first])
        for request in running:
            if request.done:
                self._twins.tell(request)
        self._active.clear()
        self._free = list(self._sequences)
        self._prefixes.forget()
        self._backend.clear()
