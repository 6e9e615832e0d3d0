"""`create_app`: the application that serves indexes. It is plain ASGI; `thresher.serve.run` runs it with uvicorn."""

from __future__ import annotations

import asyncio
import logging
import pkgutil
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from thresher._version import __version__
from thresher.checks import path_of
from thresher.errors import ConfigError, ShardError, ThresherError, require
from thresher.pipeline.shared import watching_batches
from thresher.serve.settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI

    from thresher.distributed.door import Reaching
    from thresher.serve.hosted import Hosted
    from thresher.serve.services import Services
    from thresher.serve.shadowing import ShadowPlan

_log = logging.getLogger(__name__)
EXPOSED = ("retry-after", "x-request-id")
"""Headers that pages of other origins may read."""
_ROUTELESS = {
    404: "there is no such route; GET /openapi.json lists those there are",
    405: "this route is asked with another method; GET /openapi.json lists them",
}
"""What is said of requests that no route takes; a route's own errors are `RefusedError`s."""


def create_app(
    indexes: Mapping[str, str | Path],
    settings: ServeSettings | None = None,
    *,
    device: str = "auto",
    cache: Path | None = None,
    shadows: Mapping[str, ShadowPlan] | None = None,
    reaching: Reaching | None = None,
) -> FastAPI:
    """The application over indexes that are opened here and kept open.

    Args:
        indexes: directory by name, or the file that lists the shards of an index (`thresher split`); the first is the
            one that requests mean which name none.
        settings: limits, keys.
        device: for models: `auto` (an accelerator if there is one), or a torch device.
        cache: a folder that keeps what stages cost between processes.
        shadows: unpruned indexes that a share of the requests is also asked of, by the name of the pruned one.
        reaching: how the shards are reached that a file lists.

    Raises:
        ConfigError: no index is given, or there is none of a name in `shadows`; or an index in shards is to be
            compared, or to be a shard itself.
        ShardError: a shard does not answer, or the shards do not belong together.
        ArtifactError: a directory is not an index, or the state of a shadow test is in use or damaged.
        MissingExtraError: the extra `serve` is not installed.
    """
    for module in ("fastapi", "prometheus_client"):
        require(module, extra="serve", purpose="thresher serve")
    from thresher.serve.hosted import Hosted
    from thresher.serve.metrics import Metrics
    from thresher.serve.services import Services
    from thresher.serve.shadowing import ShadowCollector, Shadowing
    from thresher.serve.work import Work

    if not (isinstance(indexes, Mapping) and (shadows is None or isinstance(shadows, Mapping))):
        raise ConfigError("indexes and shadows are mappings from the name of an index")
    if not indexes:
        raise ConfigError("give at least one index to serve")
    settings = settings or ServeSettings()
    metrics = Metrics()
    work = Work(settings.threads, settings.queue, metrics, settings.deadline_ms)
    hosted = {
        name: Hosted(name, path_of(path), metrics, device=device, cache=cache, reaching=reaching)
        for name, path in indexes.items()
    }
    for name, plan in (shadows or {}).items():
        if name not in hosted:
            raise ConfigError(f"there is no index {name!r} to compare; there are {', '.join(hosted)}")
        hosted[name].shadow = shadow = Shadowing(hosted[name], plan, work, device=device, cache=cache)
        shadow.check(settings.keys)
    compared = {name: one.shadow for name, one in hosted.items() if one.shadow is not None}
    if compared:
        metrics.registry.register(ShadowCollector(compared))
    return _application(Services(hosted, settings, work, metrics))


def _application(services: Services) -> FastAPI:
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware

    from thresher.serve import routes
    from thresher.serve.dialects.described import describe_errors
    from thresher.serve.front import Front
    from thresher.serve.limits import Limits
    from thresher.serve.served import MISSING

    app = FastAPI(
        title="thresher", version=__version__, docs_url=None, redoc_url=None, lifespan=lambda _: _running(services),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # they hold queries; see metrics.py
    )  # fmt: skip
    app.state.services = services
    given = app.openapi
    app.openapi = lambda: app.openapi_schema or describe_errors(given())
    for module in sorted(one.name for one in pkgutil.iter_modules(routes.__path__)):
        app.include_router(import_module(f"{routes.__name__}.{module}").router(services))
    app.add_middleware(Limits, settings=services.settings)
    app.add_middleware(Front, services=services)
    if services.settings.cors:  # around Front, so that a page may read errors too
        app.add_middleware(
            CORSMiddleware, allow_origins=list(services.settings.cors), allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"], expose_headers=[*EXPOSED, MISSING.lower()],
        )  # fmt: skip
    for kind in (ThresherError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _raised)
    return app


async def _raised(_: object, error: Exception) -> None:
    """Hand an error to `Front`, which answers all of them."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    from thresher.serve.refusals import RefusedError

    if isinstance(error, RequestValidationError):
        raise RefusedError("; ".join(_problem(one) for one in error.errors()[:5]), 422) from None
    if isinstance(error, HTTPException):
        allowed = sorted({*(error.headers or {}).get("Allow", "").split(", ")} - {"", "HEAD"})
        allow = ", ".join(["GET", "HEAD", *allowed[1:]] if allowed[:1] == ["GET"] else allowed)
        message = _ROUTELESS.get(error.status_code, str(error.detail))
        raise RefusedError(message, error.status_code, allow=allow) from None
    raise error


def _problem(error: Mapping[str, object]) -> str:
    """What is wrong with a part of a request, without its value."""
    place = error["loc"]
    if error["type"] == "json_invalid" and isinstance(place, tuple):
        details = error.get("ctx")
        reason = details["error"] if isinstance(details, dict) else error["msg"]
        return f"the request is not JSON at character {place[-1]}: {reason}"
    if place == ("body",) and error["type"] == "missing":
        return "the request has no body; send a JSON object"
    names = [str(part) for part in place if part != "body" and str(part)[:1] != "@"] if isinstance(place, tuple) else []
    return f"{'.'.join(names)}: {error['msg']}" if names else str(error["msg"])


@asynccontextmanager
async def _running(services: Services) -> AsyncIterator[None]:
    """While the application runs: warm up, then follow new commits."""
    following = [asyncio.create_task(_follow(services, hosted)) for hosted in services.hosts()]
    tasks = [asyncio.create_task(_warm_up(services)), *following]
    try:
        with watching_batches(services.metrics.batch):
            yield
    finally:
        for task in tasks:
            task.cancel()
        services.work.close()
        for hosted in services.hosted.values():
            if hosted.shadow is not None:
                hosted.shadow.close()


async def _warm_up(services: Services) -> None:
    for hosted in services.hosts():
        try:
            while not await _warmed_up(hosted):
                await asyncio.sleep(services.settings.refresh_seconds)
        except Exception:
            _log.exception("index %s could not answer a query; the server does not become ready", hosted.name)
            return
    await asyncio.to_thread(services.when_ready)
    services.ready = True
    _log.info("ready")


async def _warmed_up(hosted: Hosted) -> bool:
    """Whether an index has answered a query; one of which a shard does not answer is to be tried again."""
    try:
        await asyncio.to_thread(hosted.warm_up)
    except ShardError as err:
        _log.warning("index %s is not ready: %s", hosted.name, err)
        return False
    return True


async def _follow(services: Services, hosted: Hosted) -> None:
    """Take up new commits. `Hosted` logs what is wrong with one, and waits before it tries again."""
    while True:
        await asyncio.sleep(services.settings.refresh_seconds)
        with suppress(Exception):
            await asyncio.to_thread(hosted.refresh)
        with suppress(Exception):
            await asyncio.to_thread(hosted.note_certificate)
