"""The FastAPI application: its routes, its error responses, and the checks before each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from ecellm_lite.errors import BusyError, EcellmError
from ecellm_lite.models.store_lock import only_writer
from ecellm_lite.serve import (
    batches,
    chat,
    completions,
    decisions,
    files,
    front_page,
    health,
    models,
    systemone,
    tables,
    tasks,
)
from ecellm_lite.serve.document import Application
from ecellm_lite.serve.errors import RefusedError, error_body, error_response, is_disk_full
from ecellm_lite.serve.exchange import Exchanges, Log
from ecellm_lite.serve.form import place_of
from ecellm_lite.serve.guard import Access, Guard
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.log import log
from ecellm_lite.serve.service import Service
from ecellm_lite.version import __version__

_LOCK_SECONDS = 2.0  # between two tries to become the server that runs the batches


def create_app(service: Service, access: Access | None = None, *, log: Log | None = None) -> FastAPI:
    """Return the application.

    `log` is called with the log entry of each request. By default, it prints to standard error.
    """
    access = access or Access()
    app = Application(
        with_keys=bool(service.keys),
        title="ecellm-lite",
        version=__version__,
        summary="eCeLLM on a shop's own server: typed answers with probabilities.",
        # The pages that show the OpenAPI document load scripts from other sites.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        default_response_class=JsonResponse,
    )
    app.state.service = service
    for room in (health, tasks, tables, decisions, systemone, chat, completions, models, files, batches, front_page):
        app.include_router(room.router)
    app.add_exception_handler(EcellmError, _our_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _disk_error)
    # Each middleware wraps those added before it.
    app.add_middleware(Guard, keys=service.keys, access=access)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Api-Key", "X-Request-Id"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    app.add_middleware(Exchanges, metrics=service.metrics, log=log)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    tried = asyncio.Event()
    batches = asyncio.create_task(_run_batches(app, tried))
    try:
        await tried.wait()
        yield
    finally:
        batches.cancel()
        await asyncio.gather(batches, return_exceptions=True)


async def _run_batches(app: FastAPI, tried: asyncio.Event) -> None:
    """Run this user's batches, including those that an earlier server left unfinished.

    Only one of a user's servers runs batches at a time. If another one does, wait until it stops. `tried` is set as
    soon as it is clear whether this server runs the batches or waits.
    """
    service: Service = app.state.service
    while True:
        try:
            with only_writer(service.folder / "lock", "the batches of this user"):
                if not tried.is_set():
                    with suppress(OSError):
                        service.sweep()
                service.runner.start(app)
                tried.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await service.runner.close()
        except BusyError:  # another server of this user runs them
            pass
        except Exception as error:  # noqa: BLE001 - the tasks are answered where no batches can run
            reason = error.message if isinstance(error, EcellmError) else type(error).__name__
            if not tried.is_set():
                log(f"No batches run here: {reason}")
        finally:
            tried.set()
        await asyncio.sleep(_LOCK_SECONDS)


async def _our_error(_: Request, error: Exception) -> Response:
    return error_response(cast("EcellmError", error))


async def _invalid_request(request: Request, error: Exception) -> Response:
    """Return the response (422) to an invalid body.

    The response says where each fault is, but repeats no value from the body.
    """
    faults = cast("RequestValidationError", error).errors()
    first = faults[0]
    place = place_of(first["loc"])
    body: dict[str, Any] = error_body(422, first["type"], _sentence(first, place), place)
    body["detail"] = [{"loc": list(fault["loc"]), "msg": fault["msg"], "type": fault["type"]} for fault in faults[:20]]
    return JsonResponse(body, 422)


def _sentence(fault: Mapping[str, Any], place: str | None) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}." if place else f"The body does not fit: {message}."


async def _http_error(request: Request, error: Exception) -> Response:
    fault = cast("HTTPException", error)
    code = {404: "not_found", 405: "method_not_allowed"}.get(fault.status_code, "http_error")
    body = error_body(fault.status_code, code, f"{fault.detail}.")
    headers = _allowed(request) if fault.status_code == 405 else fault.headers
    return JsonResponse(body, fault.status_code, headers or fault.headers)


async def _disk_error(_: Request, error: Exception) -> Response:
    """Return a response with status 507 if the disk is full or read-only. Raise any other OSError again."""
    fault = cast("OSError", error)
    if not is_disk_full(fault):
        raise fault
    message = f"The server cannot store it ({fault.strerror})"
    return error_response(RefusedError(507, "disk_full", message, step="free some space there"))


def _allowed(request: Request) -> Mapping[str, str] | None:
    """Return the Allow header for a path, or None if the OpenAPI document does not have the path.

    Starlette's own Allow header has only the methods of the path's first route. A path may have several routes.
    """
    route = request.scope.get("route")
    methods = request.app.openapi()["paths"].get(getattr(route, "path_format", ""), {})
    return {"Allow": ", ".join(method.upper() for method in methods)} if methods else None
