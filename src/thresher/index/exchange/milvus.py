"""Milvus: rows for a bulk import or an insert, with a field of the type SPARSE_FLOAT_VECTOR.

Milvus numbers terms: an index of a sparse vector is the line of the term in `vocabulary.txt`, from 0. The docno is the
primary key. A text is a VARCHAR, of at most 65,535 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.errors import InputError
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

LONGEST = 65_535
"""Bytes of a VARCHAR at most."""


class Milvus(Bulk):
    """Rows of a JSON file."""

    name = "milvus"
    title = "Milvus"
    suffixes = (".milvus.json",)
    limit = 16 * MEGABYTE
    head, joint, tail = b'{"rows":[\n', b",\n", b"\n]}\n"
    numbers = True

    def record(self, number: int, document: Document, ids: Mapping[str, int]) -> bytes:
        """A row.

        Raises:
            InputError: a docno, title or text is too long.
        """
        for what, value in (("docno", document.docno), ("title", document.title), ("text", document.text)):
            if len(value) * 4 > LONGEST and (size := len(value.encode())) > LONGEST:
                raise InputError(
                    f"the {what} of passage {document.docno!r} has {size:,} bytes, and Milvus takes {LONGEST:,} at "
                    "most; split long documents when the index is built, or choose another format"
                )
        return as_json({
            "docno": document.docno,
            "title": document.title,
            "text": document.text,
            "metadata": dict(document.metadata),
            TERMS: {"indices": [ids[term] for term in document.terms], "values": list(document.terms.values())},
        })  # fmt: skip

    def definition(self, facts: Facts) -> Mapping[str, bytes]:
        """The body of `POST /v2/vectordb/collections/create`, without the name of the collection."""
        strings: list[dict[str, object]] = [
            {"fieldName": name, "dataType": "VarChar", "elementTypeParams": {"max_length": str(LONGEST)}}
            for name in ("docno", "title", "text")
        ]
        strings[0]["isPrimary"] = True
        fields = [
            *strings,
            {"fieldName": "metadata", "dataType": "JSON"},
            {"fieldName": TERMS, "dataType": "SparseFloatVector"},
        ]
        index = {"fieldName": TERMS, "indexName": TERMS, "metricType": "IP", "params": _PARAMETERS}
        return {"collection.json": as_file({"schema": {"autoId": False, "fields": fields}, "indexParams": [index]})}

    def request(self, request: Request) -> Mapping[str, object]:
        """The body of `POST /v2/vectordb/entities/search`, without the name of the collection.

        `drop_ratio_search` is 0: no term of the query is left out.
        """
        vector = {str(term): weight for term, weight in zip(request.ids, request.values, strict=True)}
        return {
            "data": [vector],
            "annsField": TERMS,
            "limit": request.k,
            "outputFields": ["docno"],
            "searchParams": {"metricType": "IP", "params": {"drop_ratio_search": 0}},
        }

    def records(self, file: Path, *, exported: bool) -> Iterator[Record]:
        """Rows."""
        source = str(file)
        for number, row in enumerate(read_document(file, "rows"), 1):
            fields = object_of(row, "the row", source, number)
            weights = weights_of_ids(fields.get(TERMS), source, number)
            yield Record(passage_from(fields, fields.get("docno"), source, number), weights, source, number)


_PARAMETERS = {"index_type": "SPARSE_INVERTED_INDEX", "inverted_index_algo": "DAAT_MAXSCORE"}
