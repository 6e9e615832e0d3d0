"""`/health`, `/ready`, `/info` and `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from thresher._version import __version__
from thresher.distributed.sharded import ShardedIndex
from thresher.pipeline.text_ranker import MEANING, MIXTURES
from thresher.rerank.calibration import ScoreCalibration
from thresher.serve.metrics import CONTENT_TYPE
from thresher.serve.refusals import unavailable
from thresher.serve.services import Services

if TYPE_CHECKING:
    from thresher.pipeline import Pipeline
    from thresher.serve.served import Served


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["status"])

    @routes.get("/health")
    async def health() -> dict[str, object]:
        """The process answers."""
        return {"status": "ok", "version": __version__}

    @routes.get("/ready")
    async def ready() -> dict[str, object]:
        """Models are loaded and kernels compiled, and the server is not about to stop: send requests."""
        if services.work.draining:
            raise unavailable("the server is about to stop")
        if not services.ready:
            raise unavailable("the server is loading models")
        return {"status": "ready"}

    @routes.get("/info")
    async def info(request: Request) -> dict[str, object]:
        """The indexes, as far as the caller may see them, and the limits of a request."""

        def described() -> list[dict[str, object]]:
            return [about(services, request, name) for name in services.names(request)]

        indexes = await services.work.run(described, request=request)
        limits = {name: getattr(services.settings, name) for name in LIMITS}
        rankers = {name: {"range": [0, 1], "meaning": MEANING} for name in MIXTURES}
        return {"version": __version__, "indexes": indexes, "rankers": rankers, "limits": limits}

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Counts and times for Prometheus."""
        services.require_unrestricted(request)
        return Response(services.metrics.text(), media_type=CONTENT_TYPE)

    return routes


LIMITS = (
    "max_body_bytes", "max_documents", "max_document_characters", "max_query_characters", "max_k", "deadline_ms"
)  # fmt: skip


def probabilities(pipeline: Pipeline) -> dict[str, object] | None:
    """What the `probability` of a passage in an answer says; None where no stage of the index is calibrated."""
    for stage in pipeline.stages:
        known = getattr(stage, "calibration", None)
        if isinstance(known, ScoreCalibration):
            held = known.held_out
            error = {"ece": held.ece, "low": held.low, "high": held.high}
            return {"judge": known.judge, "meaning": known.meaning, "relevant": known.relevant, "held_out": error}
    return None


def about(services: Services, request: Request, name: str) -> dict[str, object]:
    """What `/info` says of one index."""
    served = services.served(request, name)
    index, pipeline = served.index, served.pipeline
    found: dict[str, object] = {
        "name": name,
        "passages": len(index),
        "commit": index.commit,
        "tiers": 2 if index.tiered else 1,
        "fields": dict(index.schema),
        "stages": [stage.name for stage in pipeline.stages],
        "defaults": {name: getattr(pipeline, name) for name in ("k", "max_context_tokens", "deadline_ms")},
    }
    if isinstance(index, ShardedIndex) and not served.caller.restricted:
        found["shards"] = shards_of(served)
    if not served.caller.restricted:
        found["without"] = pipeline.off
        found["probabilities"] = probabilities(pipeline)
        certificate = served.hosted.certificate.now().brief
        if certificate is not None:
            found["certificate"] = certificate
        shadow = services.hosted[name].shadow
        if shadow is not None:
            found["shadow"] = shadow.brief()
        if served.hosted.problem:
            found["problem"] = f"the last commit cannot be opened: {served.hosted.problem}"
    return found


def shards_of(served: Served) -> list[dict[str, object]]:
    """The shards of an index, each with replicas, commit and passages; none of an index in one directory."""
    index, told = served.whole, served.hosted.told
    if not isinstance(index, ShardedIndex):
        return []
    return [
        {"replicas": [told(replica.name) for replica in one.replicas], "commit": commit, "passages": passages}
        for one, commit, passages in zip(index.shards, index.commits, index.sizes, strict=True)
    ]
