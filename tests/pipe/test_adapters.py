"""Tests the pipe's option `adapter`, and what the message `ready` says about the adapters."""

from __future__ import annotations

import json
from typing import Any

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.session import Session
from tests.pipe.host import MESSAGE


def conversation(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send requests to a pipe session with the adapters of two shops, and return the session's messages.

    Each message must fit the JSON schema of the pipe's messages.
    """
    written: list[bytes] = []
    output = Output(written.append)
    adapters = {"shop-a": lambda tokens: scattered([1, *tokens]), "shop-b": lambda tokens: scattered([2, *tokens])}
    with Runtime.over(FakeBackend(adapters=adapters)) as runtime:
        pieces = iter([b"".join(json.dumps(request).encode() + b"\n" for request in requests)])
        Session(runtime, output, runtime.progress).run(read_lines(lambda _: next(pieces, b"")))
        output.close()
    messages: list[dict[str, Any]] = [json.loads(line) for line in b"".join(written).splitlines()]
    for message in messages:
        MESSAGE.validate(message)
    return messages


def test_requests_choose_their_adapter() -> None:
    request = {"task": "sentiment_analysis", "row": {"review": "It works."}}
    names = (None, "shop-a", "shop-b", "shop-a")
    requests = [{**request, "id": number, "options": {"adapter": name}} for number, name in enumerate(names)]
    ready, *messages = conversation([*requests, {**request, "id": 9}])
    assert ready["adapters"] == {"shop-a": "", "shop-b": ""}
    answers = {message["id"]: message["answer"] for message in messages}
    assert [answers[number]["model"]["adapter"] for number in (0, 1, 2)] == [
        None, {"name": "shop-a", "sha256": ""}, {"name": "shop-b", "sha256": ""}
    ]  # fmt: skip
    shares = [answers[number]["probabilities"] for number in (0, 1, 2, 3, 9)]
    assert shares[1] == shares[3]
    assert shares[0] == shares[4]
    assert shares[0] != shares[1] != shares[2] != shares[0]


def test_an_unknown_adapter_fails_only_its_own_request() -> None:
    request = {"task": "sentiment_analysis", "row": {"review": "It works."}}
    wrong: list[Any] = ["shop-x", "", 7, ["shop-a"]]
    requests = [{**request, "id": number, "options": {"adapter": name}} for number, name in enumerate(wrong)]
    messages = {message.get("id"): message for message in conversation([*requests, {**request, "id": 9}])}
    assert [messages[number]["error"]["code"] for number in range(4)] == ["usage", "usage", "protocol", "protocol"]
    assert "shop-a, shop-b" in messages[0]["error"]["message"]
    assert messages[9]["answer"]["error"] is None
