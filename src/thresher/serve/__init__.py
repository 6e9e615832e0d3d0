"""`thresher serve`: indexes over HTTP, in the dialects of several rerank, embedding and retrieval services.

    from thresher.serve import ServeSettings, create_app

    app = create_app({"docs": "my-index"}, ServeSettings())     # any ASGI server runs it; `thresher serve` does

Routes live in `thresher.serve.routes`, one module a subject. Each gets `Services`: the indexes as the caller may see
them, and `Work`, which runs calls of the library in threads behind a bounded queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.serve.app import create_app
    from thresher.serve.settings import ServeSettings

_HOMES = {"ServeSettings": "settings", "create_app": "app"}

__all__ = ["ServeSettings", "create_app"]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
