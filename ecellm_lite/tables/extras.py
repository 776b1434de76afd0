"""Imports the optional libraries of the extra `tables` when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ecellm_lite.errors import UsageError


def library(module: str, purpose: str) -> Any:
    """Return an optional module. If it is not installed, raise UsageError with the command that installs it.

    `purpose` is the subject of the error message: "A zstd file" gives "A zstd file needs …".
    """
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"{purpose} needs {module}", step="run `pip install 'ecellm-lite[tables]'`") from None
