"""How an error is written: by the path of the request, since each dialect has a shape of its own.

`SHAPES` maps a path to a function of a status and a message that gives the status to send (dialects differ in what they
call invalid) and the JSON document. Paths that it lacks get `plain`. A route that several dialects share says which it
was by `speak`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    Shape: TypeAlias = Callable[[int, str], tuple[int, dict[str, object]]]

KINDS = {
    400: "invalid_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timeout", 409: "conflict", 410: "gone",
    411: "length_required", 413: "too_large", 415: "unsupported_media_type", 422: "invalid_request",
    429: "overloaded", 431: "too_large", 501: "not_available", 503: "unavailable",
}  # fmt: skip
"""What `error.type` says of a status."""
_OPENAI = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "invalid_request_error",
    413: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
_OPENAI_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
_TEI = {401: "Unauthorized", 403: "Unauthorized", 404: "NotFound", 429: "Overloaded", 503: "Unhealthy"}


def plain(status: int, message: str) -> tuple[int, dict[str, object]]:
    """Thresher's own shape."""
    return status, {"error": {"type": KINDS.get(status, "internal"), "message": message}}


def knowledge(status: int, message: str) -> tuple[int, dict[str, object]]:
    """The shape of the external knowledge contract (Dify, RAGFlow); errors without a code there have their status.

    Of an unknown key Dify takes note where the status is 403, and accepts the settings where it is 401.
    """
    code = {401: 1002, 403: 1002, 404: 2001}.get(status, status)
    return 403 if status == 401 else status, {"error_code": code, "error_msg": message}


def cohere(status: int, message: str) -> tuple[int, dict[str, object]]:
    """Cohere's: a message."""
    return status, {"message": message}


def openai(status: int, message: str) -> tuple[int, dict[str, object]]:
    """OpenAI's: an object of message, type, parameter and code. What is invalid is 400."""
    status = 400 if status == 422 else status
    kind = _OPENAI.get(status, "invalid_request_error" if status < 500 else "server_error")
    return status, {"error": {"message": message, "type": kind, "param": None, "code": _OPENAI_CODES.get(status)}}


def jina(status: int, message: str) -> tuple[int, dict[str, object]]:
    """Jina's `detail`, with Cohere's `message` and vLLM's `error`: clients of all three post to the same paths."""
    kind = KINDS.get(status, "internal")
    return status, {
        "detail": message,
        "message": message,
        "error": {"message": message, "type": kind, "param": None, "code": status},
    }


def tei(status: int, message: str) -> tuple[int, dict[str, object]]:
    """Text-embeddings-inference's: a text and a kind. What is invalid is 422, an empty batch 400."""
    empty = status == 400 and message.startswith(EMPTY)
    status = 422 if status == 400 and not empty else status
    kind = "Empty" if empty else _TEI.get(status, "Validation" if status < 500 else "Backend")
    return status, {"error": message, "error_type": kind}


EMPTY = "give at least one"
"""How the message of a request without texts begins."""
SHAPES: dict[str, Shape] = {
    "/v2/rerank": cohere,
    "/v1/rerank": jina,
    "/rerank": jina,
    "/score": openai,
    "/v1/score": openai,
    "/v1/embeddings": openai,
    "/v1/models": openai,
    "/embed": tei,
    "/embed_sparse": tei,
    "/retrieval": knowledge,
}
"""Shape by path."""


SPOKEN: dict[str, tuple[Shape, ...]] = {"/v1/rerank": (jina, tei), "/rerank": (jina, tei)}
"""The shapes of paths that are shared, for the description of the routes."""


def shapes_of(path: str) -> tuple[Shape, ...]:
    """The shapes that errors at a path, or below a route of that template, have."""
    return SPOKEN.get(path) or (openai if path.startswith("/v1/models/") else SHAPES.get(path, plain),)


def speak(request: Request, shape: Shape) -> None:
    """Have errors of this request written so, whatever its path."""
    request.state.shape = shape


def written(path: str, status: int, message: str, shape: Shape | None = None) -> tuple[int, dict[str, object]]:
    """The status and the document of an error at this path, in the path's shape unless one is given."""
    return (shape or shapes_of(path)[0])(status, message)
