"""JSON responses in ASCII, because a text may contain half a surrogate pair, which UTF-8 cannot encode."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


class JsonResponse(JSONResponse):
    """A response whose body is one line of ASCII JSON."""

    def render(self, content: Any) -> bytes:
        """Return the response's body."""
        return json.dumps(content, allow_nan=False).encode("ascii")
