"""`/health`: whether the server runs; `/ready`: whether a model answers; `/metrics`: numbers for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ecellm_lite.serve import metrics
from ecellm_lite.serve.errors import error_body
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.service import Served

router = APIRouter(tags=["health"])


@router.get("/health", summary="The server lives")
async def health() -> dict[str, str]:
    """Report that the server runs, without asking the engine; this needs no API key."""
    return {"status": "ok"}


@router.get("/ready", summary="A model answers", responses={503: {"description": "Not now"}})
async def ready(service: Served) -> Response:
    """Report whether a model answers; the status is 503 while the engine's process is being restarted."""
    if service.ready:
        return JsonResponse({"status": "ready", "model": service.answerer.model.name})
    body = error_body(503, "not_ready", "The engine's process is being started again: ask again in 5 s.")
    return JsonResponse(body, 503, {"Retry-After": "5"})


@router.get("/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse)
async def numbers(service: Served) -> Response:
    """Return counts of requests, rows, tokens and engine restarts, the rows that wait now, times, and coverage."""
    return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)
