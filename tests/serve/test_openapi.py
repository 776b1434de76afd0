"""Tests that the OpenAPI document has every route, and that the server answers its example requests."""

from __future__ import annotations

from typing import Any

import jsonschema

from ecellm_lite.serve.keys import Key, Keys
from tests.serve.serving import Server, serving

PAGE = {"/", "/page/{name}"}


def test_every_route_is_documented(server: Server) -> None:
    document = server.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
    expected = {
        "/health",
        "/ready",
        "/metrics",
        "/v1/tasks",
        "/v1/tasks/{task}",
        "/v1/tasks/{task}/prompt",
        "/v1/tables",
        "/v1/decisions",
        "/v1/decisions/prompt",
        "/v1/systemone",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/files",
        "/v1/batches",
    }
    assert expected <= document["paths"].keys()
    assert not PAGE & document["paths"].keys()


def test_examples_fit_their_schemas_and_are_answered(server: Server) -> None:
    document = server.get("/openapi.json").json
    examples = 0
    for path, operations in document["paths"].items():
        body = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        for example in _examples(document, body["schema"]) if body else []:
            _validate(document, example, body["schema"])
            if "model" in example:
                example = {**example, "model": "fake"}
            reply = server.post(path.replace("{task}", "sentiment_analysis"), example)
            assert reply.status == 200, (path, reply.body)
            responses = operations["post"]["responses"]
            _validate(document, reply.json, responses["200"]["content"]["application/json"]["schema"])
            refused = server.post(path.replace("{task}", "sentiment_analysis"), {"x": 1})
            _validate(document, refused.json, responses[str(refused.status)]["content"]["application/json"]["schema"])
            examples += 1
    assert examples >= 5


def test_the_document_says_how_a_key_is_shown() -> None:
    with serving(keys=Keys([Key.of("till", "k" * 20)])) as server:
        document = server.get("/openapi.json", {"X-Api-Key": "k" * 20}).json
    assert {scheme["type"] for scheme in document["components"]["securitySchemes"].values()} == {"apiKey", "http"}
    assert document["security"]
    assert document["paths"]["/health"]["get"]["security"] == []


def _validate(document: Any, value: Any, schema: Any) -> None:
    jsonschema.validate(value, {**schema, "components": document["components"]})


def _examples(document: Any, schema: Any) -> list[Any]:
    if reference := schema.get("$ref"):
        schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    examples: list[Any] = schema.get("examples", [])
    return examples
