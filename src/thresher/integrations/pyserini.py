"""`LuceneIndex`: an index that Anserini or pyserini wrote, searched as our own are.

    with LuceneIndex.open("lucene-index") as guest:
        run = guest.search_batch([Query("q1", "..."), ...], k=100)     # for `evaluate`, `Reranker.rerank`
        answer = Pipeline.open(guest).ask("who discovered radium?")

An impact index (`IndexCollection -impact -pretokenized`) scores by the sum of query weight x impact, as thresher does;
scores are float32 sums, so whole numbers below 2^24 come out exactly. A BM25 index analyses a text as Anserini does.
Equal scores are ordered by docno, bytewise. Java is started on first use (`thresher.integrations.jvm`).
Threads take turns: pyjnius must not be called from two at a time (`thresher.integrations.jvm.BRIDGE`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from thresher.arguments import checked_call
from thresher.checks import one_of, path_of, shown, sound, strings, whole
from thresher.corpus.stream import TEXT_FIELDS
from thresher.errors import ArtifactError, InputError
from thresher.integrations.jvm import BRIDGE, java_errors, start
from thresher.ranking import Ranking, Run
from thresher.records import Passage, Query
from thresher.search.queries import listed, qids_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType, TracebackType

    from thresher.records import SparseBatch

Scoring = Literal["impact", "bm25"]
Weighted: TypeAlias = "Mapping[str, float]"
GuestQuery: TypeAlias = "str | Query | Weighted"
"""A query as text, as a `Query`, or as terms with weights."""

_ID, _CONTENTS, _RAW = "id", "contents", "raw"
"""Fields of the documents that Anserini writes."""


class TermEncoder(Protocol):
    """A sparse encoder: `thresher.encode.SparseEncoder`."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """Term strings by term id."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries."""
        ...


class LuceneIndex:
    """An open Lucene index. Safe to share between threads.

    Open one with `LuceneIndex.open`. It has what `Pipeline.open` asks of an index (`search(query, k)`), and what
    `Ranking.with_passages` asks of a source of texts (`passages(docnos)`).

    Attributes:
        path: its folder.
        scoring: `impact` or `bm25`.
        has_texts: whether it stores texts (`-storeRaw` or `-storeContents`); without, rankings hold docnos alone.
    """

    def __init__(
        self, path: Path, scoring: Scoring, encoder: TermEncoder | Callable[[str], Weighted] | None, lucene: _Lucene
    ) -> None:
        self.path, self.scoring = path, scoring
        self._encoder, self._lucene = encoder, lucene
        self.has_texts = lucene.stores_texts()

    @classmethod
    @checked_call
    def open(
        cls,
        path: str | Path,
        *,
        scoring: Scoring = "impact",
        encoder: TermEncoder | Callable[[str], Weighted] | None = None,
        k1: float = 0.9,
        b: float = 0.4,
        jar: str | Path | None = None,
    ) -> LuceneIndex:
        """Open the Lucene index in a folder.

        Args:
            path: the folder.
            scoring: `impact`, or `bm25` over texts that Anserini analysed (`DefaultEnglishAnalyzer`).
            encoder: for texts over an impact index: a sparse encoder, or a function from a text to weights by term.
            k1: of BM25.
            b: of BM25.
            jar: Anserini's jar; by default that of the installed pyserini.

        Raises:
            MissingExtraError: pyjnius, pyserini's jar or a Java runtime is not installed.
            ArtifactError: there is no Lucene index in the folder.
            ArtifactVersionError: another Lucene wrote it.
            DamagedArtifactError: Lucene cannot read it.
            ConfigError: the Java virtual machine of this process was started without Anserini's jar.
        """
        one_of("scoring", scoring, ("impact", "bm25"))
        folder = path_of(path)
        if not any(folder.glob("segments_*")):
            raise ArtifactError(f"there is no Lucene index at {folder}: no file segments_N is in that folder")
        jnius = start(jar)
        with java_errors(jnius, folder):
            lucene = _Lucene(jnius, folder, None if scoring == "impact" else (k1, b))
            return cls(folder, scoring, encoder, lucene)

    def __len__(self) -> int:
        """How many documents it has."""
        return self._lucene.count()

    def __enter__(self) -> LuceneIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LuceneIndex: {len(self)} documents, {self.scoring}, at {self.path}>"

    def __contains__(self, docno: object) -> bool:
        return isinstance(docno, str) and self._lucene.find(docno) is not None

    def close(self) -> None:
        """Close its files."""
        self._lucene.close()

    def search(self, query: GuestQuery, k: int = 10) -> Ranking:
        """The k best passages for `query`; fewer only where fewer share a term with it.

        Args:
            query: a text, a `Query`, or a mapping from terms to weights. Terms that the index lacks, and weights of 0,
                are ignored.
            k: how many, at least 0.

        Raises:
            InputError: k or a weight is out of range, or a text is given to an impact index without an encoder.
            DamagedArtifactError: Lucene cannot read the index.
        """
        k, weights = whole("k", k), self._weights(query)
        with java_errors(self._lucene.jnius, self.path):
            pairs = self._lucene.search(weights, k) if weights and k else []
        docnos, scores = [docno for docno, _ in pairs], [score for _, score in pairs]
        return Ranking(docnos, scores, source="search", passages=self if self.has_texts else None)

    def search_batch(self, queries: Sequence[GuestQuery], k: int = 10, *, threads: int = 1) -> Run:
        """The k best passages for each of `queries`; arguments as `search`.

        `threads` is there as in `Index.search_batch`; more than one gain nothing, since threads take turns with Java.

        Returns:
            rankings by the qid of a `Query`, and by the position (`"0"`, `"1"`, ...) of other queries.

        Raises:
            InputError: as `search`; or two queries have the same qid.
        """
        given = cast("list[GuestQuery]", listed(queries))
        qids = qids_of(given)
        whole("threads", threads, 1)
        return Run(dict(zip(qids, (self.search(query, k) for query in given), strict=True)))

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, with the texts that the index stores.

        Raises:
            InputError: the index lacks one, or stores no texts.
        """
        if not self.has_texts:
            raise InputError(
                f"the Lucene index {self.path} stores no texts; index with -storeRaw, or give rankings texts with "
                "ranking.with_passages(source)"
            )
        found = []
        for docno in strings("docnos", docnos):
            with java_errors(self._lucene.jnius, self.path):
                stored = self._lucene.find(docno)
            if stored is None:
                raise InputError(f"docno {docno!r} is not in the Lucene index {self.path}")
            found.append(_passage(docno, *stored))
        return found

    def _weights(self, query: object) -> dict[str, float]:
        """Positive weights by term.

        Raises:
            InputError: it is not a query, or one that this index cannot search.
        """
        text = query.text if isinstance(query, Query) else query
        if isinstance(text, str):
            return _checked(self._encoded(sound(text)))
        if isinstance(text, Mapping):
            return _checked(text)
        raise InputError(f"a query is a str, a Query or a mapping from terms to weights; got {shown(query)}")

    def _encoded(self, text: str) -> Weighted:
        if self.scoring == "bm25":
            return Counter(self._lucene.analysed(text))
        if self._encoder is None:
            raise InputError(
                "a text is searched in an impact index by its weighted terms; open it with encoder=, or give a mapping "
                "from terms to weights"
            )
        if callable(self._encoder):
            made = self._encoder(text)
            if not isinstance(made, Mapping):
                raise InputError(f"the encoder must give a mapping from terms to weights; got {shown(made)}")
            return made
        batch, vocabulary = self._encoder.encode_queries([text]), self._encoder.vocabulary
        return {vocabulary[int(term)]: float(w) for term, w in zip(batch.terms, batch.weights, strict=True)}


def _checked(weights: Weighted) -> dict[str, float]:
    """The weights above 0.

    Raises:
        InputError: a term is not a string, or a weight is not a finite number of at least 0.
    """
    found = {}
    for term, weight in weights.items():
        if not isinstance(term, str):
            raise InputError(f"the terms of a query are strings; got {shown(term)}")
        try:
            value = float(weight)
        except (TypeError, ValueError) as err:
            raise InputError(f"term {term!r} has the weight {shown(weight)}; weights are numbers") from err
        if not 0 <= value < 2.0**127 or math.isnan(value):
            raise InputError(f"term {term!r} has the weight {value!r}; weights are finite and at least 0")
        if value > 0:
            found[sound(term)] = value
    return found


def _passage(docno: str, raw: str | None, contents: str | None) -> Passage:
    """A passage from what a Lucene document stores: the record that was indexed, or its text alone."""
    record: object = None
    if raw is not None:
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            contents = raw  # a collection whose records are not JSON
    if isinstance(record, dict):
        text = next((record[name] for name in TEXT_FIELDS if isinstance(record.get(name), str)), contents or "")
        title = record.get("title")
        return Passage(docno, str(text), title if isinstance(title, str) else "")
    return Passage(docno, contents or "")


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _alone(method: Callable[Concatenate[_Lucene, _P], _T]) -> Callable[Concatenate[_Lucene, _P], _T]:
    """A method during which no other thread calls Java."""

    @wraps(method)
    def called(self: _Lucene, /, *args: _P.args, **options: _P.kwargs) -> _T:
        with BRIDGE:
            return method(self, *args, **options)

    return called


class _Lucene:
    """Lucene's classes over one index. Safe to share between threads.

    Args:
        jnius: the bridge to Java.
        folder: where the index is.
        bm25: k1 and b; None for the sum of impacts.
    """

    @_alone
    def __init__(self, jnius: ModuleType, folder: Path, bm25: tuple[float, float] | None) -> None:
        self.jnius = jnius
        java, lucene = jnius.autoclass, "org.apache.lucene."
        directory = java(f"{lucene}store.FSDirectory").open(java("java.nio.file.Paths").get(str(folder)))
        opened = java(f"{lucene}index.DirectoryReader").open(directory)
        reader = jnius.cast(f"{lucene}index.IndexReader", opened)
        searcher = java(f"{lucene}search.IndexSearcher")(reader)
        if bm25 is None:
            searcher.setSimilarity(java("io.anserini.search.similarity.ImpactSimilarity")())
        else:
            searcher.setSimilarity(java(f"{lucene}search.similarities.BM25Similarity")(*bm25))
        field = java(f"{lucene}search.SortField")
        by_docno = field(_ID, java(f"{lucene}search.SortField$Type").STRING_VAL)
        self._java = SimpleNamespace(
            reader=reader,
            searcher=searcher,
            order=java(f"{lucene}search.Sort")(field.FIELD_SCORE, by_docno),
            term=java(f"{lucene}index.Term"),
            term_query=java(f"{lucene}search.TermQuery"),
            boost_query=java(f"{lucene}search.BoostQuery"),
            all_query=java(f"{lucene}search.MatchAllDocsQuery"),
            builder=java(f"{lucene}search.BooleanQuery$Builder"),
            should=java(f"{lucene}search.BooleanClause$Occur").SHOULD,
            only_id=java("java.util.Collections").singleton(_ID),
        )

    @_alone
    def count(self) -> int:
        """Documents that are not deleted."""
        return int(self._java.reader.numDocs())

    @_alone
    def close(self) -> None:
        """Close the files of the index."""
        self._java.reader.close()

    @_alone
    def search(self, weights: Weighted, k: int) -> list[tuple[str, float]]:
        """Docnos and scores of the k best documents."""
        java = self._java
        if len(weights) > java.searcher.getMaxClauseCount():
            java.searcher.setMaxClauseCount(len(weights))
        builder = java.builder()
        for name, weight in weights.items():
            builder.add(java.boost_query(java.term_query(java.term(_CONTENTS, name)), weight), java.should)
        top = java.searcher.search(builder.build(), min(k, max(1, self.count())), java.order, True)
        stored = java.reader.storedFields()
        return [(str(stored.document(hit.doc, java.only_id).get(_ID)), float(hit.score)) for hit in top.scoreDocs]

    @_alone
    def find(self, docno: str) -> tuple[str | None, str | None] | None:
        """What is stored of a document, `raw` and `contents`; None where there is none of that docno."""
        return self._stored(self._java.term_query(self._java.term(_ID, docno)))

    @_alone
    def stores_texts(self) -> bool:
        """Whether the first document has a text."""
        first = self._stored(self._java.all_query())
        return first is not None and first != (None, None)

    def _stored(self, query: object) -> tuple[str | None, str | None] | None:
        """What is stored of the first document that a query finds."""
        found = list(self._java.searcher.search(query, 1).scoreDocs)
        if not found:
            return None
        document = self._java.reader.storedFields().document(found[0].doc)
        return document.get(_RAW), document.get(_CONTENTS)

    @_alone
    def analysed(self, text: str) -> list[str]:
        """The terms of a text, as Anserini indexes it."""
        java = self.jnius.autoclass
        analyzer = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        terms = java("io.anserini.analysis.AnalyzerUtils").analyze(analyzer, text)
        return [str(term) for term in terms]
