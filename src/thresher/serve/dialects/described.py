"""The errors of routes in `/openapi.json`: FastAPI describes its own shape there, which is never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher.serve.dialects.faults import plain, shapes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.serve.dialects.faults import Shape

_OWN = ("HTTPValidationError", "ValidationError")
_WRONG = 422
_TYPES = {str: "string", int: "integer"}


def describe_errors(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document in which each route has the errors that it sends, in the shape of its dialect."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _OWN:
        schemas.pop(name, None)
    for path, item in document["paths"].items():
        shapes = shapes_of(path)
        for shape in shapes:
            schemas.setdefault(_name(shape), {"title": _name(shape), **_schema(shape(_WRONG, "")[1])})
        for operation in item.values():
            responses = operation["responses"]
            if responses.pop(str(_WRONG), None) is not None:
                for status in sorted({shape(_WRONG, "")[0] for shape in shapes}):
                    responses[str(status)] = _response("A value of the request is wrong.", shapes)
            responses["default"] = _response("Any other error.", shapes)
    return document


def _response(description: str, shapes: Sequence[Shape]) -> dict[str, Any]:
    found = [{"$ref": f"#/components/schemas/{_name(shape)}"} for shape in shapes]
    schema = found[0] if len(found) == 1 else {"anyOf": found}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _name(shape: Shape) -> str:
    return "Error" if shape is plain else f"{shape.__name__.title()}Error"


def _schema(example: object) -> dict[str, Any]:
    """The schema of a document, from one."""
    if not isinstance(example, dict):
        return {} if example is None else {"type": _TYPES[type(example)]}
    return {
        "type": "object",
        "properties": {name: _schema(value) for name, value in example.items()},
        "required": list(example),
    }
