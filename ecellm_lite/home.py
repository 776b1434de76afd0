"""The folders of a user's own data: models, tasks, installed bundles (see docs/offline.md) and trusted keys."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def home() -> Path:
    """Return ECELLM_HOME, or else the platform's folder for user data. The folder may not exist yet."""
    return Path(os.environ.get("ECELLM_HOME") or user_data_path("ecellm-lite", appauthor=False))


def bundle_home() -> Path:
    """Return the folder of the user's bundles: ECELLM_BUNDLES, or else `home()`.

    The launcher of an installed bundle sets ECELLM_HOME to a folder inside the bundle. It sets ECELLM_BUNDLES too, so
    that this function still returns the folder that holds all bundles.
    """
    return Path(os.environ.get("ECELLM_BUNDLES") or home())
