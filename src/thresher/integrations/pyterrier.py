"""PyTerrier: an index that is an artifact, and transformers that retrieve, rerank, prune, encode, score (pyterrier 1).

    import pyterrier as pt
    from thresher.integrations.pyterrier import ThresherIndex, ThresherReranker

    index = ThresherIndex("my-index")
    ranked = index.retriever(num_results=100) >> index.text_loader() >> ThresherReranker("thresher-context")
    ranked.search("who found radium")

Installed, `pt.Artifact.load("my-index")` opens any index of thresher. Columns are PyTerrier's: `qid`, `query`,
`query_toks`, `docno`, `text`, `toks`, `quality`, `score`, and `rank` from 0. Columns that are not named here stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.checks import shown, whole
from thresher.errors import InputError, require

require("pyterrier", extra="pyterrier", purpose="the PyTerrier adapter")

import pandas as pd
import pyterrier as pt

from thresher.integrations import common
from thresher.integrations.pyterrier_columns import (
    PassageEncoder,  # noqa: F401  # public here
    QualityScorer,  # noqa: F401
    QueryEncoder,  # noqa: F401
    Row,
    records,
    title_of,
)
from thresher.records import Passage, Query
from thresher.search.index import Index

if TYPE_CHECKING:
    from thresher.build.recipe import Recipe
    from thresher.context.pruner import ContextPruner
    from thresher.index.filters import Filter
    from thresher.pipeline.pipeline import Pipeline

_TEXTS = ("text", "title")


def describe(path: str, listing: Sequence[str]) -> dict[str, str] | None:
    """What PyTerrier is to know of the directory `path`, where it is an index of thresher."""
    try:
        kind = json.loads((Path(path) / "manifest.json").read_bytes())["kind"] if "manifest.json" in listing else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = {"type": ThresherIndex.ARTIFACT_TYPE, "format": ThresherIndex.ARTIFACT_FORMAT, "package_hint": "thresher"}
    return known if kind == "index" else None


class ThresherIndex(pt.Artifact, pt.Indexer):
    """An index as an artifact: built from dictionaries, opened at its first use, and a factory of transformers.

    Args:
        path: the index's directory.
        recipe: how `index` builds, as `thresher.build_index`.
        overwrite: whether `index` replaces an index that exists.
    """

    ARTIFACT_TYPE = "sparse_index"
    ARTIFACT_FORMAT = "thresher"
    ARTIFACT_PACKAGE_HINT = "thresher"
    schematic = {"label": "ThresherIndex", "help_url": None}  # noqa: RUF012  # as PyTerrier declares it

    def __init__(self, path: str | Path, *, recipe: Recipe | str | Path | None = None, overwrite: bool = False) -> None:
        super().__init__(path)
        self.recipe, self.overwrite = recipe, overwrite
        self._opened: Index | None = None

    @property
    def opened(self) -> Index:
        """The index, opened on first use.

        Raises:
            ArtifactError: there is none.
        """
        if self._opened is None:
            self._opened = Index.open(self.path)
        return self._opened

    def __len__(self) -> int:
        return len(self.opened)

    def __repr__(self) -> str:
        return f"ThresherIndex({str(self.path)!r})"

    def built(self) -> bool:
        """Whether there is an index at the path."""
        return (Path(self.path) / "manifest.json").is_file()

    def index_inputs(self) -> list[list[str]]:
        """The columns that `index` needs."""
        return [["docno", "text"]]

    def index(self, iter: Iterable[Row], **_: object) -> ThresherIndex:
        """Build the index from dictionaries with `docno`, `text`, perhaps `title`, and metadata.

        Raises:
            InputError: a dictionary lacks a docno or a text.
            ArtifactError: there is an index at the path, and `overwrite` is False.
        """
        from thresher.build.stream import build_index

        build_index(Path(self.path), _passages(iter), self.recipe, overwrite=self.overwrite)
        self._opened = None
        return self

    def retriever(self, num_results: int = 1000, *, where: Filter | None = None) -> ThresherRetriever:
        """A transformer that searches the index."""
        return ThresherRetriever(self.opened, num_results, where=where)

    def pipeline(self, num_results: int | None = None, *, where: Filter | None = None) -> ThresherPipeline:
        """A transformer that asks the index's pipeline."""
        return ThresherPipeline(common.open_pipeline(self.opened), num_results, where=where)

    def text_loader(self, fields: Sequence[str] | str = "text", *, verbose: bool = False) -> TextLoader:
        """A transformer that adds texts, as `pt.text.get_text(index)` wants; `*` for `text` and `title`."""
        return TextLoader(self.opened, fields)


def _passages(rows: Iterable[Row]) -> Iterator[Passage]:
    for number, row in enumerate(rows):
        if "docno" not in row or "text" not in row:
            raise InputError(f"document {number} has no docno or no text; its columns are {', '.join(row)}")
        rest = {name: value for name, value in row.items() if name not in ("docno", *_TEXTS)}
        title = row.get("title") or ""
        yield Passage(str(row["docno"]), str(row["text"]), str(title), rest)


class ThresherRetriever(pt.Transformer):
    """Searches an index by the column `query`, or by `query_toks` (term to weight) where that is there.

    Adds `docno`, `score` and `rank`. Results are exact and ordered by score, then docno. A rank cut-off that follows
    is taken into the search by `compile()`.

    Args:
        index: an `Index`, a `ThresherIndex`, or the path of one.
        num_results: passages a query.
        where: search only passages whose metadata match this filter.
    """

    def __init__(
        self, index: Index | ThresherIndex | str | Path, num_results: int = 1000, *, where: Filter | None = None
    ) -> None:
        super().__init__()
        self.index, self.num_results = _opened(index), whole("num_results", num_results, 1)
        self.where = common.narrowed(where)
        self.schematic = {"label": "Thresher", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The best passages for each query."""
        with pt.validate.any(inp, context=self) as found:
            found.query_frame(["query"])
            found.query_frame(["query_toks"])
        asked = "query_toks" if "query_toks" in inp.columns else "query"
        rows: list[Row] = []
        for row in records(inp):
            query = _terms(row[asked]) if asked == "query_toks" else str(row[asked])
            ranking = self.index.search(query, self.num_results, where=self.where)
            rows += [{**row, "docno": d, "score": s, "rank": n} for n, (d, s) in enumerate(ranking.pairs())]
        return _frame(rows, [*inp.columns, "docno", "score", "rank"])

    def fuse_rank_cutoff(self, k: int) -> ThresherRetriever:
        """This retriever, with no more than k results."""
        return self if k >= self.num_results else ThresherRetriever(self.index, k, where=self.where)

    def __repr__(self) -> str:
        return f"ThresherRetriever({str(self.index.path)!r}, {self.num_results}, where={self.where})"


class ThresherPipeline(pt.Transformer):
    """Asks a pipeline; adds what it hands over, with the text it keeps, and accounts for what it cost.

    Adds `docno`, `score`, `rank`, `text` (what is kept), `title`, `original` and `spans`.

    Args:
        pipeline: a `Pipeline`, an `Index`, a `ThresherIndex`, or the path of an index.
        num_results: passages a query; by default the pipeline's `k`.
        where: search only passages whose metadata match this filter.
        ranking: return all candidates in the final order instead, without texts: what is measured deeper than k. A rank
            cut-off that follows is then taken over by `compile()`.
    """

    def __init__(
        self,
        pipeline: Pipeline | Index | ThresherIndex | str | Path,
        num_results: int | None = None,
        *,
        where: Filter | None = None,
        ranking: bool = False,
    ) -> None:
        super().__init__()
        self.pipeline = common.open_pipeline(pipeline.opened if isinstance(pipeline, ThresherIndex) else pipeline)
        self.num_results = num_results if num_results is None else whole("num_results", num_results, 1)
        self.where, self.ranking = common.narrowed(where), ranking
        self.schematic = {"label": "Thresher pipeline", "help_url": None}
        self._costs: dict[str, dict[str, float]] = {}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """What the pipeline finds for each query."""
        pt.validate.query_frame(inp, ["query"], context=self)
        rows: list[Row] = []
        for row in records(inp):
            query = Query(str(row["qid"]), str(row["query"]))
            answer = self.pipeline.ask(query, None if self.ranking else self.num_results, where=self.where)
            for one in answer.usage.stages:
                self._note(one.stage, {"queries": 1, "seconds": one.seconds, **one.counts})
            self._note("answer", {"queries": 1, "seconds": answer.milliseconds / 1000, "tokens": answer.tokens})
            if self.ranking:
                pairs = answer.ranking.pairs()[: self.num_results]
                rows += [{**row, "docno": d, "score": s, "rank": n} for n, (d, s) in enumerate(pairs)]
                continue
            for number, found in enumerate(common.handed_over(answer)):
                rows.append({
                    **row, "docno": found.docno, "score": found.score, "rank": number, "text": found.text,
                    "title": found.title, "original": found.details["original"], "spans": found.details["spans"],
                })  # fmt: skip
        more = () if self.ranking else ("text", "title", "original", "spans")
        return _frame(rows, [*inp.columns, "docno", "score", "rank", *more])

    def _note(self, stage: str, counts: Mapping[str, float]) -> None:
        known = self._costs.setdefault(stage, {})
        for name, count in counts.items():
            known[name] = known.get(name, 0) + count

    def costs(self, *, reset: bool = False) -> pd.DataFrame:
        """What the queries so far have cost: one row a stage and one for whole answers, with means a query.

        `seconds` and the counts of the stage (`postings`, `forwards`, `tokens`, ...) are a query's; `queries` says how
        many there were. Ask after `pt.Experiment`.

        Args:
            reset: begin again with the next query.
        """
        rows = [
            {"stage": stage, "queries": int(counts["queries"])}
            | {name: count / counts["queries"] for name, count in counts.items() if name != "queries"}
            for stage, counts in self._costs.items()
        ]
        if reset:
            self._costs = {}
        return pd.DataFrame(rows, columns=None if rows else ["stage", "queries", "seconds"])

    def fuse_rank_cutoff(self, k: int) -> ThresherPipeline | None:
        """This transformer with no more than k candidates; None where sentences are selected, which depends on k."""
        if not self.ranking:
            return None
        if self.num_results is not None and k >= self.num_results:
            return self
        made = ThresherPipeline(self.pipeline, k, where=self.where, ranking=True)
        made._costs = self._costs  # one account, also for the pipeline that was not compiled
        return made

    def __repr__(self) -> str:
        return f"ThresherPipeline({self.pipeline!r}, {self.num_results}, where={self.where}, ranking={self.ranking})"


class TextLoader(pt.Transformer):
    """Adds the columns `text` and `title` of passages.

    Args:
        index: an `Index`, a `ThresherIndex`, or the path of one.
        fields: `text`, `title`, a list of them, or `*` for both.
    """

    def __init__(self, index: Index | ThresherIndex | str | Path, fields: Sequence[str] | str = "text") -> None:
        super().__init__()
        self.index = _opened(index)
        self.fields = list(_TEXTS) if fields == "*" else [fields] if isinstance(fields, str) else list(fields)
        if not self.fields or set(self.fields) - set(_TEXTS):
            raise InputError(f"fields are 'text' and 'title', or '*' for both; got {shown(fields)}")
        self.schematic = {"label": "Thresher text", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with texts.

        Raises:
            InputError: the index lacks a docno.
        """
        with pt.validate.any(inp, context=self) as found:
            found.result_frame()
            found.document_frame()
        passages = self.index.passages([str(docno) for docno in inp["docno"]])
        return inp.assign(**{field: [getattr(one, field) for one in passages] for field in self.fields})

    def __repr__(self) -> str:
        return f"TextLoader({str(self.index.path)!r}, {self.fields})"


class ThresherReranker(pt.Transformer):
    """Reranks the rows of each query by `query`, `text` and, where it is there, `title`; sets `score` and `rank`.

    Args:
        reranker: a `TextRanker`, a `Reranker`, or the name of one (`TextRanker`, `Reranker.from_name`).
    """

    def __init__(self, reranker: common.Ranker | str = common.RANKER) -> None:
        super().__init__()
        self.reranker = common.open_reranker(reranker)
        self.schematic = {"label": "Thresher rerank", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows in the reranker's order; queries of a `Reranker` are reranked side by side."""
        pt.validate.result_frame(inp, ["query", "text"], context=self)
        groups = list(_by_query(inp))
        asked = [(Query(qid, str(found[0]["query"])), [_document(row) for row in found]) for qid, found in groups]
        rows = [
            {**group[place], "score": score, "rank": rank}
            for (_, group), order in zip(groups, common.orders(self.reranker, asked), strict=True)
            for rank, (place, score) in enumerate(order)
        ]
        return _frame(rows, [*inp.columns, *(name for name in ("score", "rank") if name not in inp.columns)])

    def __repr__(self) -> str:
        return f"ThresherReranker({self.reranker!r})"


class ThresherPruner(pt.Transformer):
    """Cuts the texts of each query's rows to the sentences that help with it; adds `original` and `spans`.

    Args:
        pruner: a `ContextPruner`, or the name of its sentence scorer.
        threshold: as `ContextPruner.prune`.
        max_tokens: tokens of all rows of a query together; None for no limit.
        keep_empty: keep rows of which nothing is kept, with an empty text; otherwise ranks are counted again.
    """

    def __init__(
        self,
        pruner: ContextPruner | str = common.PRUNER,
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_empty: bool = True,
    ) -> None:
        super().__init__()
        self.pruner = common.open_pruner(pruner)
        self.threshold, self.max_tokens, self.keep_empty = threshold, max_tokens, keep_empty
        self.schematic = {"label": "Thresher prune", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with what is kept of their texts."""
        pt.validate.result_frame(inp, ["query", "text"], context=self)
        rows: list[Row] = []
        for _, group in _by_query(inp):
            found = common.prune(
                self.pruner,
                str(group[0]["query"]),
                [_document(row) for row in group],
                threshold=self.threshold,
                max_tokens=self.max_tokens,
                keep_empty=self.keep_empty,
            )
            for rank, (place, one) in enumerate(found):
                again = {"rank": rank} if "rank" in inp.columns and not self.keep_empty else {}
                details = {"original": one.details["original"], "spans": one.details["spans"]}
                rows.append({**group[place], "text": one.text, **details, **again})
        more = [name for name in ("original", "spans") if name not in inp.columns]
        return _frame(rows, [*inp.columns, *more])

    def __repr__(self) -> str:
        return (
            f"ThresherPruner({self.pruner.scorer.name!r}, threshold={self.threshold!r}, max_tokens={self.max_tokens})"
        )


def _opened(index: object) -> Index:
    if isinstance(index, ThresherIndex):
        return index.opened
    if isinstance(index, str | Path):
        return Index.open(index)
    if isinstance(index, Index):
        return index
    raise InputError(f"an index is an Index, a ThresherIndex or the path of one; got {shown(index)}")


def _by_query(frame: pd.DataFrame) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each query, in the order of their ranks where they have some."""
    ordered = frame.sort_values("rank", kind="stable") if "rank" in frame.columns else frame
    found: dict[str, list[Row]] = {str(qid): [] for qid in frame["qid"]}
    for row in records(ordered):
        found[str(row["qid"])].append(row)
    yield from found.items()


def _frame(rows: list[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def _document(row: Row) -> common.Document:
    details = {name: row[name] for name in ("original", "spans") if name in row}
    return common.Document(str(row["docno"]), str(row["text"]), {"title": title_of(row), common.KEY: details})


def _terms(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise InputError(f"query_toks maps terms to weights; got {shown(value)}")
    return {str(term): float(weight) for term, weight in value.items()}
