"""Requests to a child process, and what happens to them when the child dies."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ecellm_lite.answerer import complete
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
class PendingRequest:
    """A request, its future answer, and how many children died while they were answering it.

    `line`: the request as it is sent.
    `text`: the part of the answer's text that has arrived.
    """

    ask: Ask
    line: bytes
    failed: Callable[[EcellmError], Answer]
    future: Future[Answer]
    listener: Listener | None = None
    text: str = ""
    deaths: int = 0

    @classmethod
    def of(cls, ask: Ask, failed: Callable[[EcellmError], Answer], listener: Listener | None = None) -> PendingRequest:
        """Return a request to send. Raises InputError if the row is not JSON, or is too long for the protocol.

        `failed` makes an answer from an error. It is called if the request fails.
        """
        try:
            line = ask_line(ask)
            read_message(line)
        except ProtocolError as error:
            raise InputError(error.message.replace("The line", "The row", 1), step=error.step) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"The row is not JSON ({error})", step="give texts, numbers, lists and objects") from None
        return cls(ask, line, failed, Future(), listener)

    def extend_text(self, start: int, part: str) -> None:
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
        """Whether the request has the priority `urgent`, so that it is sent before ordinary requests."""
        return self.ask.options.get("priority") == "urgent"

    @property
    def suspect(self) -> bool:
        """Whether the request must be sent alone, because two child processes died while they worked on it."""
        return self.deaths >= 2

    @property
    def key(self) -> bytes:
        """The sha256 of the request with its id set to 0. Equal requests have equal keys."""
        return hashlib.sha256(ask_line(replace(self.ask, id=0))).digest()

    def settle(self, answer: Answer | None = None, error: EcellmError | None = None) -> None:
        """Set the future's answer or error. Call this exactly once, even if the future was cancelled."""
        complete(self.future, answer or error or CrashError("The engine's process gave no answer."))

    def refuse(self) -> None:
        """Answer the request with an error, because three child processes died while they worked on it."""
        error = CrashError(
            "The engine's process died three times while it worked on this request",
            step="leave the row out, and report it with its task",
        )
        self.settle(self.failed(error))


class RequestQueue:
    """The requests of a ChildRuntime: those sent to the child, those that wait, and the hashes of refused requests.

    If two children died while they worked on the same request, this request is a suspect. A suspect is sent when the
    child has no other request. If this child dies too, the suspect is taken to be the cause.

    An urgent request is sent at once, even if the child already has many requests. The engine starts urgent requests
    before requests that are not urgent. But while there is a suspect, no other request is sent.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, PendingRequest] = OrderedDict()
        self._urgent: OrderedDict[int, PendingRequest] = OrderedDict()
        self._suspects: OrderedDict[int, PendingRequest] = OrderedDict()
        self._sent: dict[int, PendingRequest] = {}
        self._refused: OrderedDict[bytes, None] = OrderedDict()

    def __bool__(self) -> bool:
        return any(self._places())

    def add(self, request: PendingRequest) -> None:
        """Queue a request."""
        self._place(request)[request.number] = request

    def to_send(self) -> Iterator[PendingRequest]:
        """Yield the requests to send now, and mark each as sent."""
        if len(self._sent) == 1 and next(iter(self._sent.values())).suspect:
            return  # the child must not have another request beside it
        queues = ((self._suspects, 1),) if self._suspects else ((self._urgent, sys.maxsize), (self._waiting, MOST_SENT))
        for queue, most in queues:
            while queue and len(self._sent) < most:
                number, request = queue.popitem(last=False)
                self._sent[number] = request
                yield request

    def sent(self, number: int) -> PendingRequest | None:
        """Return the request with this number, or None if the child does not have it."""
        return self._sent.get(number)

    def is_sent(self, number: int) -> bool:
        """Return whether the request with this number was sent to the child and has no answer yet."""
        return number in self._sent

    def take(self, number: int) -> PendingRequest | None:
        """Remove and return the request with this number, or return None if there is none."""
        for place in self._places():
            if number in place:
                return place.pop(number)
        return None

    def take_all(self) -> list[PendingRequest]:
        """Remove and return every request."""
        requests = [request for place in self._places() for request in place.values()]
        for place in self._places():
            place.clear()
        return requests

    def child_died(self) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """Put the dead child's requests back at the front of their queues, so that the next child gets them.

        Return two lists of requests that are not put back. The first has the cancelled requests. The second has the
        request that is taken to have killed the child: two earlier children had died while they worked on it, and this
        child had no other request. From now on, identical requests are refused.
        """
        lost, cancelled = [], []
        for number, request in reversed(self._sent.items()):
            if request.future.cancelled():
                cancelled.append(request)
            elif request.suspect:  # it was sent alone
                self._refuse(request.key)
                lost.append(request)
            else:
                request.deaths += 1
                place = self._place(request)
                place[number] = request
                place.move_to_end(number, last=False)
        self._sent.clear()
        return cancelled, lost

    def refuses(self, request: PendingRequest) -> bool:
        """Return whether this request must be refused, because an identical request was refused before.

        That request was refused because three children died while they worked on it. The third had no other request.
        """
        return bool(self._refused) and request.key in self._refused

    def _place(self, request: PendingRequest) -> OrderedDict[int, PendingRequest]:
        if request.suspect:
            return self._suspects
        return self._urgent if request.urgent else self._waiting

    def _places(self) -> tuple[dict[int, PendingRequest], ...]:
        return self._sent, self._suspects, self._urgent, self._waiting

    def _refuse(self, key: bytes) -> None:
        self._refused[key] = None
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
