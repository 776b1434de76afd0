"""Reads the requests of a batch from its input file: JSON Lines in OpenAI's format."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.strict_json import read_strictly
from ecellm_lite.tasks.written import written_json

MOST_LINES = 50_000
LONGEST_LINE = 4 << 20  # bytes
_LISTED = 20  # errors reported for one file, at most


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch: one line of its input file. `body` is the JSON text of the request's body."""

    custom_id: str
    body: bytes


def read_requests(path: Path, endpoint: str) -> tuple[list[Line], list[dict[str, Any]]]:
    """Return the requests in a batch's input file, and the file's errors.

    If there are errors, the batch must not run.
    """
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    ids: set[str] = set()
    with path.open("rb") as file:
        for number, data in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if number == 1:
                data = data.removeprefix(BOM_UTF8)  # editors of Windows begin a file with it
            if not data.strip():
                continue
            if len(lines) >= MOST_LINES:
                errors.append(batch_error("too_many_requests", f"More than {MOST_LINES:,} requests.", number))
                break
            try:
                line = _read(data, endpoint)
                if line.custom_id in ids:
                    raise RefusedError(422, "duplicate_custom_id", "Two lines have this custom_id", field="custom_id")
            except RefusedError as error:
                errors.append(batch_error(error.reason, str(error), number, error.field))
                if len(errors) >= _LISTED or error.reason == "line_too_long":
                    break
                continue
            ids.add(line.custom_id)
            lines.append(line)
    if not lines and not errors:
        errors.append(batch_error("empty_file", "The file has no request."))
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
    if value["body"].get("stream"):
        raise RefusedError(422, "stream", "A batch cannot stream", step="leave stream out", field="body.stream")
    # Numbers keep their spelling: 19.50 is another text for the model than 19.5. Half a character, such as \ud83d of an
    # emoji, is escaped.
    try:
        return Line(value["custom_id"], written_json(value["body"]).encode(errors="backslashreplace"))
    except RecursionError:
        raise RefusedError(422, "invalid_json", "The body is nested too deep", field="body") from None


def batch_error(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    """Return an error of a batch in OpenAI's format. `line`: the number of the line in the batch's input file."""
    return {"code": code, "message": message, "line": line, "param": param}
