"""Anserini's `JsonVectorCollection`: JSON lines `{"id", "contents", "vector": {term: weight}}`.

Anserini reads a weight as an integer and indexes the term as often as that; it splits what it indexes at blanks. So
what is written are impacts, which are at least 1, and terms with blanks are refused. Files are read in passes, never
whole: one finds the vocabulary where it is not given, later ones yield passages with their weighted terms.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from thresher.durable import replacing
from thresher.encode.encoder import from_mappings
from thresher.errors import InputError
from thresher.files import read_json_lines
from thresher.index.exchange.formats import Format, refuse_term
from thresher.index.exchange.given import CHUNK, GivenVectors, Names, check_weight, passage_of, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thresher.index.exchange.documents import Document, Documents
    from thresher.records import Passage, SparseBatch


class Anserini(Format):
    """JSON lines with a mapping from terms to impacts."""

    name = "anserini"
    title = "Anserini JsonVectorCollection"
    suffixes = (".jsonl", ".json")

    def check(self, documents: Documents) -> None:
        """Refuse terms with blanks."""
        for term in documents.words:
            if term.split() != [term]:
                raise refuse_term("term", term, "is empty or has a blank, at which Anserini would split it")

    def write(self, documents: Documents, file: Path) -> None:
        """One line a document."""
        with replacing(file) as stream:
            for document in documents:
                stream.write(_line(document))

    def open(self, path: Path, names: Names) -> JsonVectors:
        """A file, or a folder of files."""
        return JsonVectors(path, names)


def _line(document: Document) -> bytes:
    record: dict[str, object] = {"id": document.docno, "contents": document.text}
    if document.title:
        record["title"] = document.title
    if document.metadata:
        record["metadata"] = dict(document.metadata)
    record["vector"] = document.terms
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


class JsonVectors(GivenVectors):
    """Anserini's `JsonVectorCollection`: a file, or a folder of files, of JSON lines.

    Weights may be whole or not; each must be finite and not negative, and 0 means without. The vocabulary is sorted by
    code point where it is not given.
    """

    def __init__(self, path: Path, names: Names) -> None:
        self.path, self.facts = path, names.facts
        files = sorted(p for p in self.path.iterdir() if p.is_file()) if self.path.is_dir() else [self.path]
        self._files = [p for p in files if plain_name(p).endswith((".json", ".jsonl"))] if self.path.is_dir() else files
        if not self._files:
            raise InputError("no .json, .jsonl or .jsonl.gz file in this folder", str(self.path))
        if names.vocabulary is None:
            terms = {term for _, vector, _, _ in self._records() for term, weight in vector.items() if weight}
            self.vocabulary = tuple(sorted(terms))
        else:
            self.vocabulary = tuple(names.vocabulary)
        self._numbers = self.numbers_of_words()
        self._scale = 1.0 if self.facts is None else self.facts.scale

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        records = self._records()
        while chunk := list(islice(records, CHUNK)):
            rows = [self._row(vector, source, number) for _, vector, source, number in chunk]
            yield [passage for passage, _, _, _ in chunk], from_mappings(rows)

    def _row(self, vector: Mapping[str, float], source: str, number: int) -> dict[int, float]:
        try:
            return {self._numbers[term]: weight * self._scale for term, weight in vector.items() if weight}
        except KeyError as err:
            raise InputError(f"term {err.args[0]!r} is not in the vocabulary", source, number) from None

    def _records(self) -> Iterator[tuple[Passage, dict[str, float], str, int]]:
        for file in self._files:
            for number, record in read_json_lines(file):
                yield *_json_record(record, str(file), number), str(file), number


def _json_record(record: Mapping[str, object], source: str, number: int) -> tuple[Passage, dict[str, float]]:
    vector = record.get("vector")
    if not isinstance(vector, dict) or "id" not in record:
        raise InputError("expected {'id', 'contents', 'vector': {term: weight}}", source, number)
    for term, weight in vector.items():
        check_weight(term, weight, source, number)
    fields = record["id"], record.get("contents"), record.get("title")
    passage = passage_of(*fields, source, number, record.get("metadata"))
    return passage, {term: float(weight) for term, weight in vector.items()}
