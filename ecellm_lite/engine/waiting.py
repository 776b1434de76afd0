"""The queue of waiting requests, ordered so that neighbours share as much of their prompts as possible."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from ecellm_lite.engine.prefixes import common
from ecellm_lite.engine.request import Request

# Rows that are sorted together. A job reads twice as many ahead, so that calls stay full while one group ends.
GROUP = 128


class Waiting:
    """A queue of requests that arrive one by one and leave in groups of up to GROUP, sorted by their prompts.

    Urgent requests leave first, in order of arrival. Other requests leave group by group. With `grouped` False requests
    leave in order of arrival.
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self._grouped = grouped
        self._arrived: deque[Request] = deque()
        self._urgent: deque[Request] = deque()
        self._group: deque[Request] = deque()

    def put(self, request: Request) -> None:
        """Add a request; any thread may call this."""
        (self._urgent if request.urgent else self._arrived).append(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """Put requests back into the queue, ahead of all others."""
        self._group.extendleft(reversed(requests))

    def __len__(self) -> int:
        """Return how many requests are waiting."""
        return len(self._group) + len(self._urgent) + len(self._arrived)

    def __contains__(self, request: Request) -> bool:
        """Return whether a request is in the current group."""
        return request in self._group

    def advance_urgent(self) -> None:
        """Move the new urgent requests before all others; must not be called between `first` and `pop`."""
        if not self._urgent:
            return
        place = max((place for place, request in enumerate(self._group, start=1) if request.urgent), default=0)
        while self._urgent:
            self._group.insert(place, self._urgent.popleft())
            place += 1

    @property
    def has_urgent(self) -> bool:
        """Whether an urgent request is waiting, newly arrived or moved to the front by `advance_urgent` already."""
        return bool(self._urgent) or bool(self._group and self._group[0].urgent)

    def first(self) -> Request | None:
        """Return the next request, or None."""
        if not self._group:
            self._refill()
        return self._group[0] if self._group else None

    def pop(self) -> Request:
        """Remove and return the request that `first` returned."""
        return self._group.popleft()

    def tokens(self, most: int) -> int:
        """Return how many tokens the next waiting prompts have, counted up to `most`."""
        total = 0
        for request in [*self._group, *self._arrived]:
            total += len(request.prompt)
            if total >= most:
                return most
        return total

    def sharing(self, prompt: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
        """Yield pairs (tokens, rows): the first `rows` rows of the group all begin with the same `tokens` tokens.

        `prompt` is the first row's. The first pair is for two rows. Each further pair is for one row more than the pair
        before, and has as many tokens or fewer. Pairs with `least` tokens or fewer are left out.
        """
        shared = len(prompt)
        for rows, other in enumerate(islice(self._group, 1, None), start=2):
            shared = min(shared, common(prompt, other.prompt))
            if shared <= least:
                return
            yield shared, rows

    def _refill(self) -> None:
        group: list[Request] = []
        while self._arrived and len(group) < (GROUP if self._grouped else 1):
            group.append(self._arrived.popleft())
        if self._grouped:
            group.sort(key=lambda request: tuple(request.prompt))
        self._group.extend(group)
