"""A host program: starts a pipe, sends lines, and reads the messages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[2]
FAKE_PIPE = [sys.executable, "-m", "tests.pipe.fake_pipe"]
PATIENCE = 60
SCHEMA = json.loads((ROOT / "ecellm_lite" / "pipe" / "protocol.schema.json").read_text("utf-8"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


MESSAGE, REQUEST = validator("message"), validator("request")


def start(command: list[str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command or FAKE_PIPE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


def converse(lines: Iterable[bytes | dict[str, Any]], command: list[str] | None = None) -> list[dict[str, Any]]:
    """Send lines and close the input. Return the messages that follow `ready`.

    Fails if the exit code of the pipe is not 0.
    """
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    with start(command) as process:
        output, errors = process.communicate(data, timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()
    messages: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    for message in messages if len(messages) < 1000 else messages[:50]:
        MESSAGE.validate(message)
    assert messages[0]["type"] == "ready"
    return messages[1:]
