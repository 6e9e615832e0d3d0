"""What the tests of search share: building an index from rows, the definition of its results, rows with topics."""

import numpy as np

from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.records import Passage, SparseBatch
from thresher.search import Index

PLANS = ["auto", "term-at-a-time", "block-max"]
TRY_BOUNDS = 0
"""What `TierSearcher._plan` gives for `auto` in a large, well-ordered collection."""


def build(path, docnos, rows, terms, **options):
    """An index of `rows`, each a dict from term id to weight."""
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i}" for i in range(terms)], **options)
        for first in range(0, len(rows), 7):
            part = rows[first : first + 7]
            passages = [Passage(docno, f"text of {docno}") for docno in docnos[first : first + 7]]
            builder.add(passages, batch_of(part))
        draft.fields.update(builder.finish())
    return Index.open(path)


def batch_of(rows):
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    terms = [term for row in rows for term in sorted(row)]
    weights = [row[term] for row in rows for term in sorted(row)]
    return SparseBatch(indptr, np.array(terms, np.uint32), np.array(weights, np.float32))


class Reference:
    """The definition: float64 sums in ascending term order over quantised impacts, ties by docno."""

    def __init__(self, docnos, rows, bits):
        self.docnos = docnos
        top = 2**bits - 1
        weights = np.array([w for row in rows for w in row.values()], np.float32).astype(float)
        largest = weights.max(initial=0)
        whole = bool((weights == np.rint(weights)).all()) and largest <= top
        self.scale = 1.0 if largest == 0 or whole else largest / top
        self.columns = {}
        for i, row in enumerate(rows):
            for term, weight in row.items():
                column = self.columns.setdefault(term, np.zeros(len(rows)))
                column[i] = min(max(np.rint(float(np.float32(weight)) / self.scale), 1), top)

    def best(self, query, k):
        """The k best (docno, score) for a dict from term id to weight."""
        totals = np.zeros(len(self.docnos))
        matched = np.zeros(len(self.docnos), bool)
        for term in sorted(query):
            weight = float(np.float32(query[term]))
            if weight > 0 and term in self.columns:
                totals += weight * self.columns[term]
                matched |= self.columns[term] > 0
        found = [(self.docnos[i], float(totals[i] * self.scale)) for i in np.flatnonzero(matched)]
        found.sort(key=lambda pair: (-pair[1], pair[0].encode()))
        return found[:k]


def clustered(n, terms, seed, nnz=20):
    """Rows with topics, so that blocks differ and are skipped."""
    rng = np.random.default_rng(seed)
    topics = [rng.choice(terms, 60, replace=False) for _ in range(40)]
    rows = []
    for i in range(n):
        chosen = rng.choice(topics[i * 40 // n], nnz, replace=False)
        rows.append({int(t): float(w) for t, w in zip(chosen, rng.gamma(1, 1, nnz) + 0.01, strict=True)})
    return rows
