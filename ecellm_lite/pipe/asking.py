"""A request on its way through a child process, and what is to be done with it when the child dies."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.pipe.messages import Ask, ask_line

# Requests that took a child down whose hashes are remembered.
REMEMBERED = 1024


@dataclass(slots=True, eq=False)
class Asking:
    """A request, the answer to come, and how often a child died while it had it."""

    ask: Ask
    line: bytes
    failed: Callable[[EcellmError], Answer]
    future: Future[Answer]
    sent: bool = False
    deaths: int = 0

    @classmethod
    def of(cls, ask: Ask, failed: Callable[[EcellmError], Answer]) -> Asking:
        """Return a request that is to be sent; raises InputError for a row that is no JSON.

        `failed` makes the answer of a row that has none, with its error.
        """
        try:
            return cls(ask, ask_line(ask), failed, Future())
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"The row is not JSON ({error})", step="give texts, numbers, lists and objects") from None

    @property
    def suspect(self) -> bool:
        """Whether it is to be asked alone, since two children died while they had it."""
        return self.deaths >= 2

    @property
    def key(self) -> bytes:
        """A hash of what is asked, whatever its number."""
        return hashlib.sha256(ask_line(replace(self.ask, id=0))).digest()


class Refused:
    """The hashes of requests that took a child down while they were asked alone; the oldest are forgotten."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def add(self, key: bytes) -> None:
        """Remember a request."""
        self._keys[key] = None
        while len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)
