"""`Services`: what every route gets. Routes open no index, start no thread and read no key themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.serve.handles import Handles
from thresher.serve.models import Models
from thresher.serve.refusals import forbidden, not_found
from thresher.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from thresher.serve.hosted import Hosted
    from thresher.serve.keys import Caller
    from thresher.serve.metrics import Metrics
    from thresher.serve.settings import ServeSettings
    from thresher.serve.work import Work


class Services:
    """What routes use.

    Attributes:
        hosted: the indexes by name, in the order given; `served` gives what a caller may see of one.
        settings: of the server.
        work: runs calls of the library.
        metrics: counts.
        models: score and encode posted texts.
        handles: of pruned passages.
        ready: models are loaded and kernels compiled.
        when_ready: called once it is, in a thread.
    """

    def __init__(self, hosted: Mapping[str, Hosted], settings: ServeSettings, work: Work, metrics: Metrics) -> None:
        self.hosted, self.settings, self.work, self.metrics = dict(hosted), settings, work, metrics
        self.handles = Handles(settings.max_handle_bytes, settings.handle_seconds)
        self.models = Models(self.hosted)
        self.ready = False
        self.when_ready: Callable[[], object] = bool

    def hosts(self) -> list[Hosted]:
        """The indexes, and the baselines that some are compared with."""
        baselines = [one.shadow.host for one in self.hosted.values() if one.shadow is not None]
        return [*self.hosted.values(), *baselines]

    def caller(self, request: Request) -> Caller:
        """Who sent a request."""
        found: Caller = request.state.caller
        return found

    def names(self, request: Request) -> list[str]:
        """The indexes that are there for a request's caller."""
        allowed = self.caller(request).indexes
        return [name for name in self.hosted if allowed is None or name in allowed]

    def served(self, request: Request, name: str | None = None) -> Served:
        """What the request's caller may see of the index called `name`; of the first where none is named.

        Raises:
            RefusedError: there is no such index for this caller.
        """
        names = self.names(request)
        wanted = name or next(iter(names), "")
        if wanted not in names:
            known = f"there are {', '.join(names)}" if names else "this key may use none"
            raise not_found(f"there is no index {name!r} here; {known}" if name else f"no index: {known}")
        return Served(self.hosted[wanted], self.caller(request))

    def admin(self, request: Request, name: str | None = None) -> Hosted:
        """An index to change, for a request with an admin key.

        Raises:
            RefusedError: the request has none, or there is no such index.
        """
        self.require_admin(request)
        return self.hosted[self.served(request, name).name]

    def require_admin(self, request: Request) -> None:
        """Refuse a request without an admin key.

        Raises:
            RefusedError: it has none.
        """
        if not self.caller(request).admin:
            raise forbidden("this needs an admin key; start the server with --admin-key-env, or admin = true in --keys")

    def require_unrestricted(self, request: Request) -> None:
        """Refuse a request whose key hides something from its caller, for what speaks of all passages.

        Raises:
            RefusedError: it does.
        """
        if self.caller(request).restricted:
            raise forbidden("this speaks of all indexes and requests, and the key may see only a part of them")
