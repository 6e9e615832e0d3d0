"""Fitting an estimator on your own judgments or your own log (with scikit-learn), and measuring what it is worth.

On judgments: a passage is wanted where any query grades it `relevant` or higher; a head on the lexical columns
(`features`) learns to tell wanted from other judged passages. On a log: the queries are run against the corpus by
BM25, and the head learns which passages are among the ten best of any query; this distils the log into a scorer of
texts, for passages that arrive later.

Folds are grouped by query and by cluster of near-duplicates (`grouped_folds`): every figure of the report comes from
heads that saw neither the query nor any copy of the passage. Each AUC is reported with that of KL to the collection on
the same passages and the interval of the difference, which is what fitting gained.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from thresher.errors import ArtifactError, ConfigError, InputError, require
from thresher.quality.auc import auc_by_queries, auc_difference, auc_within
from thresher.quality.fitted import FittedEstimator, Head, LinearHead, PerceptronHead, moments, standardise
from thresher.quality.lexical import FEATURES, LEXICAL, CollectionStatistics, feature_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import Passage, Qrels, Query, SparseBatch

Figure: TypeAlias = "float | str | None"
Report: TypeAlias = "Mapping[str, Figure]"

_KL = FEATURES.index("kl")
_TOP = 10
_LINEAR_PENALTY = 3.0
_PURPOSE = "fitting an estimator"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted estimator and the figures it was fitted with.

    Attributes:
        estimator: fitted on everything, standardised on the corpus.
        report: passages, queries, folds, AUC figures (overall, within queries, of KL), as plain JSON.
    """

    estimator: FittedEstimator
    report: Report

    def measured_on(self, name: str, passages: Sequence[Passage], qrels: Qrels, relevant: int) -> Fitted:
        """The same, with figures on a collection that it was not fitted on."""
        texts = [p.contents for p in passages]
        there = FittedEstimator.on(texts, self.estimator.head, self.estimator.columns)
        table = feature_columns(texts, there.statistics)
        judgments = _positions(passages, qrels)
        scores = there.score(texts)
        rest = all(grade >= relevant for judged in judgments.values() for grade in judged.values())
        overall = auc_by_queries(scores, judgments, relevant, rest=rest)
        gain = auc_difference(scores, table[:, _KL], judgments, relevant, rest=rest)
        added: dict[str, Figure] = {
            "unseen": name,
            "unseen_auc": overall[0],
            "unseen_lo": overall[1],
            "unseen_hi": overall[2],
            "unseen_minus_kl": gain[0],
            "unseen_minus_kl_lo": gain[1],
            "unseen_minus_kl_hi": gain[2],
            "unseen_within": auc_within(scores, judgments, relevant, rest=rest)[0],
        }
        return replace(self, report={**self.report, **{k: _plain(v) for k, v in added.items()}})


def fit_on_judgments(
    passages: Sequence[Passage],
    qrels: Qrels,
    *,
    relevant: int = 1,
    head: str = "linear",
    folds: int = 5,
    seed: int = 0,
    similarity: float | None = 0.8,
) -> Fitted:
    """Fit on judgments of the corpus's passages.

    Where no judged passage is graded below `relevant` (collections that only list what is relevant), the unjudged
    passages are taken as the others.

    Args:
        passages: the corpus.
        qrels: judgments; docnos that the corpus does not hold are left out.
        relevant: lowest grade that counts as wanted.
        head: `linear` or `mlp`.
        folds: of the cross-validation.
        seed: of the folds and the head.
        similarity: least Jaccard similarity of passages that must share a fold; None for exact duplicates alone.

    Raises:
        InputError: the corpus is empty, or no judgment is of its passages.
        ConfigError: there is no such head.
    """
    judgments = _positions(passages, qrels)
    if not judgments:
        raise InputError("no judged docno is in the corpus; give the judgments of this corpus")
    best: dict[int, int] = {}
    for judged in judgments.values():
        for row, grade in judged.items():
            best[row] = max(best.get(row, 0), grade)
    wanted = np.zeros(len(passages), bool)
    wanted[[row for row, grade in best.items() if grade >= relevant]] = True
    rows = np.array(sorted(best), np.int64)
    rest = bool(wanted[rows].all())
    if rest:
        rows = np.arange(len(passages), dtype=np.int64)
    texts = [p.contents for p in passages]
    canonical = _clusters(texts, similarity)
    queries, passage_fold, together = grouped_folds(judgments, canonical, folds, seed)
    split = _Split(passage_fold, queries, together, folds, seed)
    return _fit(texts, rows, wanted, _Labels(judgments, relevant, rest), split, head)


def fit_on_log(
    passages: Sequence[Passage],
    queries: Sequence[Query],
    *,
    head: str = "linear",
    folds: int = 5,
    seed: int = 0,
    similarity: float | None = 0.8,
) -> Fitted:
    """Fit on what logged queries retrieve from the corpus by BM25: the first ten of each are wanted.

    Raises:
        InputError: the corpus or the log is empty.
        ConfigError: there is no such head.
    """
    from thresher.encode.bm25 import Bm25Encoder

    if not queries or not passages:
        raise InputError(f"there is nothing to fit on: {len(queries)} queries and {len(passages)} passages")
    texts = [p.contents for p in passages]
    encoder = Bm25Encoder.fit(texts)
    judgments: dict[str, dict[int, int]] = {}
    wanted = np.zeros(len(texts), bool)
    found_by = _scores(encoder.encode_passages(texts), encoder.encode_queries([q.text for q in queries]))
    for query, scores in zip(queries, found_by, strict=True):
        first = np.argsort(-scores, kind="stable")[:_TOP]
        found = first[scores[first] > 0]
        wanted[found] = True
        judgments[query.qid] = {int(row): 1 for row in found}
    judgments = {qid: rows for qid, rows in judgments.items() if rows}
    if not judgments:
        raise InputError("no logged query shares a word with any passage; give the log of this corpus")
    topics, passage_fold, together = grouped_folds(judgments, _clusters(texts, similarity), folds, seed)
    split = _Split(passage_fold, topics, together, folds, seed)
    everything = np.arange(len(texts), dtype=np.int64)
    return _fit(texts, everything, wanted, _Labels(judgments, 1, True), split, head)


def write_fitted(directory: str | Path, fitted: Fitted, *, overwrite: bool = False) -> None:
    """Write the estimator where `QualityEstimator.load` finds it, with its report.

    Raises:
        ArtifactError: `directory` exists and may not be replaced.
    """
    from thresher.artifact import writing

    try:
        with writing(directory, kind="quality-estimator", format=1, overwrite=overwrite) as draft:
            fitted.estimator.save(draft.path)
            (draft.path / "report.json").write_text(json.dumps(fitted.report, indent=1) + "\n", encoding="utf-8")
    except OSError as err:
        raise ArtifactError(f"{directory} cannot be written: {err}") from err


def _scores(passages: SparseBatch, queries: SparseBatch) -> Iterator[NDArray[np.float64]]:
    """The scores of all passages for each query, float64[passages], 0 where no term is shared."""
    order = np.argsort(passages.terms, kind="stable")
    terms, weights = passages.terms[order], passages.weights[order].astype(np.float64)
    owners = np.repeat(np.arange(len(passages)), np.diff(passages.indptr))[order]
    for start, end in pairwise(queries.indptr):
        total = np.zeros(len(passages))
        for term, weight in zip(queries.terms[start:end], queries.weights[start:end], strict=True):
            first, last = np.searchsorted(terms, [term, int(term) + 1])
            total[owners[first:last]] += float(weight) * weights[first:last]
        yield total


@dataclass(frozen=True, slots=True)
class _Labels:
    """Judgments by position, the lowest grade that is wanted, and whether unjudged passages count as not wanted."""

    judgments: Mapping[str, Mapping[int, int]]
    relevant: int
    rest: bool


@dataclass(frozen=True, slots=True)
class _Split:
    """The fold of each passage and query, and whether the two could be kept together."""

    passages: NDArray[np.int64]
    queries: Mapping[str, int]
    together: bool
    folds: int
    seed: int


def _fit(
    texts: Sequence[str],
    rows: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    labels: _Labels,
    split: _Split,
    head: str,
) -> Fitted:
    table = feature_columns(texts, CollectionStatistics.of(texts))
    scores = np.zeros(len(texts))
    for fold in range(split.folds):
        train = rows[split.passages[rows] != fold]
        if not split.together:
            train = _wanted_by_others(train, wanted, labels, split.queries, fold)
        test = split.passages == fold
        scores[test] = _head(head, table[train], wanted[train], split.seed).predict(table[test])
    whole = _on_standardised(_head(head, table[rows], wanted[rows], split.seed), table)
    report: dict[str, Figure] = {
        "passages": len(texts),
        "fitted_on": len(rows),
        "wanted": int(wanted[rows].sum()),
        "queries": len(labels.judgments),
        "folds": split.folds,
        "split_by_query": split.together,
        "head": head,
        **_figures(scores, table, labels),
    }
    return Fitted(FittedEstimator.on(texts, whole, FEATURES), {k: _plain(v) for k, v in report.items()})


def _figures(scores: NDArray[np.float64], table: NDArray[np.float64], labels: _Labels) -> dict[str, Figure]:
    """AUC overall and within queries, and the difference to KL and to length."""
    given = (labels.judgments, labels.relevant)
    report: dict[str, Figure] = {}
    report["auc"], report["auc_lo"], report["auc_hi"] = auc_by_queries(scores, *given, rest=labels.rest)
    report["auc_within"], report["queries_within"] = auc_within(scores, *given, rest=labels.rest)
    for name in ("kl", "length"):
        column = table[:, LEXICAL.index(name)]
        report[f"auc_{name}"] = auc_by_queries(column, *given, rest=labels.rest, groups=0)[0]
        gain = auc_difference(scores, column, *given, rest=labels.rest)
        report[f"minus_{name}"], report[f"minus_{name}_lo"], report[f"minus_{name}_hi"] = gain
    return report


def _plain(value: Figure) -> Figure:
    """Replace NaN with None for JSON."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _wanted_by_others(
    train: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    labels: _Labels,
    query_fold: Mapping[str, int],
    fold: int,
) -> NDArray[np.int64]:
    """`train` without the passages that only queries of the test fold want."""
    kept = np.zeros(len(wanted), bool)
    for qid, judged in labels.judgments.items():
        if query_fold[qid] != fold:
            kept[[row for row, grade in judged.items() if grade >= labels.relevant]] = True
    return train[kept[train] | ~wanted[train]]


def _head(kind: str, columns: NDArray[np.float64], labels: NDArray[np.bool_], seed: int) -> Head:
    if kind == "linear":
        return logistic_head(columns, labels, penalty=_LINEAR_PENALTY)
    if kind == "mlp":
        return perceptron_head(columns, labels, seed=seed)
    raise ConfigError(f"unknown head {kind!r}; choose linear or mlp")


def logistic_head(columns: NDArray[np.float64], labels: NDArray[np.bool_], *, penalty: float = 1.0) -> LinearHead:
    """A linear head fitted by logistic regression.

    Args:
        columns: float64[n, columns].
        labels: bool[n], True where a passage is wanted.
        penalty: of half the squared weights, against a loss summed over the passages.

    Raises:
        InputError: a column is not finite, or all labels are the same.
        MissingExtraError: scikit-learn is not installed.
    """
    linear = require("sklearn.linear_model", extra="train", purpose=_PURPOSE)
    mean, scale = _moments(columns, labels)
    model = linear.LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-8, max_iter=100)
    model.fit(standardise(columns, mean, scale), labels)
    return LinearHead(mean, scale, np.asarray(model.coef_[0], np.float64), float(model.intercept_[0]))


def perceptron_head(
    columns: NDArray[np.float64], labels: NDArray[np.bool_], *, epochs: int = 60, seed: int = 0
) -> PerceptronHead:
    """A head with 16 hidden units, fitted by Adam; arguments and errors as of `logistic_head`."""
    network = require("sklearn.neural_network", extra="train", purpose=_PURPOSE)
    mean, scale = _moments(columns, labels)
    model = network.MLPClassifier(
        (16,), alpha=1e-3, batch_size=min(256, len(columns)), learning_rate_init=3e-3, max_iter=epochs,
        n_iter_no_change=epochs, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():  # it warns that it stopped at max_iter, as intended
        warnings.simplefilter("ignore")
        model.fit(standardise(columns, mean, scale), labels)
    inner = np.vstack([model.coefs_[0], model.intercepts_[0]])
    return PerceptronHead(mean, scale, inner, np.append(model.coefs_[1][:, 0], model.intercepts_[1]))


def _moments(
    columns: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if labels.all() or not labels.any():
        raise InputError("all labels are the same, so a head cannot be fitted")
    if not np.isfinite(columns).all():
        raise InputError("a column holds a value that is not finite")
    return moments(columns)


def _on_standardised(head: Head, table: NDArray[np.float64]) -> Head:
    """The head for columns that are already standardised by the corpus, as `FittedEstimator` gives them."""
    deviation = table.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    return replace(head, mean=(head.mean - table.mean(axis=0)) / scale, scale=head.scale / scale)


def _positions(passages: Sequence[Passage], qrels: Qrels) -> dict[str, dict[int, int]]:
    rows = {p.docno: row for row, p in enumerate(passages)}
    if not rows:
        raise InputError("the corpus has no passages")
    judgments = {
        qid: {rows[docno]: grade for docno, grade in judged.items() if docno in rows}
        for qid, judged in qrels.judgments.items()
    }
    return {qid: judged for qid, judged in judgments.items() if judged}


def _clusters(texts: Sequence[str], similarity: float | None) -> NDArray[np.int64]:
    """The canonical passage of each; of exact duplicates only if the extra for near-duplicates is not installed."""
    from thresher.errors import MissingExtraError
    from thresher.quality.duplicates import fold_duplicates

    try:
        return fold_duplicates(texts, similarity=similarity).canonical
    except MissingExtraError:
        return fold_duplicates(texts, similarity=None).canonical


# folds ----------------------------------------------------------------------------------------------------------------


def passage_folds(canonical: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each passage, int64[n]; passages with the same canonical passage share a fold, drawn at random.

    Raises:
        InputError: there are fewer clusters than folds.
    """
    clusters, inverse = np.unique(canonical, return_inverse=True)
    if folds < 2 or len(clusters) < folds:
        raise InputError(
            f"{len(clusters)} clusters of passages cannot be cut into {folds} folds; at least two are needed"
        )
    dealt = np.empty(len(clusters), np.int64)
    dealt[np.random.default_rng(seed).permutation(len(clusters))] = np.arange(len(clusters)) % folds
    result: NDArray[np.int64] = dealt[inverse]
    return result


def grouped_folds(
    judgments: Mapping[str, Mapping[int, int]], canonical: NDArray[np.int64], folds: int, seed: int
) -> tuple[dict[str, int], NDArray[np.int64], bool]:
    """Folds of queries and of judged passages together.

    A passage judged for two queries ties them together; near-duplicates tie passages together. The groups are the
    connected components of that graph, so a fold never holds a query, a passage, or a copy of a passage that another
    fold holds.

    Args:
        judgments: query to passage position to grade.
        canonical: the canonical passage of each, int64[n].
        folds: number of folds.
        seed: random seed.

    Returns:
        The fold of each query, the fold of each passage (int64[n]), and whether queries and passages could be kept
        together. Where they could not (the largest component holds more than half of the judgments: nearly all queries
        of NFCorpus are one component), passages are dealt out by cluster and queries at random, and only a judgment
        whose two folds agree may be used for testing.
    """
    graphs = require("scipy.sparse.csgraph", extra="train", purpose=_PURPOSE)
    sparse = require("scipy.sparse", extra="train", purpose=_PURPOSE)
    selection = require("sklearn.model_selection", extra="train", purpose=_PURPOSE)
    qids, n = sorted(judgments), len(canonical)
    judged = np.repeat(np.arange(len(qids)), [len(judgments[qid]) for qid in qids])
    rows = np.concatenate([n + judged, np.arange(n)])
    columns = np.concatenate([np.array([p for qid in qids for p in judgments[qid]], np.int64), canonical])
    edges = sparse.coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n + len(qids),) * 2)
    component = graphs.connected_components(edges, directed=False)[1].astype(np.int64)
    groups = component[n + judged]  # of each judgment
    sizes = np.unique(groups, return_counts=True)[1]
    if not len(sizes) or 2 * sizes.max() > sizes.sum() or len(sizes) < folds:
        dealt = np.random.default_rng(seed).permutation(len(qids)) % folds
        return {q: int(f) for q, f in zip(qids, dealt, strict=True)}, passage_folds(canonical, folds, seed), False
    fold_of = passage_folds(np.arange(component.max() + 1), folds, seed)  # of components without judgments
    split = selection.GroupKFold(folds).split(groups, groups=groups)
    for number, (_, held_out) in enumerate(split):
        fold_of[groups[held_out]] = number
    return {qid: int(fold_of[component[n + i]]) for i, qid in enumerate(qids)}, fold_of[component[:n]], True
