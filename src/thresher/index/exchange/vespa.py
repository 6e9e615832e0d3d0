"""Vespa: a feed of put operations, one a line, for `vespa feed` or the feed client.

    vespa feed documents-00000.jsonl

Weighted terms are a mapped tensor, `tensor<float>(token{})`, in its short form. Its dot product with the query's is
the score; every document is scored. With the argument `weightedset` they are a weighted set of strings, which the
query operator `wand` searches without scoring all.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, InputError
from thresher.files import read_json_lines
from thresher.index.exchange.bulk import (
    MEGABYTE,
    TERMS,
    Bulk,
    Record,
    Request,
    as_json,
    object_of,
    passage_from,
    weights_of_terms,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thresher.index.exchange.documents import Document
    from thresher.index.exchange.facts import Facts

_ID = "id:thresher:passage::"
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufdd0-\ufdef\ufffe\uffff]|" + "|".join(
    chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)
))  # fmt: skip
"""Characters that Vespa refuses in a string."""


_SELECT = "select docno from passage where "
_UNITS = 2**22
"""Of the largest weight of a query."""
_SCHEMA = """schema passage {{
    document passage {{
        field docno type string {{
            indexing: summary | attribute
        }}
        field title type string {{
            indexing: summary
        }}
        field text type string {{
            indexing: summary
        }}
        field metadata type string {{
            indexing: summary
        }}
        field terms type {type} {{
            indexing: attribute{fast}
        }}
    }}
    rank-profile impacts {{
        inputs {{
            query({input}
        }}
        first-phase {{
            expression: {expression}
        }}
    }}
}}
"""
_TENSOR = {
    "type": "tensor<float>(token{})",
    "fast": "",
    "input": "q) tensor<float>(token{})",
    "expression": "sum(query(q) * attribute(terms))",
}
_SET = {
    "type": "weightedset<string>",
    "fast": "\n            attribute: fast-search",
    "input": "unit) double: 1.0",
    "expression": "rawScore(terms) * query(unit)",
}


class Vespa(Bulk):
    """A feed of puts."""

    name = "vespa"
    title = "Vespa"
    suffixes = (".vespa.jsonl",)
    limit = 64 * MEGABYTE

    def __init__(self, argument: str = "") -> None:
        if argument not in ("", "weightedset"):
            raise ConfigError(f"the format vespa takes the argument 'weightedset' or none; got {argument!r}")
        self._set = bool(argument)

    def record(self, number: int, document: Document, ids: Mapping[str, int]) -> bytes:
        """A put."""
        cells = dict(document.terms)
        fields: dict[str, object] = {"docno": document.docno}
        if document.title:
            fields["title"] = _NO_TEXT.sub("\ufffd", document.title)
        fields["text"] = _NO_TEXT.sub("\ufffd", document.text)
        if document.metadata:
            fields["metadata"] = as_json(dict(document.metadata)).decode()
        fields[TERMS] = cells if self._set else {"cells": cells}
        return as_json({"put": _ID + document.docno, "fields": fields})

    def definition(self, facts: Facts) -> Mapping[str, bytes]:
        """A schema."""
        made = _SCHEMA.format(**(_SET if self._set else _TENSOR))
        return {"passage.sd": made.encode()}

    def request(self, request: Request) -> Mapping[str, object]:
        """The body of `POST /search/`.

        The weights of a `wand` are whole: here in units of which the largest weight has 2^22, so that a score is right
        to a few parts in a million.
        """
        body: dict[str, object] = {"hits": request.k, "ranking": "impacts"}
        if not self._set:
            return body | {"yql": _SELECT + "true", "input.query(q)": dict(request.weights)}
        unit = max(request.weights.values(), default=1.0) / _UNITS
        weights = {term: round(weight / unit) for term, weight in request.weights.items()}
        tokens = as_json({term: weight for term, weight in weights.items() if weight}).decode()
        operator = f"({{targetHits: {request.k}}}wand({TERMS}, {tokens}))"
        return body | {"yql": _SELECT + operator, "input.query(unit)": unit}

    def records(self, file: Path, *, exported: bool) -> Iterator[Record]:
        """Puts."""
        source = str(file)
        for number, line in read_json_lines(file):
            name = line.get("put", line.get("id"))
            if not isinstance(name, str):
                raise InputError("expected {'put': 'id:...', 'fields': {...}}", source, number)
            fields = dict(object_of(line.get("fields"), "what stands under 'fields'", source, number))
            cells = fields.get(TERMS)
            if not self._set and isinstance(cells, dict) and isinstance(cells.get("cells"), dict):
                cells = cells["cells"]
            metadata = fields.get("metadata")
            if isinstance(metadata, str):
                fields["metadata"] = _object(metadata, source, number)
            docno = fields.get("docno", name.partition("::")[2])
            weights = weights_of_terms(cells, source, number)
            yield Record(passage_from(fields, docno, source, number), weights, source, number)


def _object(text: str, source: str, number: int) -> object:
    """The JSON that a field holds as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise InputError(f"its metadata are not JSON ({err})", source, number) from None
