"""Elasticsearch and OpenSearch: the bodies of `POST /INDEX/_bulk`, two lines a document.

    curl -X PUT localhost:9200/passages -H 'Content-Type: application/json' -d @mapping.json
    curl -X POST localhost:9200/passages/_bulk -H 'Content-Type: application/x-ndjson' --data-binary @FILE

Weighted terms are the features of one field: `sparse_vector` in Elasticsearch, `rank_features` in OpenSearch. Both keep
a weight as a float of 9 significant bits (Lucene's FeatureField), so whole numbers up to 511, thus all impacts of 8
bits, are exact; impacts of 16 bits lose up to .4%. A feature's name has no dots: `.` is written as `%2E`, and `%` as
`%25`, in documents and queries alike.

OpenSearch's own `sparse_vector` (`opensearch:ann`) names terms by number, the line of the term in `vocabulary.txt` from
0, keeps a weight as a byte, and is approximate in segments of `approximate_threshold` documents or more.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from thresher.errors import ConfigError, InputError
from thresher.files import read_json_lines
from thresher.index.exchange.bulk import (
    TERMS,
    Bulk,
    Record,
    Request,
    as_file,
    as_json,
    object_of,
    passage_from,
    weights_of_ids,
    weights_of_terms,
)
from thresher.index.exchange.formats import refuse_term
from thresher.index.exchange.qdrant import payload_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thresher.index.exchange.documents import Document, Documents
    from thresher.index.exchange.facts import Facts

LONGEST_ID, LONGEST_TERM = 512, 32_766
"""Bytes that the `_id` of a document, and a term of Lucene, have at most."""


class _Lines(Bulk):
    """What both engines share: an action and a document, a line each."""

    suffixes: ClassVar[tuple[str, ...]] = (".ndjson",)

    def check(self, documents: Documents) -> None:
        """Refuse docnos and terms that are too long."""
        for term in documents.words:
            if len(term.encode()) > LONGEST_TERM:
                raise refuse_term("term", term, f"has more than {LONGEST_TERM:,} bytes, Lucene's limit")
        for docno in documents.docnos():
            if len(docno.encode()) > LONGEST_ID:
                raise refuse_term("docno", docno, f"has more than {LONGEST_ID} bytes, the limit of an _id")

    def name_of(self, term: str) -> str:
        """Without dots."""
        return term.replace("%", "%25").replace(".", "%2E")

    def _term_of(self, name: str) -> str:
        return name.replace("%2E", ".").replace("%25", "%")

    def _weights(self, document: Document, ids: Mapping[str, int]) -> dict[str, int]:
        return {self.name_of(term): impact for term, impact in document.terms.items()}

    def record(self, number: int, document: Document, ids: Mapping[str, int]) -> bytes:
        """An `index` action and its document."""
        source = payload_of(document) | {TERMS: self._weights(document, ids)}
        return as_json({"index": {"_id": document.docno}}) + b"\n" + as_json(source)

    def definition(self, facts: Facts) -> Mapping[str, bytes]:
        """The body of `PUT /INDEX`: texts and metadata are kept, and not searched."""
        text = {"type": "text", "index": False}
        properties: dict[str, object] = {
            "docno": {"type": "keyword"},
            "title": text,
            "text": text,
            "metadata": {"type": "object", "enabled": False},
            TERMS: self._field(facts),
        }
        made: dict[str, object] = {"mappings": {"dynamic": False, "properties": properties}}
        return {"mapping.json": as_file(self._settings() | made)}

    @abstractmethod
    def _field(self, facts: Facts) -> Mapping[str, object]:
        """The field of weighted terms."""

    def _settings(self) -> dict[str, object]:
        return {}

    def _hits(self, query: Mapping[str, object], k: int) -> dict[str, object]:
        return {"size": k, "_source": ["docno"], "query": query}

    def records(self, file: Path, *, exported: bool) -> Iterator[Record]:
        """Documents of `index` and `create` actions."""
        source, action = str(file), None
        for number, line in read_json_lines(file):
            if action is None:
                one = next((line[name] for name in ("index", "create") if name in line), None)
                if len(line) != 1 or one is None:
                    raise InputError("expected an action, {'index': {...}} or {'create': {...}}", source, number)
                action = object_of(one, "the action", source, number)
                continue
            docno = line.get("docno", action.get("_id"))
            action = None
            weights = self._read(line.get(TERMS), source, number, exported)
            yield Record(passage_from(line, docno, source, number), weights, source, number)
        if action is not None:
            raise InputError("the file ends after an action, without its document; it was cut short", source)

    def _read(
        self,
        value: object,
        source: str,
        number: int,
        exported: bool,
    ) -> Mapping[str, float] | Mapping[int, float]:
        return weights_of_terms(value, source, number, self._term_of if exported else str)


class Elasticsearch(_Lines):
    """A `sparse_vector` field. Token pruning is off, so that every term of a query counts."""

    name = "elasticsearch"
    title = "Elasticsearch"
    suffixes = (".elasticsearch.ndjson", ".es.ndjson")

    def _field(self, facts: Facts) -> Mapping[str, object]:
        return {"type": "sparse_vector", "index_options": {"prune": False}}

    def request(self, request: Request) -> Mapping[str, object]:
        """The body of `POST /INDEX/_search`."""
        query = {"field": TERMS, "query_vector": dict(request.weights), "prune": False}
        return self._hits({"sparse_vector": query}, request.k)


class OpenSearch(_Lines):
    """A `rank_features` field; with the argument `ann`, a `sparse_vector` field."""

    name = "opensearch"
    title = "OpenSearch"
    suffixes = (".opensearch.ndjson",)

    def __init__(self, argument: str = "") -> None:
        if argument not in ("", "ann"):
            raise ConfigError(f"the format opensearch takes the argument 'ann' or none; got {argument!r}")
        self.numbers = argument == "ann"  # type: ignore[misc]  # of this one

    def name_of(self, term: str) -> str:
        """As it is where terms are numbers."""
        return term if self.numbers else super().name_of(term)

    def _weights(self, document: Document, ids: Mapping[str, int]) -> dict[str, int]:
        if not self.numbers:
            return super()._weights(document, ids)
        return {str(ids[term]): impact for term, impact in document.terms.items()}

    def _field(self, facts: Facts) -> Mapping[str, object]:
        if not self.numbers:
            return {"type": "rank_features"}
        parameters = {"quantization_ceiling_ingest": 2**facts.bits - 1}
        return {"type": "sparse_vector", "method": {"name": "seismic", "parameters": parameters}}

    def _settings(self) -> dict[str, object]:
        return {"settings": {"index": {"sparse": True}}} if self.numbers else {}

    def request(self, request: Request) -> Mapping[str, object]:
        """The body of `POST /INDEX/_search`."""
        tokens = dict(request.weights)
        if self.numbers:
            tokens = {str(term): weight for term, weight in zip(request.ids, request.values, strict=True)}
        query: dict[str, object] = {"query_tokens": tokens}
        if self.numbers:
            query["method_parameters"] = {"k": request.k}
        return self._hits({"neural_sparse": {TERMS: query}}, request.k)

    def _read(
        self,
        value: object,
        source: str,
        number: int,
        exported: bool,
    ) -> Mapping[str, float] | Mapping[int, float]:
        return weights_of_ids(value, source, number) if self.numbers else super()._read(value, source, number, exported)
