"""`/health`: is the server running? `/ready`: does a model answer? `/metrics`: numbers for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ecellm_lite.serve import metrics
from ecellm_lite.serve.document import replies
from ecellm_lite.serve.errors import error_body
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.replies import Health, Ready
from ecellm_lite.serve.service import Served

router = APIRouter(tags=["health"])


@router.get("/health", summary="Check that the server runs", responses=replies(Health))
async def health() -> dict[str, str]:
    """Report that the server runs. This uses no model and needs no API key."""
    return {"status": "ok"}


@router.get("/ready", summary="Check that a model answers", responses=replies(Ready, 404, 422, 503))
async def ready(service: Served, model: str | None = None) -> Response:
    """Return each model's state. The status is 200 if `model` can answer, and 503 if it cannot.

    Without `model`, the status is 200 if at least one model can answer. A model can answer in the states `ready` and
    `unloaded`. An unloaded model is loaded when the next request comes.
    """
    if model is not None:
        model = (await service.model(model)).name
    states = {name: resident.state for name, resident in service.fleet.residents.items()}
    answering = [name for name, state in states.items() if state in ("ready", "unloaded")]
    if answering if model is None else states.get(model, "unloaded") in ("ready", "unloaded"):
        return JsonResponse({"status": "ready", "model": model or service.fleet.default, "models": states})
    body = error_body(503, "not_ready", "No model answers now: ask again in 5 s.")
    return JsonResponse({**body, "models": states}, 503, {"Retry-After": "5"})


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def numbers(service: Served) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)
