"""The OpenAPI document: what FastAPI tells, with summaries, keys and their scopes, and examples."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from armlift.api.models import Context
from armlift.api.samples import ANSWERS, PARAMETERS

SCHEME = "key"
"""The name of the security scheme of API keys."""
_KEYS = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "armlift_ID_SECRET",
    "description": "An API key, as `armlift keys create` makes it.",
}
ScopeOf = Callable[[str, str], str | None]
"""From a method and a path to the scope a key must have; None: open to everybody."""


def describe(app: FastAPI, scope_of: ScopeOf, *, keys: bool) -> None:
    """Let an application tell the document; `keys` says whether keys are asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = FastAPI.openapi(app)
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(operation, ANSWERS[method, path], scope_of(method.upper(), path), keys=keys)
            _close(document)
            if keys:
                document["components"]["securitySchemes"] = {SCHEME: _KEYS}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], answer: Any, scope: str | None, *, keys: bool) -> None:
    """Add to an operation what FastAPI does not know of it."""
    says = operation["description"]
    operation["summary"] = says.split("\n")[0].partition(". ")[0].rstrip(".")
    if keys and scope is not None:
        operation["security"] = [{SCHEME: []}]
        operation["description"] = f"{says}\n\nThe key needs the scope `{scope}`."
    for parameter in operation.get("parameters", ()):
        _exemplify(parameter)
    good = next(status for status in operation["responses"] if status.startswith("2"))
    (content,) = operation["responses"][good]["content"].values()
    content["example"] = answer


def _exemplify(parameter: dict[str, Any]) -> None:
    """Give a parameter its example, and one that is JSON the form of what it holds."""
    example = PARAMETERS[parameter["name"]]
    if isinstance(example, str):
        parameter["example"] = example
    else:
        del parameter["schema"]
        schema = TypeAdapter(Context).json_schema()
        parameter["content"] = {"application/json": {"schema": schema, "example": example}}


def _close(part: Any) -> None:
    """Say of objects whose keys have a form that they have no others: pydantic takes that for granted."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part.setdefault("additionalProperties", False)
        for value in part.values():
            _close(value)
    elif isinstance(part, list):
        for value in part:
            _close(value)
