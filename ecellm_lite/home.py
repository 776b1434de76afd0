"""The folders of a user's own data: models, tasks, installed bundles (see docs/offline.md) and trusted keys."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from ecellm_lite.errors import UsageError


def home() -> Path:
    """Return ECELLM_HOME, or else the platform's folder for user data. The folder may not exist yet.

    Raises UsageError if ECELLM_HOME is not set and the user has no home folder, or if a link on the path leads nowhere.
    """
    try:
        folder = Path(os.environ.get("ECELLM_HOME") or user_data_path("ecellm-lite", appauthor=False))
    except RuntimeError:  # HOME is not set, and the system does not know the user
        message = "There is no folder for models, because this user has no home folder"
        raise UsageError(message, step="set ECELLM_HOME to a folder") from None
    for place in (folder, *folder.parents):
        if os.path.islink(place) and not os.path.exists(place):  # noqa: PTH110, PTH114 - those of Path may raise
            message = f"{place} is a link to {os.readlink(place)}, which cannot be reached"  # noqa: PTH115
            raise UsageError(message, step="mount its disk, or set ECELLM_HOME to another folder")
    return folder


def bundle_home() -> Path:
    """Return the folder of the user's bundles: ECELLM_BUNDLES, or else `home()`.

    The launcher of an installed bundle sets ECELLM_HOME to a folder inside the bundle. It sets ECELLM_BUNDLES too, so
    that this function still returns the folder that holds all bundles.
    """
    return Path(os.environ.get("ECELLM_BUNDLES") or home())
