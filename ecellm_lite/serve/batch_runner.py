"""Runs batches one after the other.

Each line of a batch's input file is a request to this server. As soon as a response is complete, the runner writes it
to the batch's journal. If the server is killed, the next server reads the journal, and sends only the requests that
have no complete response in it. The output file lists the responses in the order in which they were ready.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp

from ecellm_lite.serve.batch import Batch, BatchStore
from ecellm_lite.serve.batch_journal import Journal, is_good
from ecellm_lite.serve.batch_requests import Line, batch_error, read_requests
from ecellm_lite.serve.errors import RefusedError, retry_after
from ecellm_lite.serve.inner import ask
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.log import log
from ecellm_lite.serve.stored_files import StoredFiles

AT_ONCE = 64  # requests of a batch in flight at a time
_SAVE = 1.0  # seconds between two saves of a batch's progress
_RETRY_SECONDS = 1.0  # before a request is sent again after the queue was full
_DISK_SECONDS = 30.0  # before a batch is tried again after the disk was full
_FULL, _AWAY = 429, 503


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
        self._finishing = asyncio.Lock()

    def start(self, app: ASGIApp) -> None:
        """Resume the batches that an earlier server left unfinished, in their order. `app` answers their requests."""
        unfinished = [batch for batch in self._store if not batch.ended]
        for batch in sorted(unfinished, key=lambda batch: (batch.status == "validating", batch.created_at, batch.id)):
            self.run(batch)
        self._app = app

    def check(self) -> None:
        """Raise RefusedError (503) if this server runs no batches, for example because another server runs them."""
        if self._app is None:
            message = "This server runs no batches: another server of this user runs them, or its log says why"
            step = "send the request to that server, or try again later"
            raise RefusedError(503, "batches_elsewhere", message, step=step, headers=retry_after(5))

    def run(self, batch: Batch) -> None:
        """Queue a batch. It runs when the batches before it have ended."""
        task = asyncio.create_task(self._run(batch))
        self._tasks[batch.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch.id, None))

    async def cancel(self, batch: Batch) -> Batch:
        """Cancel a batch and return it. Its output file has the responses that were complete by then.

        Raises RefusedError: 409 if the batch has already ended, 503 if this server runs no batches.
        """
        self.check()
        if batch.ended:
            raise RefusedError(409, "batch_over", f"The batch is {batch.status}", step="make another")
        async with self._finishing:
            batch = self._store.get(batch.id, batch.owner)
            if batch.status != "finalizing" and not batch.ended:
                self._store.put(batch.at("cancelling"))
        if task := self._tasks.get(batch.id):
            task.cancel()
            await asyncio.wait([task])
        try:
            return await self._finish(batch, "cancelled")
        except OSError:
            self.run(batch)  # it ends when the disk has room
            raise

    async def close(self) -> None:
        """Stop all batches. The server resumes them when it is started again."""
        self._app = None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, batch: Batch) -> None:
        """Run a batch to its end.

        While the disk is full or cannot be read, try again from time to time. The answers in the journal are kept.
        """
        errors: list[dict[str, Any]] = []
        async with self._turn:
            while True:
                try:
                    batch = self._store.get(batch.id, batch.owner)
                    if batch.ended:  # a cancel came first
                        return
                    await (self._finish(batch, "failed", errors) if errors else self._attempt(batch))
                    return
                except RefusedError:  # the batch's record is gone
                    return
                except Exception as error:  # noqa: BLE001 - no batch may stay unfinished
                    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
                    log(f"Batch {batch.id}: {reason}")
                    may_pass = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
                    if not may_pass and not errors:
                        errors = [batch_error("cannot_run", f"The batch cannot run ({reason})")]
                        continue
                await asyncio.sleep(_DISK_SECONDS)

    async def _attempt(self, batch: Batch) -> None:
        if batch.status == "cancelling":
            await self._finish(batch, "cancelled")
            return
        if batch.status == "finalizing":
            over = batch.completed + batch.failed >= batch.total
        else:
            try:
                path = self._files.path(self._files.get(batch.input_file_id, batch.owner))
                lines, errors = await asyncio.to_thread(read_requests, path, batch.endpoint)
            except RefusedError as error:
                errors, lines = [batch_error(error.reason, error.message)], []
            if errors:
                await self._finish(batch, "failed", errors)
                return
            batch = batch.at("in_progress", total=len(lines)) if batch.status == "validating" else batch
            self._store.put(batch)
            over = await self._answer(batch, lines)
        await self._finish(batch, "completed" if over else "expired")

    async def _answer(self, batch: Batch, lines: list[Line]) -> bool:
        """Send the requests that have no response in the journal, and store the batch as `finalizing`.

        Return False if the batch expires before all are answered.
        """
        journal = Journal(self._store.journal(batch))
        good = await asyncio.to_thread(journal.answered)
        waiting = iter([line for line in lines if line.custom_id not in good])
        await asyncio.to_thread(journal.mend)
        stopped = batch.expires_at <= time.time()
        with journal.open() as file:

            async def work() -> None:
                for line in waiting:
                    if stopped:  # before Python 3.12, wait_for may swallow a cancellation
                        return
                    response = await self._response(batch, line)
                    file.write(json.dumps(response).encode() + b"\n")
                    file.flush()
                    good[line.custom_id] = is_good(response)

            async def save() -> None:
                while True:
                    await asyncio.sleep(_SAVE)
                    self._store.put(_counted(batch, good.values()))

            tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
            saving = asyncio.create_task(save())
            try:
                seconds = max(0.0, batch.expires_at - time.time())
                done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                stopped = True
                for task in (*tasks, saving):
                    task.cancel()
                await asyncio.gather(*tasks, saving, return_exceptions=True)
        self._store.put(_counted(batch, good.values()).at("finalizing"))
        return len(good) >= len(lines)

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

    async def _finish(self, batch: Batch, status: str, errors: Sequence[Mapping[str, Any]] = ()) -> Batch:
        """End a batch, and return it. If it has ended already, return it unchanged.

        Another thread writes the batch's output and error files. If this call is cancelled, it still waits until the
        batch has ended.
        """
        work = asyncio.ensure_future(self._finish_once(batch, status, errors))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                with suppress(asyncio.CancelledError):  # of another cancel
                    await asyncio.wait([work])
            raise

    async def _finish_once(self, batch: Batch, status: str, errors: Sequence[Mapping[str, Any]]) -> Batch:
        async with self._finishing:
            batch = self._store.get(batch.id, batch.owner)
            return batch if batch.ended else await asyncio.to_thread(self._write, batch, status, errors)

    def _write(self, batch: Batch, status: str, errors: Sequence[Mapping[str, Any]]) -> Batch:
        """Write the output and error files, store the batch with its final status, and return it."""
        journal = Journal(self._store.journal(batch))
        batch = _counted(batch, [is_good(response) for _, response in journal])
        files = []
        ids: dict[str, str | None] = {"output": None, "error": None}
        try:
            for name, good, count in (("output", True, batch.completed), ("error", False, batch.failed)):
                if count:
                    filename = f"{batch.id}_{name}.jsonl"
                    with self._files.adding(batch.owner, filename, "batch_output") as (file, stored):
                        file.writelines(line for line, response in journal if is_good(response) is good)
                    files += stored
                    ids[name] = stored[0].id
            batch = batch.at(status, output_file_id=ids["output"], error_file_id=ids["error"], errors=[*errors])
            self._store.put(batch)
        except OSError:
            for stored_file in files:
                self._files.delete(stored_file)
            raise
        journal.path.unlink(missing_ok=True)
        return batch


def _counted(batch: Batch, good: Collection[bool]) -> Batch:
    """Return a copy of the batch with new numbers of completed and failed requests.

    `good`: for each response, whether its status is below 400.
    """
    completed = sum(good)
    return replace(batch, completed=completed, failed=len(good) - completed)
