"""`OpenIndex`: an index that is open at one commit: how it follows later ones, its views, and what it holds.

`refresh` takes up the last commit (`thresher.search.snapshot`). Views (`restricted`, `pinned`, `with_routing`) share
what is open. `thresher.search.index` adds the calls that answer queries.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn, Protocol, Self

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import is_a, path_of, shown
from thresher.errors import ArtifactVersionError, InputError
from thresher.index.collection import Collection, open_collection
from thresher.index.fields import typed
from thresher.index.filters import Where
from thresher.search.any_index import AnyIndex
from thresher.search.routing import RoutingModel
from thresher.search.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.encode import QueryEncoder
    from thresher.index.commit import Commit
    from thresher.index.filters import Filter
    from thresher.index.layout import Layout
    from thresher.search.results import StoredPassages
    from thresher.vectors.store import VectorStore


class QueryVectors(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        ...


class OpenIndex(AnyIndex):
    """An index that is open at one commit; `Index` says what it is made of."""

    _now: Snapshot

    def __init__(self, collection: Collection, *, follow: bool = False, model: RoutingModel | None = None) -> None:
        if not is_a(collection, Collection):
            raise InputError(f"an Index is made of an open commit; got {shown(collection)}; open one with Index.open")
        if not is_a(follow, bool) or not (model is None or is_a(model, RoutingModel)):
            raise InputError(f"follow must be True or False, and model a RoutingModel; got {follow!r}, {shown(model)}")
        self._take(Snapshot(collection, model=model), follow)

    def _take(self, snapshot: Snapshot, follow: bool) -> None:
        self.path, self.scope, self.follow = snapshot.collection.path, snapshot.scope, follow
        self._lock = threading.Lock()
        self._now = snapshot

    @classmethod
    def _of(cls, snapshot: Snapshot, follow: bool) -> Self:
        made = cls.__new__(cls)
        made._take(snapshot, follow)
        return made

    @classmethod
    @checked_call
    def open(cls, path: str | Path, follow: bool = False) -> Self:
        """Open the index in directory `path` at its last commit.

        Args:
            path: the index.
            follow: take up new commits before each search, which costs a look at one file.

        Raises:
            ArtifactError: there is no index, or a newer thresher wrote it.
            DamagedArtifactError: a file is missing, has the wrong size or cannot be read.
        """
        return cls._of(Snapshot(open_collection(path_of(path))), follow)

    def refresh(self) -> bool:
        """Take up the last commit. Returns whether it is another than before; what is open of both is kept.

        Raises:
            ArtifactError: the index is gone.
            DamagedArtifactError: a file is missing, has the wrong size or cannot be read.
        """
        with self._lock:
            now = self._now
            if now.collection.is_current():
                return False
            collection = open_collection(self.path, earlier=now.collection)
            changed = collection.commit.sha256 != now.collection.commit.sha256
            scope = None if now.scope is None else Where.parse(now.scope)
            self._now = Snapshot(collection, scope=scope, model=now.given_model, earlier=now)
            self.__dict__.pop("recipe", None)
            return changed

    def _current(self) -> Snapshot:
        """What a public call answers from."""
        if self.follow and not self._now.collection.is_current():
            self.refresh()
        return self._now

    def restricted(self, where: Filter) -> Self:
        """A view of the passages that match `where`, now and after `refresh`; no argument of a later call widens it.

        Deleted passages and those that do not match are not found, counted or named, by docno, number, search or
        vectors. Scores are those of the whole index. Duplicates that were folded are not named in a view.

        Args:
            where: a filter, as in `search`; a view of a view must match both.

        Raises:
            InputError: a field does not exist or has another type.
        """
        now = self._current()
        return self._of(
            Snapshot(now.collection, scope=now.narrowed(where), model=now.given_model, earlier=now), self.follow
        )

    def pinned(self) -> Self:
        """A view of this commit, which neither `follow` nor a later `refresh` of this index changes.

        It costs next to nothing: what is open is shared, so that each request of a server can have its own.
        """
        made = self._of(self._current(), follow=False)
        made.__dict__ |= {name: self.__dict__[name] for name in ("dense_encoder", "recipe") if name in self.__dict__}
        return made

    @checked_call
    def with_routing(self, model: RoutingModel | None) -> Self:
        """The same index with another decision on when the second tier is searched; None for the one stored."""
        now = self._current()
        return self._of(Snapshot(now.collection, scope=now.scope, model=model, earlier=now), self.follow)

    def close(self) -> None:
        """Release the files. Searching afterwards is an InputError; rankings that were returned stay readable."""
        for name in ("_now", "dense_encoder", "recipe"):
            self.__dict__.pop(name, None)

    def __reduce__(self) -> tuple[Callable[..., OpenIndex], tuple[object, ...]]:
        """An index is pickled, and copied, by path and commit: that is opened again, and refused where it is gone."""
        now, where = self._now, None if self.scope is None else str(self.scope)
        return _reopened, (type(self), now.stored.without_scope(), where, now.given_model, self.follow)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:  # called for attributes that `close` removed
        if name == "_now" and "path" in self.__dict__:
            raise InputError(f"the index {self.path} is closed; open it again with Index.open")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        """Passages in all tiers, without those that are deleted."""
        return sum(self._current().stored.live)

    def __repr__(self) -> str:
        now = self._current()
        first = sum(live for live, part in zip(now.stored.live, now.parts, strict=True) if part.tier == 1)
        tiers = f", {first:,} of them in the first tier" if any(part.tier == 2 for part in now.parts) else ""
        view = "" if self.scope is None else f" where {self.scope}"
        return f"<Index {str(self.path)!r}: {sum(now.stored.live):,} passages{tiers}{view}>"

    def __contains__(self, docno: object) -> bool:
        """Whether the passage itself is there; one that was folded into another is not, see `representative`."""
        return isinstance(docno, str) and self._current().stored.find(docno) >= 0

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """What the files of each tier of each segment hold.

        Raises:
            InputError: this is a restricted view.
        """
        if self.scope is not None:
            raise InputError("a restricted view does not give the files of the index; open it with Index.open")
        return tuple(part.layout for part in self._current().parts)

    @property
    def commit(self) -> int:
        """The number of the commit it answers from."""
        return self._current().collection.commit.number

    @property
    def committed(self) -> Commit:
        """What the commit it answers from consists of, with its checksum."""
        return self._current().collection.commit

    @property
    def schema(self) -> dict[str, str]:
        """The metadata fields that filters and facets may name, with their types."""
        return typed(self._current().collection.schema)

    @property
    def live(self) -> NDArray[np.bool_]:
        """bool[n] by passage number: the passages that are there, of which `allow` can name some."""
        stored = self._current().stored
        sizes = [part.size for part in stored.parts]
        return np.concatenate(
            [np.ones(size, bool) if mask is None else mask for size, mask in zip(sizes, stored.visible, strict=True)]
        )

    @property
    def tiered(self) -> bool:
        """Whether it has a second tier with passages."""
        return self._current().pair is not None

    @property
    def calibrated(self) -> bool:
        """Whether `tiers="auto"` decides per query if the second tier is searched; see `thresher calibrate tiers`."""
        pair = self._current().pair
        return pair is not None and pair.model is not None

    @property
    def encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms of the first tier, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead.
        """
        return self._current().first.space.encoder

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the index was built with; the default recipe where the builder recorded none.

        Raises:
            ArtifactVersionError: it has keys that this release does not know.
        """
        from pydantic import ValidationError

        from thresher.build.recipe import Recipe

        commit = self._current().collection.commit
        try:
            return Recipe.model_validate(commit.fields.get("recipe") or {})
        except ValidationError as err:
            raise ArtifactVersionError(
                f"{self.path} was built by thresher {commit.version} with a recipe that this release does not read "
                f"({err.errors()[0]['loc']}); build the index again, or pass a recipe"
            ) from err

    @property
    def vectors(self) -> VectorStore | None:
        """The index's dense vectors, opened on first use; None where it was built without."""
        return self._current().stored.vectors

    @cached_property
    def dense_encoder(self) -> QueryVectors:
        """What turns query texts into vectors like the index's, loaded on first use; it may be set.

        Raises:
            InputError: the index has no vectors.
        """
        return self._current().checked_vectors().open_encoder()


def _reopened(
    kind: type[OpenIndex], stored: StoredPassages, where: str | None, model: RoutingModel | None, follow: bool
) -> OpenIndex:
    """What a pickled index becomes."""
    made = kind(stored.collection, follow=follow, model=model)
    return made if where is None else made.restricted(where)
