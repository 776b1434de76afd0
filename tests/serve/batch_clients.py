"""Makes batches with OpenAI's own client, and reads their results."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.serve.serving import PATIENCE, Server

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
