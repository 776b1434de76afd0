"""The web page at `/` and its files. They are read from disk once. The page loads nothing from other sites."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from ecellm_lite.serve.errors import RefusedError

router = APIRouter(include_in_schema=False)

_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
_KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


def _read() -> dict[str, bytes]:
    folder = files("ecellm_lite").joinpath("serve/page")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(_KINDS))}


_FILES = _read()


@router.get("/")
async def index() -> Response:
    """Return the web page."""
    return _response("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """Return one of the web page's files. Raises RefusedError (404) if there is no file of this name."""
    if name not in _FILES:
        raise RefusedError(404, "not_found", "There is no such file")
    return _response(name)


def _response(name: str) -> Response:
    kind = _KINDS[name[name.rindex(".") :]]
    return Response(_FILES[name], headers=_POLICY, media_type=kind)
