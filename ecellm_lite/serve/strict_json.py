"""Reads JSON strictly: NaN and repeated keys are refused. Decimal numbers keep their spelling: 19.50 stays "19.50"."""

from __future__ import annotations

from typing import Any

from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.tasks.written import read_strict_json


def read_strictly(data: bytes) -> Any:
    """Return the value of a JSON text. Raises RefusedError (400) if the text is invalid or nested too deeply."""
    try:
        text = data.decode("utf-8")
        return read_strict_json(text)
    except RecursionError:
        reason = "it is nested too deep"
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except ValueError as error:
        reason = str(error)
    raise RefusedError(400, "invalid_json", f"The body is not JSON ({reason})", step="send one JSON value in UTF-8")
