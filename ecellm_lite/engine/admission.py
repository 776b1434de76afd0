"""Which waiting rows may join those that run, and how much memory is made for them."""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.prefixes import Prefixes
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.slot import Slot
from ecellm_lite.engine.waiting import Waiting
from ecellm_lite.errors import ModelError

# Rows are admitted while their prompts come to so many batches: attention looks at every cell in use, other rows'
# too, so a call that is already full gets slower with each row that stands by. Generated answers need a call for
# nearly each token, which only many rows can fill: there, with RESERVE for each, to two thirds of the memory.
CROWD, GENERATING_CROWD = 2, 10

# Room that a row is admitted with besides its prompt; a row that needs more waits for others to end.
RESERVE = 64


class Admission:
    """Decides whether the row whose turn it is may join those that run.

    `active` are the rows that run, which the scheduler keeps. Rows are kept out while `retrying`, when those of a call
    that failed run one at a time, and while draining, until no row runs and the memory can grow. With `grouped`
    False the memory grows for one row at a time.
    """

    def __init__(
        self, backend: Backend, waiting: Waiting, prefixes: Prefixes, active: Sequence[Slot], *, grouped: bool
    ) -> None:
        self._backend = backend
        self._waiting = waiting
        self._prefixes = prefixes
        self._active = active
        self._grouped = grouped
        self._largest = backend.most  # the memory that may be asked for because many rows wait
        self._draining = False
        self._retries = 0  # rows that are still to run one at a time

    @property
    def retrying(self) -> bool:
        """Whether rows run one at a time."""
        return self._retries > 0

    def retry(self, rows: int) -> None:
        """Let the next rows run one at a time."""
        self._retries = rows

    def row_ended(self) -> None:
        """Note that a row ended, or was dropped."""
        self._retries = max(0, self._retries - 1)

    @property
    def closed(self) -> bool:
        """Whether no row may join now, whichever it is."""
        return bool(self._active) and (self.retrying or self._draining or self._runnable() >= self._backend.batch)

    def allows(self, request: Request, own: int) -> bool:
        """Whether a row with `own` tokens behind what it shares may join."""
        if not self._active:
            return True
        if not request.urgent and self._crowded(request, own):
            # Growing the memory would admit more rows only if it is smaller than what waits could use.
            self._draining = request.space.generates and self._backend.cells < self._useful_cells(request)
            return False
        if own + RESERVE > self.room:
            # The memory grows only when it is empty; rows that keep coming would never leave it so.
            self._draining = self._backend.cells < self._backend.most
            return False
        return True

    @property
    def room(self) -> int:
        """The free memory, in tokens."""
        return self._backend.cells - self._prefixes.cells - sum(slot.own for slot in self._active)

    def grow(self, request: Request) -> None:
        """Make the empty memory large enough for what waits, if it can be: in powers of two, so seldom."""
        try:
            self.reserve(self._useful_cells(request))
        except ModelError:  # what waits can wait longer
            self._largest = self._backend.cells
            self.reserve(len(request.prompt) + RESERVE)
        self._draining = False

    def reserve(self, tokens: int) -> None:
        """Make the memory hold so many tokens, or as many as it can; what it held is forgotten."""
        backend = self._backend
        if backend.cells < min(tokens, backend.most):
            try:
                backend.grow(min(backend.most, 1 << (tokens - 1).bit_length()))
            finally:
                self._prefixes.forget()

    def _useful_cells(self, request: Request) -> int:
        """Return the memory that what waits could use at once, in tokens."""
        least = len(request.prompt) + RESERVE
        if not self._grouped:
            return least
        if request.space.generates:
            waiting = 3 * self._waiting.tokens(GENERATING_CROWD * self._backend.batch) // 2
        else:
            waiting = self._waiting.tokens(CROWD * self._backend.batch)
        return max(least, min(waiting + RESERVE, self._largest))

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
        return standing + RESERVE * len(requests) > min(GENERATING_CROWD * self._backend.batch, room)
