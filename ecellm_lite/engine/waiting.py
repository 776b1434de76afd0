"""The queue of waiting requests. Urgent requests leave first. The others leave in groups, the oldest group first.

In a group, requests that begin with the same text are next to each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from ecellm_lite.engine.families import by_family
from ecellm_lite.engine.prefixes import common_length
from ecellm_lite.engine.request import Request

# Rows that are put in order together. A job reads twice as many ahead, so that calls stay full while one group ends.
GROUP = 128


class Waiting:
    """A queue of requests. They arrive one by one, and leave in groups of up to GROUP requests.

    Urgent requests leave first, in order of arrival. Then the oldest group leaves, then the next group, and so on. In a
    group, requests that begin with the same text are next to each other, so that the model reads this text only once.
    If `grouped` is False, all requests that are not urgent leave in order of arrival.
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self._grouped = grouped
        self._arrived: deque[Request] = deque()
        self._urgent: deque[Request] = deque()
        self._group: deque[Request] = deque()

    def put(self, request: Request) -> None:
        """Add a request. Any thread may call this."""
        (self._urgent if request.urgent else self._arrived).append(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """Put requests back into the queue, ahead of all others."""
        self._group.extendleft(reversed(requests))

    def __len__(self) -> int:
        """Return how many requests are waiting."""
        return len(self._group) + len(self._urgent) + len(self._arrived)

    def __contains__(self, request: Request) -> bool:
        """Return whether a request is in the group that leaves the queue next, not in a later group."""
        return request in self._group

    def advance_urgent(self) -> None:
        """Move new urgent requests to the front of the queue.

        Do not call this between a call of `first` and the next call of `pop`.
        """
        if not self._urgent:
            return
        place = max((place for place, request in enumerate(self._group, start=1) if request.urgent), default=0)
        while self._urgent:
            self._group.insert(place, self._urgent.popleft())
            place += 1

    @property
    def has_urgent(self) -> bool:
        """Whether an urgent request is waiting."""
        return bool(self._urgent) or bool(self._group and self._group[0].urgent)

    def first(self) -> Request | None:
        """Return the next request without removing it, or None if no request waits."""
        if not self._group:
            self._refill()
        return self._group[0] if self._group else None

    def pop(self) -> Request:
        """Remove and return the request that `first` returned. `first` must be called before each `pop`."""
        return self._group.popleft()

    def tokens(self, most: int) -> int:
        """Return the number of tokens in the prompts of all waiting requests, but at most `most`.

        Urgent requests count only after `advance_urgent` has moved them to the front.
        """
        total = 0
        for request in [*self._group, *self._arrived]:
            total += len(request.prompt)
            if total >= most:
                return most
        return total

    def sharing(self, prompt: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
        """Yield pairs (tokens, rows): how many rows of the next group begin with the same tokens.

        For example, (40, 2) and (25, 3) mean that two rows begin with the same 40 tokens, and three rows with the same
        25 tokens. The next group is the one that leaves the queue next. Its first row has the prompt `prompt`, and each
        pair counts this row too. Only pairs with more than `least` tokens are yielded.
        """
        lengths = (common_length(prompt, other.prompt) for other in islice(self._group, 1, None))
        for rows, shared in enumerate(sorted(lengths, reverse=True), start=2):
            if shared <= least:
                return
            yield shared, rows

    def _refill(self) -> None:
        group: list[Request] = []
        while self._arrived and len(group) < (GROUP if self._grouped else 1):
            group.append(self._arrived.popleft())
        self._group.extend(by_family(group) if self._grouped else group)
