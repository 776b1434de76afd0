"""Where a user's own things are: models, and tasks of their own."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def home() -> Path:
    """Return ECELLM_HOME, else the platform's place for a user's data; the folder may not be there yet."""
    return Path(os.environ.get("ECELLM_HOME") or user_data_path("ecellm-lite", appauthor=False))
