"""Indexes of several segments, written one after another, for tests of searches over all of them."""

from dataclasses import dataclass, field

import numpy as np
from searching import batch_of

from thresher.artifact import writing
from thresher.index import FORMAT, KIND, IndexBuilder
from thresher.index.column_writer import ColumnWriter
from thresher.index.commit import SECOND, writing_index
from thresher.index.transaction import Transaction
from thresher.records import Passage

SCHEMA = {"lang": "string", "year": "integer", "groups": "strings"}


@dataclass
class Doc:
    """A passage with its terms by string; `tier` is 1 or 2."""

    docno: str
    terms: dict[str, float]
    metadata: dict[str, object] = field(default_factory=dict)
    tier: int = 1

    @property
    def passage(self):
        return Passage(self.docno, f"text of {self.docno}", metadata=self.metadata)


class Named:
    """Stands for an encoder, of which nothing but the name is asked for."""

    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def save(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "encoder.json").write_text("{}")


def write_segments(path, segments, vocabulary=None, *, encoders=("a" * 64, "a" * 64), tiers=1, **options):
    """An index of lists of `Doc`; without a vocabulary each part has the terms of its own passages, sorted."""
    for number, docs in enumerate(segments):
        if number:
            with Transaction(path) as transaction:
                fill(transaction.segment(), docs, vocabulary, encoders, tiers, options)
                transaction.commit()
        else:
            with writing_index(path) as draft:
                fill(draft.segment, docs, vocabulary, encoders, tiers, options)
                draft.fields["fields"] = SCHEMA
                for fingerprint in set(encoders) - {""}:
                    draft.add_encoder(Named(fingerprint))


def fill(draft, docs, vocabulary, encoders, tiers, options):
    """Write one segment."""
    draft.fields |= part(draft.path, [doc for doc in docs if doc.tier == 1], vocabulary, encoders[0], options)
    if tiers == 2:
        with writing(draft.path / SECOND, kind=KIND, format=FORMAT) as tier:
            tier.fields |= part(tier.path, [doc for doc in docs if doc.tier == 2], vocabulary, encoders[1], options)


def part(path, docs, vocabulary, encoder, options):
    """Write one tier; returns what its manifest says."""
    words = sorted({term for doc in docs for term in doc.terms}) if vocabulary is None else vocabulary
    ids = {term: number for number, term in enumerate(words)}
    builder, columns = IndexBuilder(path, words, **options), ColumnWriter(path / "fields", SCHEMA)
    passages = [doc.passage for doc in docs]
    builder.add(passages, batch_of([{ids[term]: weight for term, weight in doc.terms.items()} for doc in docs]))
    columns.add(passages)
    columns.close()
    found = builder.finish()
    return {**found, "encoder": {"name": "named", "fingerprint": encoder}} if encoder else found


def delete(path, segments, gone):
    """Delete the passages of these docnos, as `write_segments` has written them."""
    with Transaction(path) as transaction:
        for entry, docs in zip(transaction.base.segments, segments, strict=True):
            order = [doc for tier in (1, 2) for doc in docs if doc.tier == tier]
            numbers = [number for number, doc in enumerate(order) if doc.docno in gone]
            if numbers:
                transaction.delete(entry.name, np.array(numbers))
        transaction.commit()


def best(docs, query, k):
    """The definition: the k best (docno, score) of passages whose weights are whole numbers of up to 255.

    Sums are in ascending order of the query's terms.
    """
    found = []
    for doc in docs:
        total, held = 0.0, False
        for term, weight in query.items():
            if term in doc.terms and np.float32(weight) > 0:
                total += float(np.float32(weight)) * doc.terms[term]
                held = True
        if held:
            found.append((doc.docno, total))
    return sorted(found, key=lambda pair: (-pair[1], pair[0].encode()))[:k]
