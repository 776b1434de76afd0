"""Lines in and out of a pipe or socket, in bounded memory, whatever the other side does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from ecellm_lite.pipe.messages import LONGEST_LINE

# What one side may owe the other: requests that were read and whose answers are not written yet.
MOST_MESSAGES = 1 << 14
MOST_BYTES = 64 << 20

_PIECE = 1 << 16  # bytes read at once

Line = Callable[[], bytes]


def read_lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the lines that `read` gives piece by piece until it gives none, less their ends and blank ones.

    Of a line longer than LONGEST_LINE only so much is kept as shows that it is too long.
    """
    line = bytearray()
    while piece := read(_PIECE):
        *ended, rest = piece.split(b"\n")
        for part in ended:
            _extend(line, part)
            if line.strip():
                yield bytes(line)
            line.clear()
        _extend(line, rest)
    if line.strip():
        yield bytes(line)


def _extend(line: bytearray, part: bytes) -> None:
    line += part[: max(0, LONGEST_LINE + 1 - len(line))]


class Output:
    """Writes lines in a thread of its own, so that a reader that is slow stops nobody but its own requests.

    `write` takes all bytes or raises OSError; then `broken` is set, and what comes after is dropped. Lines are given as
    functions, which that thread calls. Whoever puts a request's line takes room for it first.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._queue: SimpleQueue[tuple[Line, int] | None] = SimpleQueue()
        self._room = threading.Condition()
        self._messages = self._bytes = 0
        self.broken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ecellm-lite output", daemon=True)
        self._thread.start()

    def take_room(self, size: int) -> bool:
        """Wait until another request of so many bytes may be taken in; False when nobody reads any more."""
        with self._room:
            self._room.wait_for(
                lambda: (
                    self.broken.is_set()
                    or not self._messages
                    or (self._messages < MOST_MESSAGES and self._bytes + size <= MOST_BYTES)
                )
            )
            self._messages += 1
            self._bytes += size
        return not self.broken.is_set()

    def put(self, line: Line, size: int) -> None:
        """Queue a line, and give back the room of its request, of so many bytes, when it is written."""
        self._queue.put((line, size))

    def close(self, seconds: float | None = None) -> bool:
        """Write what is queued and end; False if that took longer than so many seconds."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while entry := self._queue.get():
            line, size = entry
            if not self.broken.is_set():
                try:
                    self._write(line())
                except OSError:
                    self.broken.set()
                except BaseException:
                    self.broken.set()  # else whoever waits for room would wait for ever
                    with self._room:
                        self._room.notify_all()
                    raise
            with self._room:
                self._messages -= 1
                self._bytes -= size
                self._room.notify_all()
