"""Tests of files and batches with OpenAI's own client: complete, cancelled, damaged, and continued after a restart."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.serve.batch_requests import read_requests
from ecellm_lite.serve.keys import Key, Keys
from tests.serve.batch_clients import TASK, begin, content, ended, lines, open_client, rows
from tests.serve.serving import Server, serving, until
from tests.support.gated import Gated

openai = pytest.importorskip("openai", reason="OpenAI's client comes with the extra 'demo'")


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
        (lines([{"row": {"review": "x"}, "stream": True}]), "stream"),
        (b'{"custom_id": "a", "body": {"row": %s}}' % (b"[" * 100_000 + b"]" * 100_000), "invalid_json"),
    ],
)
def test_an_invalid_file_fails_before_anything_is_run(server: Server, data: bytes, code: str) -> None:
    with open_client(server) as client:
        batch = ended(client, begin(client, data))
        assert (batch.status, batch.errors.data[0].code) == ("failed", code)


def test_the_numbers_of_a_body_keep_their_spelling(tmp_path: Path) -> None:
    body = '{"task": 1, "row": {"price": 19.50, "ü": [1e2, null, "\\ud83d"]}}'
    (tmp_path / "x").write_text(f'{{"custom_id": "a", "method": "POST", "body": {body}, "url": "{TASK}"}}', "utf-8")
    assert [line.body for line in read_requests(tmp_path / "x", TASK)[0]] == [body.encode()]


@pytest.mark.parametrize(("data", "codes"), [(lines(rows(2)), []), (b"", ["empty_file"])])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, data: bytes, codes: list[str]) -> None:
    (tmp_path / "x").write_bytes(codecs.BOM_UTF8 + data)
    requests, errors = read_requests(tmp_path / "x", TASK)
    assert len(requests) == data.count(b"\n")
    assert [error["code"] for error in errors] == codes


def test_a_request_with_too_many_rows_for_its_key_is_not_sent_again() -> None:
    keys = Keys([Key.of("one", "k" * 20, 10)])
    body = {"rows": [{"review": "x"}] * 11}
    with serving(keys=keys) as server, open_client(server, "k" * 20) as client:
        assert server.post(TASK, body, {"Authorization": f"Bearer {'k' * 20}"}).error["code"] == "key_rows"
        batch = ended(client, begin(client, lines([body, *rows(2)])))
        assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 1)


def test_long_metadata_is_refused(server: Server) -> None:
    with open_client(server) as client:
        file = client.files.create(file=("requests.jsonl", lines(rows(1))), purpose="batch")
        with pytest.raises(openai.UnprocessableEntityError):
            client.batches.create(
                input_file_id=file.id, endpoint=TASK, completion_window="24h", metadata={"a": "x" * 513}
            )


def test_too_many_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.serve.batch_requests.MOST_LINES", 3)
    (tmp_path / "x").write_bytes(lines(rows(4)))
    assert read_requests(tmp_path / "x", TASK)[1][0]["code"] == "too_many_requests"


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
