"""Runs batches one after the other.

Each line of a batch's input file is a request to this server. As soon as a response is complete, the runner writes it
to the batch's journal. If the server is killed, the next server reads the journal, and sends only the requests that
have no complete response in it. The output file lists the responses in the order in which they were ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from ecellm_lite.serve.batch import Batch, BatchStore
from ecellm_lite.serve.errors import RefusedError, is_disk_full
from ecellm_lite.serve.inner import ask
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.stored_files import StoredFiles
from ecellm_lite.serve.strict_json import read_strictly

MOST_LINES = 50_000
AT_ONCE = 64  # requests of a batch in flight at a time
LONGEST_LINE = 4 << 20  # bytes
_SAVE = 1.0  # seconds between two saves of a batch's progress
_RETRY_SECONDS = 1.0  # before a request is sent again after the queue was full
_DISK_SECONDS = 30.0  # before a batch is tried again after the disk was full
_LISTED = 20  # errors reported for one file, at most
_FULL, _AWAY = 429, 503


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch: one line of its input file."""

    custom_id: str
    body: Mapping[str, Any]


class BatchRunner:
    """Runs the batches of one server. Use it only in the event loop's thread.

    `keys`: the server's API keys. A batch's requests use the key of the batch's owner.
    """

    def __init__(self, files: StoredFiles, store: BatchStore, keys: Keys) -> None:
        self._files = files
        self._store = store
        self._keys = keys
        self._app: ASGIApp | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)

    def start(self, app: ASGIApp) -> None:
        """Resume the batches that an earlier server left unfinished. `app` answers their requests."""
        self._app = app
        for batch in self._store:
            if not batch.ended:
                self.run(batch)

    def check(self) -> None:
        """Raise RefusedError (503) if another server runs this user's batches."""
        if self._app is None:
            message = "Another server of this user runs the batches"
            raise RefusedError(503, "batches_elsewhere", message, step="send the request to that server")

    def run(self, batch: Batch) -> None:
        """Queue a batch. It runs when the batches before it have ended."""
        task = asyncio.create_task(self._run(batch))
        self._tasks[batch.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch.id, None))

    async def cancel(self, batch: Batch) -> Batch:
        """Cancel a batch and return it. Its output file has the responses that were complete by then.

        Raises RefusedError (409) if the batch has already ended.
        """
        if batch.ended:
            raise RefusedError(409, "batch_over", f"The batch is {batch.status}", step="make another")
        batch = batch.at("cancelling")
        self._store.put(batch)
        if task := self._tasks.get(batch.id):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return self._finished(self._counted(batch), "cancelled")

    async def close(self) -> None:
        """Stop all batches. The next server resumes them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, batch: Batch) -> None:
        """Run a batch to its end.

        While the disk is full, try again from time to time. The answers in the journal are kept.
        """
        async with self._turn:
            while True:
                try:
                    await self._attempt(batch)
                except OSError as error:
                    print(f"Batch {batch.id}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - the log
                    if not is_disk_full(error):
                        errors = [_error("unreadable_file", f"The batch's files cannot be read ({error.strerror})")]
                        self._store.put(self._store.get(batch.id, batch.owner).at("failed", errors=errors))
                        return
                    await asyncio.sleep(_DISK_SECONDS)
                else:
                    return

    async def _attempt(self, batch: Batch) -> None:
        try:
            batch = self._store.get(batch.id, batch.owner)
            if batch.status == "cancelling":
                self._finished(self._counted(batch), "cancelled")
                return
            path = self._files.path(self._files.get(batch.input_file_id, batch.owner))
            lines, errors = await asyncio.to_thread(read_requests, path, batch.endpoint)
        except RefusedError as error:
            errors, lines = [_error(error.reason, error.message)], []
        if errors:
            self._store.put(batch.at("failed", errors=errors))
            return
        batch = batch.at("in_progress", total=len(lines)) if batch.status == "validating" else batch
        self._store.put(batch)
        over = await self._answer(batch, lines)
        batch = self._counted(batch).at("finalizing")
        self._store.put(batch)
        self._finished(batch, "completed" if over else "expired")

    async def _answer(self, batch: Batch, lines: list[Line]) -> bool:
        """Send the requests that have no response in the journal.

        Return False if the batch expires before all are answered.
        """
        answered = {response["custom_id"] for response in responses(self._store.journal(batch))}
        waiting = iter([line for line in lines if line.custom_id not in answered])
        left = batch.expires_at - time.time()
        mend(self._store.journal(batch))
        with open(self._store.journal(batch), "ab", opener=_private) as journal:  # Path.open takes no opener

            async def work() -> None:
                for line in waiting:
                    response = await self._response(batch, line)
                    journal.write(json.dumps(response).encode() + b"\n")
                    journal.flush()

            async def save() -> None:
                while True:
                    await asyncio.sleep(_SAVE)
                    self._store.put(self._counted(batch))

            tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
            saving = asyncio.create_task(save())
            try:
                done, left_over = await asyncio.wait(tasks, timeout=max(0.0, left))
                for task in done:
                    task.result()
                return not left_over
            finally:
                for task in (*tasks, saving):
                    task.cancel()
                await asyncio.gather(*tasks, saving, return_exceptions=True)

    async def _response(self, batch: Batch, line: Line) -> dict[str, Any]:
        assert self._app
        key = self._keys.named(batch.owner) if batch.owner else None
        while True:
            response = await ask(self._app, batch.endpoint, line.body, key)
            # A model that does not load would keep the batch waiting until it expires.
            failed = response.status == _AWAY and response.body["error"]["code"] == "model_failed"
            if failed or response.status not in (_FULL, _AWAY):
                break
            await asyncio.sleep(_RETRY_SECONDS)
        return {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": line.custom_id,
            "response": {"status_code": response.status, "request_id": response.request_id, "body": response.body},
            "error": None,
        }

    def _counted(self, batch: Batch) -> Batch:
        statuses = [response["response"]["status_code"] for response in responses(self._store.journal(batch))]
        completed = sum(status < 400 for status in statuses)
        return replace(batch, completed=completed, failed=len(statuses) - completed)

    def _finished(self, batch: Batch, status: str) -> Batch:
        """Write the output and error files, store the batch with its final status, and return it."""
        journal = self._store.journal(batch)
        ids: dict[str, str | None] = {"output": None, "error": None}
        for name, good in (("output", True), ("error", False)):
            kept = [response for response in responses(journal) if (response["response"]["status_code"] < 400) is good]
            if kept:
                with self._files.adding(batch.owner, f"{batch.id}_{name}.jsonl", "batch_output") as (file, stored):
                    file.writelines(json.dumps(response).encode() + b"\n" for response in kept)
                ids[name] = stored[0].id
        batch = batch.at(status, output_file_id=ids["output"], error_file_id=ids["error"])
        self._store.put(batch)
        journal.unlink(missing_ok=True)
        return batch


def responses(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the responses in a journal. If the server was killed while it wrote the last line, this line is skipped."""
    try:
        with journal.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    with suppress(ValueError):
                        yield json.loads(line)
    except FileNotFoundError:
        return


def mend(journal: Path) -> None:
    """Remove an incomplete last line from a journal, so that the next response begins a new line."""
    with suppress(FileNotFoundError), journal.open("rb+") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)


def read_requests(path: Path, endpoint: str) -> tuple[list[Line], list[dict[str, Any]]]:
    """Return the requests in a batch's input file, and the file's errors.

    If there are errors, the batch must not run.
    """
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    known: set[str] = set()
    with path.open("rb") as file:
        for number, data in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if not data.strip():
                continue
            if len(lines) >= MOST_LINES:
                errors.append(_error("too_many_requests", f"More than {MOST_LINES:,} requests.", number))
                break
            try:
                line = _read(data, endpoint)
                if line.custom_id in known:
                    raise RefusedError(422, "duplicate_custom_id", "Two lines have this custom_id", field="custom_id")
            except RefusedError as error:
                errors.append(_error(error.reason, str(error), number, error.field))
                if len(errors) >= _LISTED or error.reason == "line_too_long":
                    break
                continue
            known.add(line.custom_id)
            lines.append(line)
    if not lines and not errors:
        errors.append(_error("empty_file", "The file has no request."))
    return lines, errors


def _read(data: bytes, endpoint: str) -> Line:
    if len(data) > LONGEST_LINE:
        raise RefusedError(422, "line_too_long", f"The line has more than {LONGEST_LINE:,} bytes")
    value = read_strictly(data)
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        raise RefusedError(422, "invalid_request", "The line is not a request with a body", field="body")
    if not isinstance(value.get("custom_id"), str):
        raise RefusedError(422, "missing_custom_id", "The line has no custom_id", field="custom_id")
    if value.get("method") != "POST" or value.get("url") != endpoint:
        raise RefusedError(422, "mismatched_url", f"The line is not a POST to {endpoint}", field="url")
    return Line(value["custom_id"], value["body"])


def _error(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "line": line, "param": param}


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
