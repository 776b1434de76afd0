"""Tests that no answer of a batch is lost by a full disk, a cancel, a kill, or a second server on the same folder."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.errors import ModelError
from ecellm_lite.serve.batch import Batch, BatchStore
from ecellm_lite.serve.batch_runner import BatchRunner
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.log import log
from ecellm_lite.serve.stored_files import StoredFiles
from tests.serve.batch_clients import TASK, begin, content, ended, lines, open_client, rows
from tests.serve.serving import PATIENCE, Server, serving, until
from tests.support.gated import Gated

openai = pytest.importorskip("openai", reason="OpenAI's client comes with the extra 'demo'")


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", [(BatchRunner, "_write"), (BatchRunner, "_answer"), (StoredFiles, "adding")])
def test_a_batch_waits_for_room_on_the_disk(place: tuple[type, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.serve.batch_runner._DISK_SECONDS", 0.05)
    with serving() as server, open_client(server) as client:
        file = client.files.create(file=("requests.jsonl", lines(rows(9))), purpose="batch")
        with monkeypatch.context() as patch:
            patch.setattr(*place, full_disk)
            batch = client.batches.create(input_file_id=file.id, endpoint=TASK, completion_window="24h")
            until(lambda: client.batches.retrieve(batch.id).status in ("in_progress", "finalizing"))
            time.sleep(0.2)
            assert client.batches.retrieve(batch.id).status in ("in_progress", "finalizing")
        batch = ended(client, batch)
        assert batch.status == "completed"
        assert content(client, batch.output_file_id).keys() == {f"r{number}" for number in range(9)}


def test_a_batch_whose_file_is_gone_fails(tmp_path: Path) -> None:
    with serving(folder=tmp_path) as server, open_client(server) as client:
        file = client.files.create(file=("requests.jsonl", lines(rows(9))), purpose="batch")
        (tmp_path / "files" / f"{file.id}.jsonl").unlink()
        batch = ended(client, client.batches.create(input_file_id=file.id, endpoint=TASK, completion_window="24h"))
        assert (batch.status, batch.errors.data[0].code) == ("failed", "cannot_run")


def test_what_cannot_be_stored_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_client(server) as client:
        file = client.files.create(file=("requests.jsonl", lines(rows(1))), purpose="batch")
        with monkeypatch.context() as patch:
            patch.setattr("ecellm_lite.serve.stored_files.replacing", full_disk)
            patch.setattr("ecellm_lite.serve.batch.replacing", full_disk)
            with pytest.raises(openai.InternalServerError) as upload:
                client.files.create(file=("x.jsonl", b"{}"), purpose="batch")
            with pytest.raises(openai.InternalServerError) as batch:
                client.batches.create(input_file_id=file.id, endpoint=TASK, completion_window="24h")
            for caught in (upload, batch):
                assert (caught.value.status_code, caught.value.code) == (507, "disk_full")
        monkeypatch.setattr("ecellm_lite.serve.stored_files.MOST_BYTES", 200)
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=("requests.jsonl", b"x" * 100), purpose="batch")
        assert (refused.value.status_code, refused.value.code) == (413, "storage_full")


def leave(folder: Path, count: int, status: str, age: float = 0.0) -> Batch:
    """Write what a killed server leaves: a batch with 9 requests, and a journal with `count` responses.

    `age`: how old the batch is, in seconds.
    """
    files, store = StoredFiles(folder / "files"), BatchStore(folder / "batches")
    with files.adding(None, "requests.jsonl", "batch") as (file, stored):
        file.write(lines(rows(9)))
    batch = replace(Batch.made(None, TASK, stored[0].id, {}), created_at=int(time.time() - age))
    batch = batch.at(status, total=9, completed=count)
    store.put(batch)
    responses = [{"custom_id": f"r{number}", "response": {"status_code": 200}} for number in range(count)]
    store.journal(batch).write_text("".join(json.dumps(response) + "\n" for response in responses))
    return batch


def test_answers_are_kept_if_the_input_file_is_deleted(tmp_path: Path) -> None:
    batch = leave(tmp_path, 4, "in_progress")
    files = StoredFiles(tmp_path / "files")
    files.delete(files.get(batch.input_file_id, None))
    with serving(folder=tmp_path) as server, open_client(server) as client:
        over = ended(client, client.batches.retrieve(batch.id))
        assert (over.status, over.errors.data[0].code, over.request_counts.completed) == ("failed", "file_not_found", 4)
        assert content(client, over.output_file_id).keys() == {"r0", "r1", "r2", "r3"}
        assert not [*(tmp_path / "batches").glob("*.journal")]


@pytest.mark.parametrize(
    ("status", "count", "age", "expected"),
    [
        ("in_progress", 4, 0, ("completed", 9)),
        ("in_progress", 4, 25 * 3600, ("expired", 4)),
        ("finalizing", 9, 0, ("completed", 9)),
        ("finalizing", 4, 0, ("expired", 4)),
        ("cancelling", 4, 0, ("cancelled", 4)),
    ],
)
def test_a_killed_server_s_batch_ends(
    status: str, count: int, age: float, expected: tuple[str, int], tmp_path: Path
) -> None:
    batch = leave(tmp_path, count, status, age)
    with serving(folder=tmp_path) as server, open_client(server) as client:
        over = ended(client, client.batches.retrieve(batch.id))
        assert (over.status, over.request_counts.completed) == expected
        assert len(content(client, over.output_file_id)) == expected[1]


def test_batches_are_resumed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BatchStore(tmp_path)
    batches = [Batch.made(None, TASK, "file-0", {}) for _ in range(9)]
    batches[5] = batches[5].at("in_progress")
    for batch in batches:
        store.put(batch)
    order: list[str] = []
    monkeypatch.setattr(BatchRunner, "run", lambda _, batch: order.append(batch.id))

    async def app(*_: Any) -> None: ...

    BatchRunner(StoredFiles(tmp_path), store, Keys()).start(app)
    assert order == [batches[5].id, *(batch.id for number, batch in enumerate(batches) if number != 5)]


def test_cancels_while_a_batch_is_finalizing_keep_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, cancel = BatchRunner._write, BatchRunner.cancel
    released = threading.Event()
    cancels: list[str] = []

    def held(*arguments: Any) -> Batch:
        assert released.wait(PATIENCE)
        return write(*arguments)

    async def counted(runner: BatchRunner, batch: Batch) -> Batch:
        cancels.append(batch.id)
        return await cancel(runner, batch)

    monkeypatch.setattr(BatchRunner, "_write", held)
    monkeypatch.setattr(BatchRunner, "cancel", counted)
    batch = leave(tmp_path, 9, "finalizing")
    with serving(folder=tmp_path) as server, open_client(server) as client, ThreadPoolExecutor(2) as threads:
        futures = []
        for _ in range(2):
            futures.append(threads.submit(client.batches.cancel, batch.id))
            until(lambda: len(cancels) == len(futures))
        time.sleep(0.05)  # so that the second reaches the task that the first cancelled
        released.set()
        assert [future.result().status for future in futures] == ["completed", "completed"]
        over = client.batches.retrieve(batch.id)
        assert (over.status, len(content(client, over.output_file_id))) == ("completed", 9)
    assert len([*(tmp_path / "files").glob("*.jsonl")]) == 2


def test_a_cancelled_batch_waits_for_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.serve.batch_runner._DISK_SECONDS", 0.05)
    backend = Gated()
    with serving(Runtime.over(backend), folder=tmp_path) as server, open_client(server) as client:
        batch = begin(client, lines(rows(9)))
        until(lambda: server.service.admission.waiting > 0)
        with monkeypatch.context() as patch:
            patch.setattr(BatchRunner, "_write", full_disk)
            with pytest.raises(openai.InternalServerError) as caught:
                client.batches.cancel(batch.id)
            assert caught.value.code == "disk_full"
        assert ended(client, batch).status == "cancelled"
        backend.gate.set()


def test_two_cancels_at_a_time_keep_the_answers() -> None:
    with serving() as server, open_client(server) as client:
        batch = begin(client, lines(rows(5000)))
        until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0)
        with ThreadPoolExecutor(2) as threads:
            both = [*threads.map(client.batches.cancel, [batch.id] * 2)]
        assert {one.status for one in both} == {"cancelled"}
        assert {one.output_file_id for one in both} == {client.batches.retrieve(batch.id).output_file_id}
        assert len(content(client, both[0].output_file_id)) == both[0].request_counts.completed > 0


def runs_batches(server: Server) -> bool:
    try:
        server.service.runner.check()
    except RefusedError:
        return False
    return True


def test_another_server_leaves_the_batches_alone_and_then_takes_them_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecellm_lite.serve.app._LOCK_SECONDS", 0.05)
    backend = Gated()
    with ExitStack() as first:
        server = first.enter_context(serving(Runtime.over(backend), folder=tmp_path))
        with open_client(server) as client:
            batch = begin(client, lines(rows(9)))
        with serving(folder=tmp_path) as second, open_client(second) as client:
            with pytest.raises(openai.InternalServerError) as new:
                begin(client, lines(rows(1)))
            with pytest.raises(openai.InternalServerError) as cancel:
                client.batches.cancel(batch.id)
            assert new.value.code == cancel.value.code == "batches_elsewhere"
            backend.gate.set()
            first.close()
            until(lambda: runs_batches(second))
            assert ended(client, client.batches.retrieve(batch.id)).request_counts.completed == 9
            assert ended(client, begin(client, lines(rows(1)))).status == "completed"


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    left = [
        tmp_path / "files" / f"file-{'0' * 24}.jsonl",
        tmp_path / "files" / f"file-{'1' * 24}.part",
        tmp_path / "files" / f".file-{'1' * 24}.json.01234567",
        tmp_path / "batches" / f".batch_{'1' * 24}.json.01234567",
        tmp_path / "batches" / f"batch_{'1' * 24}.journal",
        tmp_path / "table-x" / "customers.csv",
    ]
    with serving(folder=tmp_path) as server, open_client(server) as client:
        file = client.files.create(file=("requests.jsonl", lines(rows(1))), purpose="batch")
        for path in left:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
    with serving(folder=tmp_path):
        assert all(path.exists() for path in left)  # another server may be writing them
    for path in (*left, tmp_path / "table-x", tmp_path / "files" / f"{file.id}.jsonl"):
        os.utime(path, (0, 0))
    with serving(folder=tmp_path) as server, open_client(server) as client:
        assert [path for path in left if path.exists()] == []
        assert client.files.content(file.id).content == lines(rows(1))


def test_tasks_are_answered_where_nothing_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any) -> Any:
        raise ModelError("It cannot be written")

    monkeypatch.setattr("ecellm_lite.serve.app.only_writer", locked)
    with serving(folder=tmp_path / "missing") as server:
        assert server.post(TASK, rows(1)[0]).status == 200
        assert not (tmp_path / "missing").exists()
        with open_client(server) as client, pytest.raises(openai.InternalServerError) as caught:
            begin(client, lines(rows(1)))
        assert (caught.value.status_code, caught.value.code) == (503, "batches_elsewhere")


def test_a_log_that_cannot_be_written_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", type("Full", (), {"write": full_disk, "flush": full_disk})())
    log("a line")
