"""`FaissIndex`: an index file of faiss with docnos beside it, searched as our own dense indexes are.

    guest = FaissIndex.open("vectors.faiss", docnos="docnos.txt", encoder=DenseEncoder.from_name("..."))
    run = guest.search_batch([Query("q1", "who found radium")], k=100)
    answer = Pipeline.open(guest).ask("who found radium")              # with texts=index in `open`

The file is checked before faiss reads it (`thresher.vectors.faiss_files`). Scores are faiss's: float32 inner products,
or for L2 the negative of the squared distance.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown, sound, whole
from thresher.errors import InputError, require
from thresher.files import read_names
from thresher.ranking import Ranking, Run
from thresher.records import Query
from thresher.search.queries import listed, qids_of
from thresher.vectors.faiss_files import FaissFile
from thresher.vectors.retrieve import on_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.texts import PassageSource


class TextEncoder(Protocol):
    """A dense encoder: `thresher.encode.DenseEncoder`."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """float[n, dimensions]."""
        ...


class FaissIndex:
    """An open faiss index. Open one with `FaissIndex.open`; it has what `Pipeline.open` asks of an index.

    Attributes:
        file: what the file holds.
        exact: whether all vectors are compared.
    """

    def __init__(
        self, file: FaissFile, docnos: Sequence[str], encoder: TextEncoder | None, texts: PassageSource | None,
        device: str,
    ) -> None:  # fmt: skip
        self.file, self.exact = file, file.kind == "flat"
        self._docno_of = dict(zip(file.ids.tolist(), file.docnos(docnos), strict=True))
        self._encoder, self._texts = encoder, texts
        faiss = require("faiss", extra="faiss-cpu", purpose="searching a faiss index")
        with self._faults():
            self._index = on_device(faiss, faiss.read_index(str(file.path)), file.kind, device)

    @classmethod
    @checked_call
    def open(
        cls,
        path: str | Path,
        *,
        docnos: Sequence[str] | str | Path,
        encoder: TextEncoder | None = None,
        texts: PassageSource | None = None,
        device: str = "cpu",
    ) -> FaissIndex:
        """Open the faiss index in a file.

        Args:
            path: the file.
            docnos: by id; or a text file with one a line.
            encoder: makes the vectors of texts.
            texts: where rankings find their texts: an `Index`, or anything with `passages(docnos)`.
            device: `cpu`; `cuda`, with faiss-gpu; or `auto`.

        Raises:
            DataNotFoundError: there is no such file.
            InputError: the file is damaged or of a type that is not read, or an id has no docno.
            ConfigError: the device is not available.
            MissingExtraError: faiss is not installed.
        """
        names = read_names(docnos) if isinstance(docnos, str | Path) else docnos
        return cls(FaissFile.open(path), names, encoder, texts, device)

    def __len__(self) -> int:
        return len(self.file)

    def __repr__(self) -> str:
        return f"<FaissIndex: {self.file!r} at {self.file.path}>"

    def search(self, query: str | Query | NDArray[np.floating], k: int = 10) -> Ranking:
        """The k best passages for a query: a text, a `Query`, or a vector, float[dimensions].

        Raises:
            InputError: k is out of range, the vector has another shape, or there is no encoder for a text.
        """
        return self._found(self._vector(query)[None], whole("k", k))[0]

    def search_batch(self, queries: Sequence[str | Query | NDArray[np.floating]], k: int = 10) -> Run:
        """The k best passages for each query.

        Returns:
            rankings by the qid of a `Query`, and by the position (`"0"`, `"1"`, ...) of other queries.

        Raises:
            InputError: as `search`; or two queries have the same qid.
        """
        given = list(listed(queries))  # type: ignore[arg-type]
        qids, count = qids_of(given), whole("k", k)
        if not given:
            return Run({})
        found = self._found(np.stack([self._vector(query) for query in given]), count)
        return Run(dict(zip(qids, found, strict=True)))

    def _vector(self, query: object) -> NDArray[np.float32]:
        text = query.text if isinstance(query, Query) else query
        vector: object = text
        if isinstance(text, str):
            if self._encoder is None:
                raise InputError("a text is searched by its vector; open the index with encoder=, or give a vector")
            vector = self._encoder.encode_queries([sound(text)])[0]
        try:
            with np.errstate(over="ignore"):
                made = np.ascontiguousarray(vector, np.float32)
        except (TypeError, ValueError, OverflowError) as err:
            raise InputError(f"a query is a text, a Query or a vector; got {shown(query)}") from err
        if made.shape != (self.file.dimensions,) or not np.isfinite(made).all():
            raise InputError(f"a query's vector is {self.file.dimensions} finite numbers; got {shown(query)}")
        return np.asarray(made)

    def _found(self, vectors: NDArray[np.float32], k: int) -> list[Ranking]:
        wanted = min(k, len(self))
        if not wanted:
            return [Ranking([], exact=self.exact, passages=self._texts) for _ in vectors]
        with self._faults():
            scores, ids = self._index.search(vectors, wanted)
        return [self._ranking(own, rows) for own, rows in zip(scores, ids, strict=True)]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Say in our words what faiss says of the file."""
        try:
            yield
        except (RuntimeError, MemoryError) as err:
            said = str(err).rsplit("Error: ", 1)[-1]
            raise InputError(f"faiss cannot search it ({said:.300})", str(self.file.path)) from err

    def _ranking(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> Ranking:
        """Best first; ties among what was found by bytewise smaller docno."""
        reached = ids >= 0 if not len(self.file) or self.file.ids[0] >= 0 else ids != -1  # faiss fills up with -1
        values = scores[reached].astype(np.float64)
        if self.file.metric == "l2":
            values = -values
        names = [self._docno_of[number] for number in ids[reached].tolist()]
        order = sorted(range(len(names)), key=lambda place: (-values[place], names[place].encode()))
        docnos = [names[place] for place in order]
        return Ranking(docnos, values[order], exact=self.exact, source="search", passages=self._texts)
