"""Qdrant: points with a named sparse vector, in the bodies of `PUT /collections/NAME/points`.

    curl -X PUT localhost:6333/collections/passages -H 'Content-Type: application/json' -d @collection.json
    curl -X PUT localhost:6333/collections/passages/points -H 'Content-Type: application/json' -d @documents-00000.json

Qdrant numbers terms: an index of a sparse vector is the line of the term in `vocabulary.txt`, from 0. The id of a point
is its place in the export; docno, title, text and metadata are its payload. A request is at most 32 MB by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.index.exchange.bulk import (
    MEGABYTE,
    TERMS,
    Bulk,
    Record,
    Request,
    as_file,
    as_json,
    object_of,
    passage_from,
    read_document,
    weights_of_ids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thresher.index.exchange.documents import Document
    from thresher.index.exchange.facts import Facts

DENSE = "dense"
"""Name of the dense vector, where documents have one."""


class Qdrant(Bulk):
    """Upserts of points."""

    name = "qdrant"
    title = "Qdrant"
    suffixes = (".qdrant.json",)
    limit = 16 * MEGABYTE
    head, joint, tail = b'{"points":[\n', b",\n", b"\n]}\n"
    numbers = True

    def record(self, number: int, document: Document, ids: Mapping[str, int]) -> bytes:
        """A point."""
        indices = [ids[term] for term in document.terms]
        vector = {TERMS: {"indices": indices, "values": list(document.terms.values())}} if indices else {}
        return as_json({"id": number, "vector": vector, "payload": payload_of(document)})

    def definition(self, facts: Facts) -> Mapping[str, bytes]:
        """The body of `PUT /collections/NAME`. Values are kept as float32, so that scores are not rounded."""
        return {"collection.json": as_file({"sparse_vectors": {TERMS: {"index": {"datatype": "float32"}}}})}

    def request(self, request: Request) -> Mapping[str, object]:
        """The body of `POST /collections/NAME/points/query`."""
        query = {"indices": list(request.ids), "values": list(request.values)}
        return {"query": query, "using": TERMS, "limit": request.k, "with_payload": ["docno"]}

    def records(self, file: Path, *, exported: bool) -> Iterator[Record]:
        """Points; the docno is in the payload, or else the point's id."""
        source = str(file)
        for number, point in enumerate(read_document(file, "points"), 1):
            fields = object_of(point, "the point", source, number)
            payload = object_of(fields.get("payload"), "the payload", source, number)
            vectors = object_of(fields.get("vector"), "the point's vector", source, number)
            weights = weights_of_ids(vectors.get(TERMS), source, number)
            docno = payload.get("docno", fields.get("id"))
            yield Record(passage_from(payload, docno, source, number), weights, source, number)


def payload_of(document: Document) -> dict[str, object]:
    """What is kept of a document beside its vectors."""
    made: dict[str, object] = {"docno": document.docno}
    if document.title:
        made["title"] = document.title
    made["text"] = document.text
    if document.metadata:
        made["metadata"] = dict(document.metadata)
    return made
