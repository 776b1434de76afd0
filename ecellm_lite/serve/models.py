"""`GET /v1/models`: the models that requests may name, in one response for OpenAI's and TypeSafe's clients."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ecellm_lite.serve.document import replies
from ecellm_lite.serve.replies import ModelList, ModelReply
from ecellm_lite.serve.service import Served, Service

router = APIRouter(tags=["models"])

# Not every file states when its model was made, so every model gets the day on which this project began.
_RELEASED, _CREATED = "2026-01-01", 1_767_225_600


@router.get("/v1/models", summary="List the models", responses=replies(ModelList))
async def models(service: Served) -> dict[str, Any]:
    """Return the models, the default model first.

    The list `data` is for OpenAI's clients, and the list `models` for TypeSafe's.
    """
    names = service.fleet.names
    return {
        "object": "list",
        "data": [_model(name) for name in names],
        "models": [
            {"name": name, "description": _description(service, name), "release_date": _RELEASED} for name in names
        ],
    }


@router.get("/v1/models/{model:path}", summary="Describe a model", responses=replies(ModelReply, 404))
async def model_by_name(model: str, service: Served) -> dict[str, Any]:
    """Return a model in OpenAI's format."""
    await service.model(model)
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "ecellm-lite"}


def _description(service: Service, name: str) -> str:
    resident = service.fleet.residents.get(name) or service.fleet.residents.get(name.rpartition("+")[0])
    if not resident:
        return "in the store"
    source = resident.source
    return f"sha256 {source.model.sha256[:16]}, envelope {source.envelope.name}, {resident.state}"
