"""Decides which adapter's rows run next.

A call of the model computes rows of one adapter only, so adapters take turns. A turn lasts for many calls, because
llama.cpp plans its computation again when the adapter changes (6 ms for the demo). Each adapter has a queue of waiting
rows, and rows enter the batch only from the current adapter's queue. A turn has a time limit if other adapters wait, so
no adapter waits forever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ecellm_lite.engine.request import Request
from ecellm_lite.engine.slot import Slot
from ecellm_lite.engine.waiting import Waiting

# Seconds of calls after which another adapter's turn comes, if it has rows. One call may take longer.
TURN_SECONDS = 0.5

# If rows run one at a time, the instruction is read again after each change. That costs more than the rows of a short
# turn.
ALONE_TURN_SECONDS = 5.0


class Turns:
    """The waiting requests of all adapters, and the adapter whose turn it is.

    `adapters`: the adapters' names. The adapter None stands for the model alone. Each adapter has its own queue of the
    class Waiting. The methods `first`, `pop` and `sharing` use the queue of the `current` adapter.
    """

    def __init__(self, adapters: Sequence[str], *, grouped: bool = True, seconds: float = TURN_SECONDS) -> None:
        # All queues are made here: any thread may put a request while another reads them.
        self._queues: dict[str | None, Waiting] = {name: Waiting(grouped=grouped) for name in (None, *adapters)}
        self._seconds = seconds
        self._spent = 0.0
        self.current: str | None = None

    def put(self, request: Request) -> None:
        """Add a request. Any thread may call this."""
        self._queues[request.adapter].put(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """Put requests back into their queues, ahead of all others."""
        for adapter, queue in self._queues.items():
            queue.put_back([request for request in requests if request.adapter == adapter])

    def __len__(self) -> int:
        """Return how many requests are waiting, for all adapters."""
        return sum(map(len, self._queues.values()))

    def __contains__(self, request: Request) -> bool:
        """Return whether a request is in the current group of its adapter's queue, not in a later one.

        Requests leave a queue in groups of up to GROUP requests (see waiting.py). The current group leaves next.
        """
        return request in self._queues[request.adapter]

    def advance_urgent(self) -> None:
        """Move new urgent requests to the front of their queues."""
        for queue in self._queues.values():
            queue.advance_urgent()

    def first(self) -> Request | None:
        """Return the current adapter's next request without removing it, or None if none waits."""
        return self._queues[self.current].first()

    def pop(self) -> Request:
        """Remove and return the request that `first` returned. `first` must be called before each `pop`."""
        return self._queues[self.current].pop()

    def tokens(self, most: int) -> int:
        """Return the number of tokens in the prompts of all waiting requests.

        Each adapter's queue counts for at most `most` tokens.
        """
        return sum(queue.tokens(most) for queue in self._queues.values())

    def sharing(self, prompt: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
        """Yield pairs (tokens, rows): how many of the current adapter's next rows begin with the same tokens.

        For example, (40, 2) means that two rows begin with the same 40 tokens. `prompt` is the first row's prompt. Only
        pairs with more than `least` tokens are yielded.
        """
        return self._queues[self.current].sharing(prompt, least)

    def pass_on(self, active: Sequence[Slot]) -> None:
        """Give the turn to the next adapter if the current adapter has used up its time or has no rows.

        Adapters without rows are skipped. If there are urgent rows, an adapter with urgent rows gets the turn at once.
        """
        running = {slot.request.adapter for slot in active}
        busy = [name for name in self.order() if self._queues[name] or name in running]
        urgent = {slot.request.adapter for slot in active if slot.request.urgent}
        urgent |= {name for name, queue in self._queues.items() if queue.has_urgent}
        if urgent:
            busy = [name for name in busy if name in urgent]
        if not busy:
            return
        over = self._spent >= self._seconds and len(busy) > 1
        following = [name for name in busy if name != self.current] if over else busy
        if following[0] != self.current:
            self.current, self._spent = following[0], 0.0

    def spend(self, adapter: str | None, seconds: float) -> None:
        """Add the time of a call to the current turn, if the call computed rows of the current adapter."""
        if adapter == self.current:
            self._spent += seconds

    def take_all(self) -> Iterator[Request]:
        """Remove and yield every request."""
        for queue in self._queues.values():
            queue.advance_urgent()
            while queue.first():
                yield queue.pop()

    def order(self) -> list[str | None]:
        """Return the adapters, the current one first. The others follow in the order of their turns."""
        names = list(self._queues)
        place = names.index(self.current)
        return names[place:] + names[:place]
