"""Reads and writes lines on a pipe or socket, in bounded memory."""

from __future__ import annotations

import errno
import select
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from ecellm_lite.pipe.messages import LONGEST_LINE

# How many requests, and how many bytes of them, may be without a written answer.
MOST_MESSAGES = 1 << 14
MOST_BYTES = 64 << 20

_PIECE = 1 << 16  # bytes read at once

# The errors of a write whose reader is gone.
_NO_READER = {errno.EPIPE, errno.ECONNRESET, *((errno.EINVAL,) if sys.platform == "win32" else ())}

Line = Callable[[], bytes]


def read_lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream, without their line ends. Blank lines are skipped.

    `read` returns the next bytes, and `b""` at the end of the stream.

    A line longer than LONGEST_LINE is cut to LONGEST_LINE + 1 bytes. The caller sees from this length that the line is
    too long.
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
    """Writes lines to one reader. Each Output has its own thread, so a slow reader does not delay other readers.

    Call `take_room` when a request arrives, to reserve room in the queue for its answer. Then call `put` with the line
    of the answer. A line is passed as a function that returns the line's bytes. The thread calls this function just
    before it writes the line.

    `write` must write all bytes or raise OSError. After an error, the event `broken` is set, and later lines are
    dropped. `failure` then holds the error (such as a full disk), unless the error is only that the reader is gone.

    `descriptor`: the file descriptor to which `write` writes. `has_reader` polls it.
    """

    def __init__(self, write: Callable[[bytes], object], descriptor: int | None = None) -> None:
        self._write = write
        self._descriptor = descriptor
        self._queue: SimpleQueue[tuple[Line, int] | None] = SimpleQueue()
        self._room = threading.Condition()
        self._messages = self._bytes = 0
        self.broken = threading.Event()
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="ecellm-lite output", daemon=True)
        self._thread.start()

    def has_reader(self) -> bool:
        """Return whether lines can still be written. Finds out if the reader has gone since the last write.

        On Windows, this cannot be found out before the next write fails.
        """
        if self._descriptor is not None and not self.broken.is_set() and hasattr(select, "poll"):
            poll = select.poll()
            # Not POLLHUP: asked for it, macOS also reports a socket whose client only sends no more.
            poll.register(self._descriptor, select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                self.broken.set()
                with self._room:
                    self._room.notify_all()
        return not self.broken.is_set()

    def take_room(self, size: int) -> bool:
        """Wait until the queue has room for the answer to a request of `size` bytes, and reserve this room.

        Return False if the program that reads the answers is gone.
        """
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
        """Queue `line`, the answer to a request. `size`: the size of the request in bytes.

        After the answer is written, the room that `take_room` reserved for the request is free again.
        """
        self._queue.put((line, size))

    def offer(self, line: Line) -> bool:
        """Queue a line and return True. If the reader is too slow or gone, drop the line and return False."""
        with self._room:
            if self._messages >= MOST_MESSAGES or self.broken.is_set():
                return False
            self._messages += 1
        self.put(line, 0)
        return True

    def close(self, seconds: float | None = None) -> bool:
        """Write the queued lines and end the thread. Return False if that takes longer than `seconds`."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while entry := self._queue.get():
            line, size = entry
            if not self.broken.is_set():
                try:
                    self._write(line())
                except OSError as error:
                    if error.errno not in _NO_READER:
                        self.failure = error
                    self.broken.set()
                except BaseException:
                    self.broken.set()  # otherwise `take_room` would wait forever
                    with self._room:
                        self._room.notify_all()
                    raise
            with self._room:
                self._messages -= 1
                self._bytes -= size
                self._room.notify_all()
