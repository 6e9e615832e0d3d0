"""How an error is written: by the path of the request, since each dialect has a shape of its own.

`SHAPES` maps a path to a function of a status and a message that gives the status to send (dialects differ in what they
call invalid) and the JSON document. Paths that it lacks get `plain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Shape: TypeAlias = Callable[[int, str], tuple[int, dict[str, object]]]

KINDS = {
    400: "invalid_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timeout", 409: "conflict", 410: "gone",
    411: "length_required", 413: "too_large", 415: "unsupported_media_type", 422: "invalid_request",
    429: "overloaded", 431: "too_large", 501: "not_available", 503: "unavailable",
}  # fmt: skip
"""What `error.type` says of a status."""


def plain(status: int, message: str) -> tuple[int, dict[str, object]]:
    """Thresher's own shape."""
    return status, {"error": {"type": KINDS.get(status, "internal"), "message": message}}


def knowledge(status: int, message: str) -> tuple[int, dict[str, object]]:
    """The shape of the external knowledge contract (Dify, RAGFlow); errors without a code there have their status."""
    code = {401: 1002, 403: 1002, 404: 2001}.get(status, status)
    return status, {"error_code": code, "error_msg": message}


SHAPES: dict[str, Shape] = {"/retrieval": knowledge}
"""Shape by path."""


def written(path: str, status: int, message: str) -> tuple[int, dict[str, object]]:
    """The status and the document of an error at this path."""
    return SHAPES.get(path, plain)(status, message)
