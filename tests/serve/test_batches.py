"""Tests files and batches with OpenAI's own client: complete, cancelled, damaged, and continued after a restart."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.serve.batch_runner import BatchRunner, read_requests
from ecellm_lite.serve.keys import Key, Keys
from ecellm_lite.serve.stored_files import StoredFiles
from tests.serve.serving import PATIENCE, Server, serving, until
from tests.support.gated import Gated

openai = pytest.importorskip("openai", reason="OpenAI's client comes with the extra 'demo'")

TASK = "/v1/tasks/sentiment_analysis"


def lines(bodies: Sequence[Any], url: str = TASK) -> bytes:
    requests = [{"custom_id": f"r{n}", "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


def rows(count: int) -> list[Any]:
    return [{"row": {"review": f"row {number}"}} for number in range(count)]


def open_client(server: Server, key: str = "placeholder") -> Any:
    return openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


def begin(client: Any, data: bytes, endpoint: str = TASK) -> Any:
    file = client.files.create(file=("requests.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"})


def ended(client: Any, batch: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while batch.status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    return batch


def content(client: Any, id_: str | None) -> dict[str, Any]:
    text = client.files.content(id_).text if id_ else ""
    return {response["custom_id"]: response["response"] for response in map(json.loads, text.splitlines())}


def test_a_batch_is_answered_with_errors_in_a_file_of_their_own(server: Server) -> None:
    with open_client(server) as client:
        batch = ended(client, begin(client, lines([*rows(100), {"row": {}}])))
        assert (batch.status, batch.metadata) == ("completed", {"a": "b"})
        assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
            101,
            100,
            1,
        )
        output, errors = content(client, batch.output_file_id), content(client, batch.error_file_id)
        assert output.keys() == {f"r{number}" for number in range(100)}
        assert (errors["r100"]["status_code"], errors["r100"]["body"]["error"]["param"]) == (422, "row.review")
        direct = server.post(TASK, rows(8)[7]).json
        assert output["r7"]["body"]["probabilities"] == direct["probabilities"]
        assert batch.id in [one.id for one in client.batches.list()]
        assert batch.output_file_id in [one.id for one in client.files.list()]
        client.files.delete(batch.output_file_id)
        with pytest.raises(openai.NotFoundError):
            client.files.content(batch.output_file_id)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/decisions", {"model": "fake", "input": "x", "questions": [{"type": "predicate", "instructions": "?"}]}),
        ("/v1/systemone", {"model": "fake", "state": "x", "questions": {"a": {"type": "noul"}}}),
        ("/v1/chat/completions", {"model": "fake", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}),
        ("/v1/completions", {"model": "fake", "prompt": "x", "max_tokens": 4}),
    ],
)
def test_requests_of_every_endpoint_are_run(server: Server, endpoint: str, body: Any) -> None:
    with open_client(server) as client:
        batch = ended(client, begin(client, lines([body, {}], endpoint), endpoint))
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)


def test_a_batch_survives_a_restart(tmp_path: Path) -> None:
    backend = Gated()
    with serving(Runtime.over(backend), folder=tmp_path) as server, open_client(server) as client:
        batch = begin(client, lines(rows(60)))
        until(lambda: server.service.admission.waiting > 0)
        backend.gate.set()
        until(lambda: client.batches.retrieve(batch.id).status != "validating")
    [document] = (tmp_path / "batches").glob("batch_*.json")
    assert json.loads(document.read_text("utf-8"))["status"] in ("in_progress", "completed")
    journal = tmp_path / "batches" / f"{batch.id}.journal"
    if journal.exists():
        with journal.open("ab") as file:
            file.write(b'{"custom_id": "r59", "resp')  # a torn line
    with serving(folder=tmp_path) as server, open_client(server) as client:
        batch = ended(client, client.batches.retrieve(batch.id))
        assert batch.request_counts.completed == 60
        assert content(client, batch.output_file_id).keys() == {f"r{number}" for number in range(60)}


def test_a_cancelled_batch_keeps_its_answers() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server, open_client(server) as client:
        batch = begin(client, lines(rows(500)))
        until(lambda: server.service.admission.waiting > 0)
        batch = client.batches.cancel(batch.id)
        assert batch.status == "cancelled"
        until(lambda: server.service.admission.waiting == 0)
        backend.gate.set()
        assert client.batches.retrieve(batch.id).status == "cancelled"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"{\n", "invalid_json"),
        (lines(rows(1)) * 2, "duplicate_custom_id"),
        (lines(rows(1), "/v1/decisions"), "mismatched_url"),
        (b'{"custom_id": 1, "method": "POST", "url": "%s", "body": {}}\n' % TASK.encode(), "missing_custom_id"),
        (b"[1]\n", "invalid_request"),
    ],
)
def test_an_invalid_file_fails_before_anything_is_run(server: Server, data: bytes, code: str) -> None:
    with open_client(server) as client:
        batch = ended(client, begin(client, data))
        assert (batch.status, batch.errors.data[0].code) == ("failed", code)


def test_too_many_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.serve.batch_runner.MOST_LINES", 3)
    (tmp_path / "x").write_bytes(lines(rows(4)))
    assert read_requests(tmp_path / "x", TASK)[1][0]["code"] == "too_many_requests"


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", [(BatchRunner, "_finished"), (BatchRunner, "_counted"), (StoredFiles, "adding")])
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
        assert (batch.status, batch.errors.data[0].code) == ("failed", "unreadable_file")


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


def test_files_and_batches_are_visible_only_to_their_key() -> None:
    keys = Keys([Key.of("one", "k" * 20), Key.of("two", "l" * 20)])
    with serving(keys=keys) as server, open_client(server, "k" * 20) as one, open_client(server, "l" * 20) as two:
        batch = ended(one, begin(one, lines(rows(2))))
        assert batch.status == "completed"
        assert [*two.files.list()] == [*two.batches.list()] == []
        for call in (two.files.retrieve, two.files.content, two.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(batch.input_file_id)
        with pytest.raises(openai.NotFoundError):
            two.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            two.batches.create(input_file_id=batch.input_file_id, endpoint=TASK, completion_window="24h")
        assert {line["key"] for line in server.log if line["route"] == "/v1/tasks/{task}"} == {"one"}


def test_an_invalid_upload_is_refused(server: Server) -> None:
    with open_client(server) as client:
        with pytest.raises(openai.UnprocessableEntityError):
            client.files.create(file=("x.jsonl", b"{}"), purpose="fine-tune")
        with pytest.raises(openai.UnprocessableEntityError):
            begin(client, b"", "/v1/embeddings")
        for id_ in ("../../etc/passwd", "file-0", "file-" + "0" * 24):
            with pytest.raises(openai.NotFoundError):
                client.batches.create(input_file_id=id_, endpoint=TASK, completion_window="24h")
    assert server.post("/v1/files", {"file": "x"}).status == 415
    assert server.ask("POST", "/v1/files", b"--x", {"Content-Type": "multipart/form-data; boundary=x"}).status in (
        400,
        422,
    )


def test_a_second_server_of_a_user_runs_no_batches(tmp_path: Path) -> None:
    with (
        serving(folder=tmp_path),
        serving(folder=tmp_path) as second,
        open_client(second) as client,
        pytest.raises(openai.InternalServerError),
    ):
        begin(client, lines(rows(1)))
