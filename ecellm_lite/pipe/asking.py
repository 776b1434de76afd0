"""Requests to a child process, and what happens to them when the child dies."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.decoding import Listener
from ecellm_lite.errors import CrashError, EcellmError, InputError, ProtocolError
from ecellm_lite.pipe.messages import Ask, ask_line, read_message
from ecellm_lite.pipe.parts import joined

# Requests sent to a child at a time: enough to fill the model's batches, few enough to repeat if the child dies.
MOST_SENT = 256

# How many requests that killed a child are remembered, by their hashes.
REMEMBERED = 1024


@dataclass(slots=True, eq=False)
class Asking:
    """A request, its future answer, and how many children died while they were answering it."""

    ask: Ask
    line: bytes
    failed: Callable[[EcellmError], Answer]
    future: Future[Answer]
    listener: Listener | None = None
    text: str = ""
    deaths: int = 0

    @classmethod
    def of(cls, ask: Ask, failed: Callable[[EcellmError], Answer], listener: Listener | None = None) -> Asking:
        """Return a request to send; raises InputError if the row is not JSON or too long for the protocol.

        `failed` turns an error into the answer of the failed row.
        """
        try:
            line = ask_line(ask)
            read_message(line)
        except ProtocolError as error:
            raise InputError(error.message.replace("The line", "The row", 1), step=error.step) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"The row is not JSON ({error})", step="give texts, numbers, lists and objects") from None
        return cls(ask, line, failed, Future(), listener)

    def hear(self, start: int, part: str) -> None:
        """Add a part of the answer's text, which begins at character `start` of the text.

        If the text has grown, call the listener with the text so far.
        """
        text = joined(self.text, start, part)
        if self.listener and len(text) > len(self.text):
            self.text = text
            self.listener(text)

    @property
    def number(self) -> int:
        """The request's id, which is repeated in its answer."""
        return int(self.ask.id)

    @property
    def urgent(self) -> bool:
        """Whether the request is sent before the requests that are not urgent."""
        return self.ask.options.get("priority") == "urgent"

    @property
    def suspect(self) -> bool:
        """Whether the request must be sent alone, because two children died while they had it."""
        return self.deaths >= 2

    @property
    def key(self) -> bytes:
        """The sha256 of the request with its id set to 0: equal requests have equal keys."""
        return hashlib.sha256(ask_line(replace(self.ask, id=0))).digest()

    def settle(self, answer: Answer | None = None, error: EcellmError | None = None) -> None:
        """Set the future's answer or error; call this exactly once, even if the future was cancelled."""
        if self.future.set_running_or_notify_cancel():
            if answer:
                self.future.set_result(answer)
            else:
                self.future.set_exception(error or CrashError("The engine's process gave no answer."))


class Requests:
    """The requests of a ChildRuntime: those sent to the child, those waiting, and the hashes of refused ones.

    An urgent request is sent at once, even if the child already has many requests. The engine starts it before the
    others. A suspect is a request that may have killed children before. It is sent alone: the child gets no other
    request until it has replied.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, Asking] = OrderedDict()
        self._urgent: OrderedDict[int, Asking] = OrderedDict()
        self._suspects: OrderedDict[int, Asking] = OrderedDict()
        self._sent: dict[int, Asking] = {}
        self._refused: OrderedDict[bytes, None] = OrderedDict()

    def __bool__(self) -> bool:
        return any(self._places())

    def add(self, asking: Asking) -> None:
        """Queue a request."""
        self._place(asking)[asking.number] = asking

    def to_send(self) -> Iterator[Asking]:
        """Yield the requests to send now, and mark each as sent."""
        queues = ((self._suspects, 1),) if self._suspects else ((self._urgent, sys.maxsize), (self._waiting, MOST_SENT))
        for queue, most in queues:
            while queue and len(self._sent) < most:
                number, asking = queue.popitem(last=False)
                self._sent[number] = asking
                yield asking

    def sent(self, number: int) -> Asking | None:
        """Return the request with this number, or None if the child does not have it."""
        return self._sent.get(number)

    def is_sent(self, number: int) -> bool:
        """Return whether the request with this number was sent to the child and has no answer yet."""
        return number in self._sent

    def take(self, number: int) -> Asking | None:
        """Remove and return the request with this number, or return None if there is none."""
        for place in self._places():
            if number in place:
                return place.pop(number)
        return None

    def take_all(self) -> list[Asking]:
        """Remove and return every request."""
        requests = [asking for place in self._places() for asking in place.values()]
        for place in self._places():
            place.clear()
        return requests

    def child_died(self) -> tuple[list[Asking], list[Asking]]:
        """Put the dead child's requests back at the front of their queues, to be sent again.

        Return two lists of dropped requests: cancelled ones, and lost ones. A lost request was sent alone, so it must
        have killed the child. From now on it is refused.
        """
        lost, cancelled = [], []
        for number, asking in reversed(self._sent.items()):
            if asking.future.cancelled():
                cancelled.append(asking)
            elif asking.suspect:  # it was sent alone
                self._refuse(asking.key)
                lost.append(asking)
            else:
                asking.deaths += 1
                place = self._place(asking)
                place[number] = asking
                place.move_to_end(number, last=False)
        self._sent.clear()
        return cancelled, lost

    def refuses(self, asking: Asking) -> bool:
        """Return whether an identical request killed a child that had no other request."""
        return bool(self._refused) and asking.key in self._refused

    def _place(self, asking: Asking) -> OrderedDict[int, Asking]:
        if asking.suspect:
            return self._suspects
        return self._urgent if asking.urgent else self._waiting

    def _places(self) -> tuple[dict[int, Asking], ...]:
        return self._sent, self._suspects, self._urgent, self._waiting

    def _refuse(self, key: bytes) -> None:
        self._refused[key] = None
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
