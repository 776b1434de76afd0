"""Decides when a waiting row may join the running rows, and how large the KV memory must be."""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.prefixes import Prefixes
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.slot import Slot
from ecellm_lite.engine.turns import Turns
from ecellm_lite.errors import ModelError

# Rows are admitted until their prompts add up to this many batches. More rows would not fill a call better. They would
# even slow it down with llama.cpp's own attention, which reads every cell in use; the prompt kernels' attention reads
# a row's own cells only. Generated answers need a call for nearly every token, and only many rows together fill such
# calls: such rows are admitted until they take two thirds of the memory, with RESERVE tokens for each answer.
CROWD, GENERATING_CROWD = 2, 10

# A row is admitted only if this many tokens of memory are free besides its prompt's. A row that needs more waits until
# others end.
RESERVE = 64


class Admission:
    """Decides whether the next waiting row may join the running rows.

    `active` are the running rows; the scheduler updates this list. The KV memory must be empty when it grows. So if
    the memory must grow, no row is admitted until all running rows have ended. After a failed call of the model, the
    rows of that call run one at a time (`retrying`).

    `grouped`: whether the memory grows enough for many waiting rows. If False, it grows just enough for the next row.
    """

    def __init__(
        self, backend: Backend, waiting: Turns, prefixes: Prefixes, active: Sequence[Slot], *, grouped: bool
    ) -> None:
        self._backend = backend
        self._waiting = waiting
        self._prefixes = prefixes
        self._active = active
        self._grouped = grouped
        self._largest = backend.max_cells  # the largest size that the memory grows to for many rows
        self._draining = False
        self._retries = 0  # rows that still have to run one at a time

    @property
    def retrying(self) -> bool:
        """Whether rows run one at a time for now, because a call of the model failed."""
        return self._retries > 0

    def retry(self, rows: int) -> None:
        """Run the next `rows` rows one at a time, because a call of the model with all of them failed."""
        self._retries = rows

    def row_ended(self) -> None:
        """Record that a row has ended or was dropped.

        After `retry`, this lowers the number of rows that still have to run one at a time.
        """
        self._retries = max(0, self._retries - 1)

    @property
    def closed(self) -> bool:
        """Whether no waiting row may join the running rows now."""
        return bool(self._active) and (self.retrying or self._draining or self._runnable() >= self._backend.batch)

    def allows(self, request: Request, own: int) -> bool:
        """Return whether a request's row may join the running rows.

        `own` is the length of the row in tokens, without the prefix that it shares with other rows.
        """
        if not self._active:
            return True
        if not request.urgent and self._crowded(request, own):
            # Growing the memory would admit more rows only if it is smaller than the waiting rows could use.
            self._draining = request.space.generates and self._backend.cells < self._useful_cells(request)
            return False
        if own + RESERVE > self.room:
            # The memory can only grow when it is empty, and it never would be if rows kept joining.
            self._draining = self._backend.cells < self._backend.max_cells
            return False
        return True

    @property
    def room(self) -> int:
        """The free KV memory, in tokens."""
        return self._backend.cells - self._prefixes.cells - sum(slot.own for slot in self._active)

    def grow(self, request: Request) -> None:
        """Make the model's memory large enough for many waiting rows or, if that fails, for this request alone.

        The memory must be empty.
        """
        try:
            self.reserve(self._useful_cells(request))
        except ModelError:  # the other rows can wait longer
            self._largest = self._backend.cells
            self.reserve(len(request.prompt) + RESERVE)
        self._draining = False

    def reserve(self, tokens: int) -> None:
        """Make the memory large enough for `tokens`, or as large as possible. The memory is empty after it has grown.

        The new size is rounded up to a power of two, so that the memory rarely has to grow.
        """
        backend = self._backend
        if backend.cells < min(tokens, backend.max_cells):
            try:
                backend.grow(min(backend.max_cells, 1 << (tokens - 1).bit_length()))
            finally:
                self._prefixes.forget()

    def _useful_cells(self, request: Request) -> int:
        """Return how much memory is useful, in tokens. With more memory, rows would not be answered faster.

        The result is always enough for `request`. If the Admission was made without `grouped`, it is just enough.
        """
        least = len(request.prompt) + RESERVE
        if not self._grouped:
            return least
        if request.space.generates:
            waiting = 3 * self._waiting.tokens(GENERATING_CROWD * self._backend.batch) // 2
        else:
            waiting = self._waiting.tokens(CROWD * self._backend.batch)
        return max(least, min(waiting + RESERVE, self._largest))

    def _runnable(self) -> int:
        """Return how many tokens of the current adapter's rows the model could read in the next call."""
        adapter = self._waiting.current
        nodes = sum(len(node.tokens) - node.filled for node in self._prefixes.unfilled(adapter))
        slots = (slot for slot in self._active if slot.request.adapter == adapter and slot.match.ready)
        return nodes + sum(len(slot.pending) for slot in slots)

    def _crowded(self, request: Request, own: int) -> bool:
        """Return whether the request should wait, because enough rows of its adapter are running.

        `own`: the length of the request's row in tokens, without the prefix that it shares with other rows.
        """
        slots = [slot for slot in self._active if slot.request.adapter == request.adapter]
        standing = own + sum(slot.own + len(slot.pending) for slot in slots)
        if standing <= CROWD * self._backend.batch:
            return False
        requests = [request, *(slot.request for slot in slots)]
        if not any(each.space.generates for each in requests):
            return True
        room = 2 * (self._backend.cells - self._prefixes.cells) // 3
        return standing + RESERVE * len(requests) > min(GENERATING_CROWD * self._backend.batch, room)
