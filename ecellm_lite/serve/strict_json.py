"""Reads JSON strictly.

NaN and repeated keys are refused, and fractions keep their spelling (19.50).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.tasks.written import WrittenNumber


def read_strictly(data: bytes) -> Any:
    """Return the value of a JSON text. Raises RefusedError (400) if it is invalid or nested too deeply."""
    try:
        text = data.decode("utf-8")
        return json.loads(text, parse_constant=_no_number, parse_float=WrittenNumber, object_pairs_hook=_once)
    except RecursionError:
        reason = "it is nested too deep"
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except ValueError as error:
        reason = str(error)
    raise RefusedError(400, "invalid_json", f"The body is not JSON ({reason})", step="send one JSON value in UTF-8")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value
