"""`/admin/…`: passages added, deleted and brought in line with a corpus, for admin keys."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thresher.errors import ConfigError, ThresherError
from thresher.records import Passage
from thresher.serve.bodies import Document, Where, check_documents
from thresher.serve.hosted import Hosted
from thresher.serve.refusals import RefusedError, not_found
from thresher.serve.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thresher.build.changes import Change
    from thresher.build.writer import IndexWriter
    from thresher.serve.settings import ServeSettings

Answer = dict[str, object]
_ELSEWHERE = (
    "send this to the server of one of its shards, or change that shard where it is (`thresher add`, `delete`); its "
    "commit is taken up here"
)


class Given(BaseModel):
    """A passage to index.

    Attributes:
        docno: its identifier.
        text: the text.
        title: a title or heading.
        metadata: other fields.
    """

    model_config = ConfigDict(extra="forbid")

    docno: str
    text: str
    title: str = ""
    metadata: dict[str, object] = Field(default={})


class AdminBody(BaseModel):
    """A change.

    Attributes:
        index: the name of the index; the first by default.
    """

    model_config = ConfigDict(extra="forbid")

    index: str | None = None


class AddBody(AdminBody):
    """Passages to add.

    Attributes:
        passages: the passages.
        replace: those whose docno the index has take the place of what it has; without this they are refused.
    """

    passages: list[Given]
    replace: bool = False


class DeleteBody(AdminBody):
    """Passages to delete.

    Attributes:
        docnos: which; those that the index lacks are named in the answer.
        where: all whose metadata match this filter.
    """

    docnos: list[str] | None = None
    where: Where | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> DeleteBody:
        if (self.docnos is None) == (self.where is None):
            raise ValueError("give docnos, or where")
        return self


class SyncBody(AdminBody):
    """What an index shall hold.

    Attributes:
        passages: all passages; by default the corpus that the index's recipe names is read again.
        allow_empty: let no passages at all delete everything.
    """

    passages: list[Given] | None = None
    allow_empty: bool = False


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(prefix="/admin", tags=["admin"], default_response_class=Document)
    changes = {name: Changes(hosted) for name, hosted in services.hosted.items()}

    async def changed(request: Request, body: AdminBody, kind: str, call: Callable[[IndexWriter], Change]) -> Document:
        name = services.admin(request, body.index).name
        return Document(await services.work.run(changes[name].make, kind, call, request=request, deadline_ms=0))

    @routes.post("/add")
    async def add(body: AddBody, request: Request) -> Document:
        """Add passages, and commit."""
        services.require_admin(request)
        passages = read(services.settings, body.passages)
        return await changed(request, body, "add", lambda writer: writer.add(passages, replace=body.replace))

    @routes.post("/delete")
    async def delete(body: DeleteBody, request: Request) -> Document:
        """Delete passages, and commit."""
        services.require_admin(request)
        check_documents(services.settings, "docno", body.docnos or [])
        return await changed(
            request, body, "delete", lambda writer: writer.delete(docnos=body.docnos, where=body.where)
        )  # fmt: skip

    @routes.post("/sync")
    async def sync(body: SyncBody, request: Request) -> Document:
        """Make an index hold what a corpus holds, and commit: what is new, what changed, and no more."""
        services.require_admin(request)
        passages = None if body.passages is None else read(services.settings, body.passages)

        def call(writer: IndexWriter) -> Change:
            source = writer.recipe.corpus.source if passages is None else passages
            if passages is None and not source:
                raise ConfigError("the recipe of the index names no corpus; send all passages, or sync it where its "
                                  "files are, with `thresher sync`")  # fmt: skip
            return writer.sync(source, allow_empty=body.allow_empty)

        return await changed(request, body, "sync", call)

    @routes.post("/shadow/reset")
    async def reset(body: AdminBody, request: Request) -> Document:
        """Start the comparison with the unpruned index anew, and let the pruned one answer again."""
        name = services.admin(request, body.index).name
        shadow = services.hosted[name].shadow
        if shadow is None:
            raise not_found(f"the index {name!r} is not compared with another; start the server with --shadow")
        return Document((await services.work.run(shadow.reset, request=request)).as_json())

    @routes.get("/status")
    async def status(request: Request, index: str | None = None) -> Document:
        """The commit of an index, whether it is being changed, and what the last change through this server did."""
        hosted = services.admin(request, index)
        return Document(await services.work.run(changes[hosted.name].status, request=request))

    return routes


def read(settings: ServeSettings, given: list[Given]) -> list[Passage]:
    """The passages of a request.

    Raises:
        InputError: these are too many, or one is too long or has a docno with white space.
    """
    check_documents(settings, "passage", [f"{one.docno}{one.title}{one.text}" for one in given])
    return [Passage(one.docno, one.text, one.title, one.metadata) for one in given]


class Changes:
    """The changes of one index, one at a time.

    Args:
        hosted: the index.
    """

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted
        self._lock = threading.Lock()
        self._last: Answer | None = None

    def make(self, kind: str, call: Callable[[IndexWriter], Change]) -> Answer:
        """Make one change, commit it, and let requests see it. One that has begun is finished, whoever still waits.

        Raises:
            RefusedError: 409, the index is being changed.
        """
        hosted, started = self._hosted, time.perf_counter()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._alone():
            try:
                with hosted.one_piece(_ELSEWHERE).writer(device=hosted.device) as writer:
                    change = call(writer)
                    report = writer.commit()
                hosted.refresh()
            except (ThresherError, OSError) as err:
                self._last = {"kind": kind, "at": at, "error": str(err)}
                raise
            made: Answer = {"change": change.as_json(), "report": report.as_json()}
            self._last = {"kind": kind, "at": at, "seconds": round(time.perf_counter() - started, 3), **made}
        return {"index": hosted.name, "commit": hosted.index.commit, **made}

    def status(self) -> Answer:
        """What `GET /admin/status` says."""
        index = self._hosted.index
        return {
            "index": self._hosted.name,
            "commit": index.commit,
            "passages": len(index),
            "changing": self._lock.locked(),
            "last": self._last,
        }

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise RefusedError("the index is being changed by another request; ask again later", 409, 1.0)
        try:
            yield
        finally:
            self._lock.release()
