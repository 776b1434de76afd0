"""The journal of a batch: the responses so far, one JSON object in each line, in the order in which they were ready.

A server that is killed while it writes may leave an incomplete last line. It is ignored, and removed by `mend`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ecellm_lite.models.files import private_opener


class Journal:
    """A batch's journal, in a file that need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        """Yield each complete line and the response in it."""
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        with suppress(ValueError):
                            yield line, json.loads(line)
        except FileNotFoundError:
            return

    def answered(self) -> dict[str, bool]:
        """Return {custom_id: whether the response's status is below 400} for all answered requests."""
        return {response["custom_id"]: is_good(response) for _, response in self}

    def open(self) -> IO[bytes]:
        """Open the journal, to append responses to it. Only the user account that runs the server can read it."""
        return open(self.path, "ab", opener=private_opener)  # Path.open takes no opener

    def mend(self) -> None:
        """Remove an incomplete last line, so that the next response begins a new line."""
        with suppress(FileNotFoundError), self.path.open("rb+") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)


def is_good(response: Mapping[str, Any]) -> bool:
    """Return whether a response in a journal has a status below 400."""
    return bool(response["response"]["status_code"] < 400)
