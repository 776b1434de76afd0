"""Requests that wait for their turn, in an order in which neighbours share as much of their prompts as they can."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from ecellm_lite.engine.prefixes import common
from ecellm_lite.engine.request import Request

# Rows that are put in order together. A job reads twice as many ahead, so that calls stay full while one group ends.
GROUP = 128


class Waiting:
    """Requests come in by arrival and leave grouped: at most GROUP of them are sorted by their prompts at a time.

    Urgent requests leave first, in the order in which they came. Of the others none is overtaken by one that came
    after its group; with `grouped` False they leave as they came.
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self._grouped = grouped
        self._arrived: deque[Request] = deque()
        self._urgent: deque[Request] = deque()
        self._group: deque[Request] = deque()

    def put(self, request: Request) -> None:
        """Take a request in; any thread may."""
        (self._urgent if request.urgent else self._arrived).append(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """Take in again, in front of all others, what had left."""
        self._group.extendleft(reversed(requests))

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._group) + len(self._urgent) + len(self._arrived)

    def __contains__(self, request: Request) -> bool:
        """Return whether a request is in the group that leaves now."""
        return request in self._group

    def advance_urgent(self) -> None:
        """Let the urgent requests that came meanwhile leave before all that are not; not between `first` and `pop`."""
        if not self._urgent:
            return
        place = max((place for place, request in enumerate(self._group, start=1) if request.urgent), default=0)
        while self._urgent:
            self._group.insert(place, self._urgent.popleft())
            place += 1

    def first(self) -> Request | None:
        """Return the request whose turn it is, or None."""
        if not self._group:
            self._refill()
        return self._group[0] if self._group else None

    def pop(self) -> Request:
        """Take out the request that `first` gave."""
        return self._group.popleft()

    def tokens(self, most: int) -> int:
        """Return how many tokens the waiting prompts have that are to leave next, counted until there are `most`."""
        total = 0
        for request in [*self._group, *self._arrived]:
            total += len(request.prompt)
            if total >= most:
                return most
        return total

    def sharing(self, prompt: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
        """Yield (tokens, rows): the next so many rows of the group, this first one too, begin with so many tokens.

        From the nearest neighbour on, while more than `least` tokens are shared; tokens fall and rows rise.
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
