"""Checks that the extra `server` is installed: the libraries that serving needs."""

from __future__ import annotations

from importlib.util import find_spec

from ecellm_lite.errors import UsageError

_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def check_extras() -> None:
    """Raise UsageError if a library that the server needs is not installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"Serving needs {', '.join(missing)}", step="install 'ecellm-lite[server]'")
