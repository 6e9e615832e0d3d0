"""What the adapters share: where passages are found, and how documents of a framework become passages and back.

A retriever over an `Index` returns whole passages; over a `Pipeline`, or a path, which opens one, it returns what the
pipeline hands over: reranked, and cut to the sentences that help with the query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from thresher.checks import shown, whole
from thresher.context.pruner import ContextPruner
from thresher.context.scorers import SentenceScorer
from thresher.context.spans import cut
from thresher.errors import InputError
from thresher.index.filters import Where
from thresher.pipeline.pipeline import Pipeline
from thresher.pipeline.text_ranker import DEFAULT as TEXT_RANKER
from thresher.pipeline.text_ranker import MIXTURES, TextRanker
from thresher.records import Hit, Query, Span
from thresher.rerank.reranker import Reranker
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.context.pruned import PrunedPassage
    from thresher.index.filters import Filter
    from thresher.pipeline.answer import Answer
    from thresher.records import SparseBatch

KEY = "thresher"
"""Where the metadata of a document hold what thresher knows of it."""
RANKER = TEXT_RANKER
"""The default model that reranks."""
PRUNER = "thresher-context"
"""The default model that scores sentences."""

Tree: TypeAlias = dict[str, object]
"""A filter as `Where.parse` takes it."""

_OPERATORS = {
    "==": "eq", "eq": "eq", "!=": "ne", "ne": "ne", ">": "gt", "gt": "gt", ">=": "gte", "gte": "gte", "<": "lt",
    "lt": "lt", "<=": "lte", "lte": "lte", "in": "in", "not in": "nin", "nin": "nin", "any": "any", "all": "all",
    "contains": "contains", "contain": "contains", "is_empty": "empty",
}  # fmt: skip
Metadata: TypeAlias = dict[str, object]
Ranker: TypeAlias = Reranker | TextRanker
"""What reorders documents."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the adapters pass it on.

    Attributes:
        docno: its identifier, empty where it has none.
        text: what is to be read of it.
        metadata: its own fields; under `KEY` what thresher knows of it.
        score: higher is better; of a retrieved document the final ranking's score.
    """

    docno: str
    text: str
    metadata: Metadata
    score: float = 0.0

    @property
    def details(self) -> Mapping[str, object]:
        """What thresher knows of it."""
        found = self.metadata.get(KEY)
        return found if isinstance(found, Mapping) else {}

    @property
    def title(self) -> str:
        """Its title, empty where it has none."""
        found = self.details.get("title") or self.metadata.get("title")
        return found if isinstance(found, str) else ""

    @property
    def contents(self) -> str:
        """Title and text, as a model reads them."""
        return f"{self.title} {self.text}" if self.title else self.text

    def with_details(self, text: str, score: float, /, **details: object) -> Document:
        """The document with another text and score, and more that thresher knows of it."""
        return Document(self.docno, text, {**self.metadata, KEY: {**self.details, **details}}, score)


# --- retrieval


def open_source(source: object) -> Pipeline | Index:
    """What a retriever answers from: a pipeline, an index, or the path of an index, which is opened as a pipeline.

    Raises:
        InputError: it is none of them.
        ArtifactError: there is no index at the path.
    """
    if isinstance(source, Pipeline | Index):
        return source
    if isinstance(source, str | Path):
        return Pipeline.open(source)
    raise InputError(f"a retriever answers from a Pipeline, an Index or the path of one; got {shown(source)}")


def open_pipeline(source: object) -> Pipeline:
    """A pipeline, or that of an index or of the path of one.

    Raises:
        InputError: it is none of them.
        ArtifactError: there is no index at the path.
    """
    opened = open_source(source)
    return Pipeline.open(opened) if isinstance(opened, Index) else opened


def check_tokens(source: object, max_context_tokens: int | None, *, of_whole: bool = False) -> None:
    """Refuse a retriever with a limit on tokens that what it answers from cannot keep.

    Args:
        source: what it answers from.
        max_context_tokens: the limit; None for none.
        of_whole: passages come whole, whatever the source.

    Raises:
        InputError: there is a limit below 1, or one without a pipeline, which selects sentences.
    """
    if max_context_tokens is None:
        return
    whole("max_context_tokens", max_context_tokens, 1)
    if of_whole or isinstance(source, Index):
        found = "whole passages" if of_whole else "an Index"
        raise InputError(f"max_context_tokens needs a Pipeline, which selects sentences; got {found}")


def narrowed(*filters: Filter | None) -> Where | None:
    """One filter that holds where all of those given hold; None where there are none."""
    given = [Where.parse(one) for one in filters if one is not None]
    if not given:
        return None
    joint = given[0]
    for one in given[1:]:
        joint = joint & one
    return joint


def retrieve(
    source: Pipeline | Index, query: str, k: int, where: Where | None = None, max_context_tokens: int | None = None
) -> list[Document]:
    """The k best documents for a query.

    Raises:
        InputError: an argument is out of range, or the filter does not fit the index's fields.
    """
    if isinstance(source, Index):
        check_tokens(source, max_context_tokens)
        return [_of_hit(hit) for hit in source.search(query, k, where=where)]
    return handed_over(source.ask(query, k, where=where, max_context_tokens=max_context_tokens))


def handed_over(answer: Answer) -> list[Document]:
    """The passages of a pipeline's answer, with their scores in the final ranking."""
    scores, found = answer.ranking.scores.tolist(), []
    for one in answer.passages:
        known = one.as_json()
        details = {name: known[name] for name in _DETAILS} | {"score": scores[one.rank - 1]}
        found.append(_document(one.docno, one.text, one.metadata, scores[one.rank - 1], details))
    return found


_DETAILS = ("docno", "title", "rank", "scores", "confidence", "tier", "aliases", "spans", "original")


def _of_hit(hit: Hit) -> Document:
    details = {
        "docno": hit.docno, "title": hit.title, "rank": hit.rank, "score": hit.score, "scores": {"search": hit.score},
        "aliases": list(hit.aliases),
    }  # fmt: skip
    return _document(hit.docno, hit.text, hit.metadata, hit.score, details)


def _document(
    docno: str, text: str, metadata: Mapping[str, object], score: float, details: Mapping[str, object]
) -> Document:
    title = {"title": details["title"]} if details["title"] else {}
    return Document(docno, text, {**title, **metadata, KEY: dict(details)}, score)


# --- filters: the frameworks let a document without the field match `!=` and `not in`, and thresher does not, so that
# those become the `not` of `=` and `in`, which does


def comparison(field: object, operator: object, value: object, taken: Sequence[str] = tuple(_OPERATORS)) -> Tree:
    """One comparison of a field with a value.

    Args:
        field: the field.
        operator: a sign or a word of `taken`.
        value: what it is compared with; None, with `==` and `!=`, is a field that is missing.
        taken: the operators of the framework.

    Raises:
        InputError: the operator is unknown, the field is not a name, or the value does not go with it.
    """
    op = _OPERATORS.get(operator) if isinstance(operator, str) and operator in taken else None
    if op is None:
        raise InputError(f"the filter compares {shown(field)} by {shown(operator)}; use one of {', '.join(taken)}")
    if not isinstance(field, str) or not field:
        raise InputError(f"a filter names fields by text that is not empty; got {shown(field)}")
    if op in ("in", "nin", "any", "all") and not isinstance(value, list | tuple | set | frozenset):
        raise InputError(f"the filter compares field {field!r} by {operator!r} with {shown(value)}; give a list")
    if op == "empty" or (op == "eq" and value is None):
        return {field: {"exists": False}}
    if op == "ne" and value is None:
        return {field: {"exists": True}}
    if op in ("ne", "nin"):
        return {"not": {field: {"eq" if op == "ne" else "in": value}}}
    if op == "contains":
        return {field: {"any": [value]}}
    return {field: {op: value}}


def joined(operator: object, parts: Sequence[Tree], *, nots: str = "and") -> Tree:
    """Filters joined by `and`, `or` or `not`, in any case.

    Args:
        operator: how.
        parts: the filters.
        nots: what several parts of a `not` are joined by before it.

    Raises:
        InputError: the operator is unknown, or there are no parts.
    """
    how = operator.lower() if isinstance(operator, str) else ""
    if how not in ("and", "or", "not"):
        raise InputError(f"a filter joins conditions by and, or or not; got {shown(operator)}")
    if not parts:
        raise InputError(f"the filter has {how!r} without conditions; leave it out to take all passages")
    return {"not": {nots: list(parts)}} if how == "not" else {how: list(parts)}


# --- reranking and pruning


@cache
def _models() -> TextRanker:
    """The shipped models, which all adapters of a process share; each is loaded when it is first needed."""
    return TextRanker()


@cache
def _scorer() -> SentenceScorer:
    return SentenceScorer.from_name(PRUNER)


def open_reranker(reranker: object) -> Ranker:
    """A reranker: one that was given, or that of a name: a model of `TextRanker`, or one for `Reranker.from_name`.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(reranker, Reranker | TextRanker):
        return reranker
    if isinstance(reranker, str):
        return _models().with_model(reranker) if reranker in MIXTURES else Reranker.from_name(reranker)
    raise InputError(f"documents are reranked by a Reranker, a TextRanker or the name of one; got {shown(reranker)}")


def open_pruner(pruner: object) -> ContextPruner:
    """A context pruner, or one with the scorer of that name.

    Raises:
        InputError: it is neither.
    """
    if isinstance(pruner, ContextPruner):
        return pruner
    if isinstance(pruner, str):
        return ContextPruner(_scorer() if pruner == PRUNER else pruner)
    raise InputError(f"documents are pruned by a ContextPruner or the name of a scorer; got {shown(pruner)}")


def _hits(documents: Sequence[Document]) -> list[Hit]:
    """The documents as hits whose docnos are their places: documents of others may share an identifier, or lack one."""
    return [Hit(str(place), -place, place + 1, one.text, one.title) for place, one in enumerate(documents)]


def orders(reranker: Ranker, asked: Sequence[tuple[Query, Sequence[Document]]]) -> list[list[tuple[int, float]]]:
    """Of each query's documents their places and scores, best first. Queries of a `Reranker` run side by side.

    Raises:
        ModelError: the model fails.
        InputError: a query is empty.
    """
    if isinstance(reranker, TextRanker):
        return [reranker.rank(query.text, [one.contents for one in documents]) for query, documents in asked]
    found = reranker.rank_batch([(query, _hits(documents)) for query, documents in asked])
    return [[(int(docno), score) for docno, score in ranking.pairs()] for ranking in found]


def rerank(
    reranker: Ranker, query: str, documents: Sequence[Document], top_n: int | None = None
) -> list[tuple[int, Document]]:
    """The best `top_n` documents (None for all) with their places in `documents`, best first.

    Scores are the reranker's.

    Raises:
        InputError: `top_n` is below 1.
        ModelError: the model fails.
    """
    if top_n is not None and top_n < 1:
        raise InputError(f"top_n is {shown(top_n)}; keep at least 1 document, or None for all")
    if not documents:
        return []
    found: list[tuple[int, Document]] = []
    (order,) = orders(reranker, [(Query("", query), documents)])
    for place, score in order[:top_n]:
        one = documents[place]
        scores = one.details.get("scores")
        known = scores if isinstance(scores, Mapping) else {}
        more = {"rank": len(found) + 1, "score": score, "scores": {**known, "rerank": score}}
        found.append((place, one.with_details(one.text, score, **more)))
    return found


def prune(
    pruner: ContextPruner,
    query: str,
    documents: Sequence[Document],
    *,
    threshold: float | str,
    max_tokens: int | None,
    keep_empty: bool = False,
) -> list[tuple[int, Document]]:
    """What is kept of the documents, with their places in `documents`, in their order.

    Spans point into the original text, also where a document was pruned before.

    Args:
        pruner: selects sentences.
        query: the query.
        documents: what is pruned.
        threshold: as `ContextPruner.prune`.
        max_tokens: over all documents together, as `ContextPruner.prune`.
        keep_empty: return also documents of which nothing is kept, with an empty text.

    Raises:
        InputError: the threshold or the limit is out of range.
    """
    kept = pruner.prune(query, _hits(documents), threshold=threshold, max_tokens=max_tokens)
    return [
        (place, _pruned(one, part))
        for place, (one, part) in enumerate(zip(documents, kept, strict=True))
        if part.spans or keep_empty
    ]


def _pruned(document: Document, part: PrunedPassage) -> Document:
    original, earlier = document.details.get("original"), _spans(document.details.get("spans"))
    spans: Sequence[Span] = part.spans
    if isinstance(original, str) and earlier is not None and cut(original, earlier) == document.text:
        spans = compose(earlier, spans)
    else:
        original = document.text
    return document.with_details(
        part.text,
        document.score,
        original=original,
        spans=[[span.start, span.end] for span in spans],
        relevance=part.relevance,
        confidence=max(part.scores, default=None),
        tokens=part.tokens,
        original_tokens=part.original_tokens,
    )


def _spans(value: object) -> list[Span] | None:
    """Spans from pairs of numbers; None where it is something else."""
    if not isinstance(value, list | tuple):
        return None
    try:
        return [Span(int(start), int(end)) for start, end in value]
    except (TypeError, ValueError):
        return None


def compose(earlier: Sequence[Span], later: Sequence[Span]) -> list[Span]:
    """Spans of a text from spans of what `earlier` has kept of it, joined."""
    found, here = [], 0
    for piece in earlier:
        for span in later:
            start, end = max(span.start, here), min(span.end, here + piece.end - piece.start)
            if start < end:
                found.append(Span(piece.start + start - here, piece.start + end - here))
        here += piece.end - piece.start
    return found


# --- sparse embeddings


def term_weights(batch: SparseBatch) -> list[dict[int, float]]:
    """Each row of a batch as term id to weight."""
    terms, weights, ends = batch.terms.tolist(), batch.weights.tolist(), batch.indptr.tolist()
    return [dict(zip(terms[start:end], weights[start:end], strict=True)) for start, end in pairwise(ends)]
