"""`GET /v1/models`: the models that can be asked, in OpenAI's form and in TypeSafe's at once."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ecellm_lite.serve.service import Served, Service

router = APIRouter(tags=["models"])

# When a model was made is not known of every file: the day that this project began stands for all.
_RELEASED, _CREATED = "2026-01-01", 1_767_225_600


@router.get("/v1/models", summary="The models there are")
async def models(service: Served) -> dict[str, Any]:
    """Return the models, under `data` as OpenAI's clients read them and under `models` as TypeSafe's do."""
    return {
        "object": "list",
        "data": [_model(name) for name in service.models],
        "models": [
            {"name": name, "description": _description(service), "release_date": _RELEASED} for name in service.models
        ],
    }


@router.get("/v1/models/{model:path}", summary="One model")
async def model_by_name(model: str, service: Served) -> dict[str, Any]:
    """Return a model in OpenAI's form."""
    service.check_model(model)
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "ecellm-lite"}


def _description(service: Service) -> str:
    model = service.answerer.model
    return f"sha256 {model.sha256[:16]}, envelope {service.answerer.envelope.name}"
