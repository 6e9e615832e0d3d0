"""What `training.encode.train` learns from: candidates of every query, with each teacher's score.

Signals: BM25 (`lexical`), MiniLM (`dense`), all-mpnet-base-v2 (`mpnet`), the model that training starts from
(`start`), and the same with SPLADE-v3's query weights (`v3`, for queries that have them). Every signal is standardised
over a query's candidates. The teacher is their weighted sum; the weights are those, of a small grid, that rank the
judged training queries best. A judged passage gets its grade on top.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from training.encode.networks import WIDTH, Body, Mlm, read_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CANDIDATES, BEST, DEEP = 256, 40, 1000
_UNITS = {"bm25_passage": 255, "v3": 64}
SIGNALS = ("lexical", "dense", "mpnet", "start", "v3")
GRADE = 1.0
"""What a judged relevant passage gets on top, in standard deviations, times its grade over the query's best grade."""


class Data(NamedTuple):
    """What `training.encode.prepare` packed.

    Attributes:
        passages, queries: word pieces of each, int64[l].
        kind, scope, held: of each query: number of its kind, first and last row it looks through, whether to choose by.
        kinds, shares: the kinds, and how often each is drawn.
        judged: of each query, row to grade.
        raw: the other arrays.
    """

    passages: list[Tensor]
    queries: list[Tensor]
    kind: np.ndarray
    scope: np.ndarray
    held: np.ndarray
    kinds: list[str]
    shares: np.ndarray
    judged: list[dict[int, int]]
    raw: dict[str, np.ndarray]


class Held(NamedTuple):
    """A set to choose by: query numbers, the rows searched, and the scores of BM25 and MiniLM, float32[n, rows]."""

    name: str
    queries: list[int]
    first: int
    last: int
    lexical: Tensor
    dense: Tensor


def read_data(folders: Sequence[Path]) -> Data:
    """Read `data.npz` in one of `folders`."""
    file = next(file for folder in folders for file in [Path(folder) / "data.npz"] if file.is_file())
    with np.load(file, allow_pickle=False) as held:
        raw = {key: held[key] for key in held.files}

    def rows(name: str) -> list[Tensor]:
        pieces = torch.from_numpy(raw[f"{name}_pieces"].astype(np.int64))
        return list(torch.split(pieces, raw[f"{name}_lengths"].astype(int).tolist()))

    queries = rows("query")
    judged: list[dict[int, int]] = [{} for _ in queries]
    for query, row, grade in raw["judged"].tolist():
        judged[query][row] = grade
    scope = raw["scopes"][raw["query_scope"]]
    kinds = [str(kind) for kind in raw["kinds"]]
    return Data(
        rows("passage"), queries, raw["query_kind"], scope, raw["query_held"], kinds, raw["shares"], judged, raw
    )


class Signals:
    """Scores of any query for all passages of its scope."""

    def __init__(self, data: Data, folders: Sequence[Path], device: str, log: Any) -> None:
        self.data, self.device = data, device
        self.vectors: dict[str, tuple[Tensor, Tensor]] = {}
        for name in ("minilm", "mpnet"):
            tensors = read_weights(folders, name)
            if not tensors:
                log(f"no {name}")
                continue
            body = Body(tensors, 12)
            body.to(device)
            self.vectors[name] = (body.vectors(data.queries, device), body.vectors(data.passages, device))
            log(f"{name}: {len(data.passages)} passages")
        start = Mlm(read_weights(folders, "splade"), 2)
        start.to(device)
        self.passages, self.queries = (
            start.encode(data.passages, device, None),
            start.encode(data.queries, device, None),
        )
        log(f"start: {float((self.passages > 0).sum(1).float().mean()):.0f} terms a passage")
        self.terms = int(data.raw["bm25_query_terms"].max()) + 1
        self.kind = torch.float16 if device != "cpu" else torch.float32

    def sparse(self, name: str, rows: np.ndarray, width: int) -> Tensor:
        """Rows of a packed sparse matrix, dense float[n, width]."""
        raw = self.data.raw
        counts = raw[f"{name}_counts"].astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(counts)])
        at = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in rows]) if len(rows) else np.zeros(0, np.int64)
        row = torch.from_numpy(np.repeat(np.arange(len(rows)), counts[rows]))
        term = torch.from_numpy(raw[f"{name}_terms"][at].astype(np.int64))
        weight = torch.from_numpy(raw[f"{name}_weights"][at].astype(np.float32) / _UNITS.get(name, 1))
        out = torch.zeros(len(rows), width, device=self.device, dtype=self.kind)
        out[row.to(self.device), term.to(self.device)] = weight.to(self.device, self.kind)
        return out

    def scores(self, rows: np.ndarray, first: int, last: int, lexical: Tensor) -> dict[str, Tensor]:
        """Each signal's scores of queries `rows` for passages `first` to `last`, float32[n, last - first].

        `lexical` is `sparse("bm25_passage", ...)` of those passages.
        """
        at = torch.from_numpy(rows).to(self.device)
        found = {"lexical": (self.sparse("bm25_query", rows, self.terms) @ lexical.T).float()}
        for name, kept in (("dense", "minilm"), ("mpnet", "mpnet")):
            if kept in self.vectors:
                queries, passages = self.vectors[kept]
                found[name] = queries[at] @ passages[first:last].T
        passages = self.passages[first:last].to(self.kind)
        found["start"] = (self.queries[at].to(self.kind) @ passages.T).float()
        v3 = self.sparse("v3", rows, WIDTH)
        if bool((v3 > 0).any()):
            found["v3"] = (v3 @ passages.T).float()
        return found


class Lists(NamedTuple):
    """Candidates of the training queries.

    Attributes:
        queries: int64[n] query numbers.
        rows: int64[n, k] passages.
        scores: of each signal, float32[n, k]: `lexical` as BM25 gives them, the others standardised.
        teacher: float32[n, k].
    """

    queries: Tensor
    rows: Tensor
    scores: dict[str, Tensor]
    teacher: Tensor


def standard(x: Tensor) -> Tensor:
    """Rows of mean 0 and standard deviation 1."""
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + 1e-6)


def candidate_lists(signals: Signals, log: Any, seed: int = 5) -> tuple[Lists, list[Held], dict[str, float]]:
    """Candidates of the training queries with the teacher's scores, the held-out sets, the teacher's weights."""
    data, device = signals.data, signals.device
    torch.manual_seed(seed)
    parts: list[tuple[Tensor, Tensor, dict[str, Tensor], Tensor]] = []
    held: list[Held] = []
    for first, last in sorted({(int(a), int(b)) for a, b in data.scope.tolist()}):
        mine = np.flatnonzero((data.scope == (first, last)).all(1))
        lexical = signals.sparse("bm25_passage", np.arange(first, last), signals.terms)
        for kind in sorted(set(data.kind[mine][data.held[mine]])):
            chosen = mine[data.held[mine] & (data.kind[mine] == kind)]
            scores = signals.scores(chosen, first, last, lexical)
            held.append(Held(data.kinds[kind], chosen.tolist(), first, last, scores["lexical"], scores["dense"]))
        learning = mine[~data.held[mine]]
        for low in range(0, len(learning), 256):
            rows = learning[low : low + 256]
            with torch.no_grad():
                parts.append(_listed(data, rows, first, signals.scores(rows, first, last, lexical), device))
        log(f"candidates in {first}:{last}, {len(learning)} queries")
    queries = torch.cat([part[0] for part in parts])
    rows = torch.cat([part[1] for part in parts])
    scores = {name: torch.cat([part[2][name] for part in parts]) for name in SIGNALS}
    grades = torch.cat([part[3] for part in parts])
    weights = _best_weights(data, queries, scores, grades, log)
    unit = {**scores, "lexical": standard(scores["lexical"])}
    mixed = sum((weights[name] * unit[name] for name in SIGNALS), torch.zeros_like(grades))
    has_v3 = scores["v3"].abs().sum(1, keepdim=True) > 0
    mixed = mixed + torch.where(has_v3, 0.25 * (scores["v3"] - scores["start"]), 0)
    teacher = standard(mixed) + GRADE * grades
    return Lists(queries, rows, scores, teacher), held, weights


def _listed(
    data: Data, rows: np.ndarray, first: int, scores: dict[str, Tensor], device: str
) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
    """Candidates of some queries: the judged, the best of each signal, and others of its first thousand."""
    n, size = scores["lexical"].shape
    priority = torch.rand(n, size, device=device)
    for name, values in scores.items():
        deep = values.topk(min(DEEP if name != "v3" else BEST, size), dim=1).indices
        priority.scatter_add_(1, deep, torch.ones_like(deep, dtype=torch.float32))
        priority.scatter_add_(1, deep[:, :BEST], torch.full_like(deep[:, :BEST], 10, dtype=torch.float32))
    graded = np.zeros((n, size), np.float32)
    for i, query in enumerate(rows.tolist()):
        best = max(data.judged[query].values(), default=0)
        for row, grade in data.judged[query].items():
            graded[i, row - first] = grade / best if grade > 0 else -0.5
    grades = torch.from_numpy(graded).to(device)
    priority += 100 * (grades > 0) + 5 * (grades < 0)
    chosen = priority.topk(min(CANDIDATES, size), dim=1).indices
    if chosen.shape[1] < CANDIDATES:  # a tiny collection: the last ones again
        chosen = torch.cat([chosen, chosen[:, -1:].expand(-1, CANDIDATES - chosen.shape[1])], 1)
    kept = {name: standard(values.gather(1, chosen)) for name, values in scores.items() if name != "lexical"}
    kept["lexical"] = scores["lexical"].gather(1, chosen)
    for name in SIGNALS:
        kept.setdefault(name, torch.zeros(n, CANDIDATES, device=device))
    return torch.from_numpy(rows).to(device), chosen + first, kept, grades.gather(1, chosen)


def _best_weights(data: Data, queries: Tensor, scores: dict[str, Tensor], grades: Tensor, log: Any) -> dict[str, float]:
    """The weights of standardised signals that rank the judged training queries best, each kind counting the same."""
    kinds = data.kind[queries.cpu().numpy()]
    wanted = [i for i, kind in enumerate(data.kinds) if kind in ("dl21", "scifact", "nfcorpus", "qa", "own")]
    unit = {**scores, "lexical": standard(scores["lexical"])}
    best: tuple[float, dict[str, float]] = (-1.0, {})
    for mpnet, start, lexical in itertools.product((0.0, 0.25, 0.5, 0.75), (0.0, 0.25, 0.5), (0.15, 0.3)):
        weights = {"lexical": lexical, "dense": 0.5 - 0.25 * (mpnet > 0.25), "mpnet": mpnet, "start": start, "v3": 0.0}
        mixed = sum((weights[name] * unit[name] for name in SIGNALS), torch.zeros_like(grades))
        figures = {}
        for kind in wanted:
            mine = torch.from_numpy(kinds == kind).to(mixed.device)
            if bool(mine.any()):
                figures[data.kinds[kind]] = float(ndcg(mixed[mine], grades[mine].clamp_min(0)).mean())
        mean = float(np.mean(list(figures.values()))) if figures else 0.0
        shown = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        log(f"teacher mpnet {mpnet} start {start} bm25 {lexical}: {mean:.4f} ({shown})")
        best = max(best, (mean, weights), key=lambda pair: pair[0])
    return best[1]


def ndcg(scores: Tensor, gains: Tensor, k: int = 10) -> Tensor:
    """nDCG@k of each row with linear gains, float[n]; 0 where nothing is relevant."""
    discount = 1 / torch.log2(torch.arange(2, k + 2, device=scores.device).float())
    got = gains.gather(1, scores.topk(k, dim=1).indices)
    ideal = (gains.topk(k, dim=1).values * discount).sum(1)
    return (got * discount).sum(1) / ideal.clamp_min(1e-9)
