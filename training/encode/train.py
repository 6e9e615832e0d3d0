"""Fine-tune thresher-mini on a GPU: torch and numpy alone, from what `training.encode.prepare` packed.

    python -m training.encode.train --packs pack --out out --seconds 280

A small SPLADE model is taught to rank as its teachers do *when its score is added to BM25's and MiniLM's*, so that
what it learns is what those lack (residual training as in CLEAR, Gao et al., arXiv 2004.13969, with a third signal).
For the candidates of a query, three mixtures are trained towards the teacher by the Kullback-Leibler divergence of
their softmax: the model alone, BM25 plus the model, and that standardised plus MiniLM standardised. FLOPS (Paria et
al., ICLR 2020) keeps rows sparse; its weight follows the number of terms, to hold the wanted one.

Two query sides: `encoder` (the same model reads queries) and `table` (a weight for every word piece, inference-free).
Several variants run side by side, each a process of its own on the same device. At the end each variant is measured on
the held-out topics at several points between the start and the trained weights (WiSE-FT, Wortsman et al., arXiv
2109.01903), and `NAME.npz` (weights in half precision, and the settings as JSON) is written
before, the figures are printed. `--steps` ends early.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.encode.networks import WIDTH, Mlm, Padded, read_weights
from training.encode.signals import Data, Held, Lists, Signals, candidate_lists, ndcg, read_data, standard

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (0.3, 0.5, 0.8)
"""Factors of the model's score added to BM25's, of which the best is told."""


@dataclass
class Settings:
    """How a variant is trained.

    Attributes:
        queries: `encoder` or `table`.
        rate: learning rate; that of the table is 100 times it, that of scales 10 times.
        alone, lexical, mixed: weights of the three divergences.
        terms, query_terms: active terms that FLOPS holds, of a passage and of a query.
        batch, candidates: queries a step, and candidates of each.
        temperature: of the softmax of standardised scores.
        seed: of what is drawn.
    """

    queries: str = "encoder"
    rate: float = 2e-4
    alone: float = 0.5
    lexical: float = 1.0
    mixed: float = 1.0
    terms: float = 120.0
    query_terms: float = 25.0
    batch: int = 24
    candidates: int = 40
    temperature: float = 0.4
    seed: int = 1


VARIANTS = {
    "encoder": Settings(),
    "table": Settings(queries="table", alone=1.0),
    "encoder-fast": Settings(rate=6e-4),
    "table-fast": Settings(queries="table", rate=6e-4, alone=1.0),
}
START = time.time()
FOR_FIGURES = 60
"""Seconds that are left for measuring, on a GPU that others use too."""


def log(line: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.time() - START:.0f}s] {line}", flush=True)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="folders of the packed files")
    parser.add_argument("--out", type=Path, required=True, help="folder of weights and figures")
    parser.add_argument("--seconds", type=float, default=280, help="everything in all, figures too")
    parser.add_argument("--steps", type=int, default=10**9, help="at most, of each variant")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)  # set for the process of one variant
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    options.out.mkdir(parents=True, exist_ok=True)
    if options.prepared is not None:
        train(options, options.variants[0], device)
        return
    data = read_data(options.packs)
    lists, held, weights = candidate_lists(Signals(data, options.packs, device, log), log)
    log(f"teacher {weights}, {len(lists.queries)} queries")
    prepared = Path(tempfile.mkdtemp()) / "prepared.pt"
    torch.save({"lists": tuple(lists), "held": [tuple(one) for one in held], "teacher": weights}, prepared)
    del lists, held
    if device != "cpu":
        torch.cuda.empty_cache()
    running = []
    for name in options.variants:
        command = [sys.executable, "-m", "training.encode.train", "--packs", *map(str, options.packs)]
        command += ["--out", str(options.out), "--steps", str(options.steps), "--variants", name]
        command += ["--seconds", str(options.seconds - (time.time() - START)), "--prepared", str(prepared)]
        running.append(subprocess.Popen(command))
    failed = [name for name, process in zip(options.variants, running, strict=True) if process.wait() != 0]
    prepared.unlink()
    log(f"done; failed: {failed or 'none'}")
    sys.exit(1 if failed else 0)


class Learner:
    """The model and query side under training."""

    def __init__(self, settings: Settings, data: Data, tensors: dict[str, Tensor], device: str) -> None:
        self.settings, self.device, self.data = settings, device, data
        self.passages, self.queries = Padded(data.passages, device), Padded(data.queries, device)
        self.model = Mlm(tensors, 2)
        self.model.to(device)
        self.start = {name: value.clone() for name, value in self.model.get.items()}
        self.table_start = first_table(data).to(device)
        self.table = self.table_start.clone()
        self.scales = torch.tensor([math.log(0.5), 0.0], device=device)  # log of the factor beside BM25; of that alone
        for value in [*self.model.get.values(), self.table, self.scales]:
            value.requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their learning rates."""
        rate = self.settings.rate
        found = [
            {"params": list(self.model.get.values()), "lr": rate},
            {"params": [self.scales], "lr": 10 * rate},
        ]
        return found + ([{"params": [self.table], "lr": 100 * rate}] if self.settings.queries == "table" else [])

    def states(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Transformed states of passages, [n, L, width], and which places are filled; in four parts by length."""
        order = self.passages.lengths[rows].argsort(descending=True)
        ids, filled = self.passages.take(rows[order])
        parts = []
        for part, places in zip(ids.chunk(4), filled.chunk(4), strict=True):
            longest = int(places.any(0).sum())
            states = self.model.transformed(part[:, :longest], places[:, :longest])
            parts.append(torch.nn.functional.pad(states, (0, 0, 0, ids.shape[1] - longest)))
        back = order.argsort()
        return torch.cat(parts)[back], filled[back]

    def query_rows(self, rows: Tensor) -> Tensor:
        """Weights of queries, float32[n, V]."""
        if self.settings.queries == "encoder":
            ids, filled = self.queries.take(rows)
            return self.model.rows(self.model.transformed(ids, filled), filled)
        pieces = [self.data.queries[i] for i in rows.tolist()]
        return table_rows(torch.nn.functional.softplus(self.table), pieces, self.device)

    def scores(self, asked: Tensor, states: Tensor, filled: Tensor) -> Tensor:
        """Scores float32[q, k] of passages whose states are [q * k, L, width]."""
        q = asked.shape[0]
        most = int((asked > 0).sum(1).max().clamp(1, 96))
        weights, terms = asked.topk(most, dim=1)
        n, length, width = states.shape
        states, filled = states.view(q, n // q, length, width), filled.view(q, n // q, length)
        logits = torch.einsum("qklw,qtw->qklt", states, self.model.decoder[terms])
        logits = logits.masked_fill(~filled[..., None], -1e4).amax(2) + self.model.bias[terms][:, None]
        return (torch.log1p(torch.relu(logits)) * weights[:, None]).sum(-1)


def table_rows(table: Tensor, rows: list[Tensor], device: str) -> Tensor:
    """Each word piece of a query once, with its weight, float32[n, V]."""
    row = torch.cat([torch.full((len(unique),), i) for i, unique in enumerate(map(torch.unique, rows))]).to(device)
    term = torch.cat([torch.unique(pieces) for pieces in rows]).to(device)
    return torch.zeros(len(rows), WIDTH, device=device).index_put((row, term), table[term])


def divergence(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the softmax of scores from the teacher's, mean over queries."""
    ours, theirs = (torch.log_softmax(x / temperature, 1) for x in (scores, teacher))
    return (theirs.exp() * (theirs - ours)).sum(1).mean()


def first_table(data: Data) -> Tensor:
    """Where the table starts, before softplus: a quarter of the idf over the packed passages."""
    frequency = torch.zeros(WIDTH)
    for row in data.passages:
        frequency[torch.unique(row)] += 1
    idf = torch.log(1 + (len(data.passages) - frequency + 0.5) / (frequency + 0.5))
    return torch.log(torch.expm1((idf / 4).clamp_min(0.05)))


def train(options: argparse.Namespace, name: str, device: str) -> None:
    """Train one variant, measure it, write weights and figures."""
    settings = VARIANTS[name]
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    data = read_data(options.packs)
    prepared = torch.load(options.prepared, map_location=device, weights_only=True)
    lists, held = Lists(*prepared["lists"]), [Held(*one) for one in prepared["held"]]
    learner = Learner(settings, data, read_weights(options.packs, "splade"), device)
    left = options.seconds - (time.time() - START) - (FOR_FIGURES if device != "cpu" else 0)
    steps = fit(learner, data, lists, rng, name, min(left, options.seconds), options.steps)
    figures = {"settings": asdict(settings), "teacher": prepared["teacher"], "steps": steps}
    arrays = {key: value.detach().cpu().numpy().astype(np.float16) for key, value in learner.model.get.items()}
    table = torch.nn.functional.softplus(learner.table).detach().cpu().numpy().astype(np.float16)
    arrays |= {"table": table, "scales": learner.scales.detach().cpu().numpy()}
    np.savez_compressed(options.out / f"{name}.npz", figures=np.array(json.dumps(figures)), **arrays)  # type: ignore[arg-type]
    log(f"{name}: written")
    with torch.no_grad():
        for share in (0.0, 0.25, 0.5, 1.0):
            tensors = {
                key: (1 - share) * value + share * learner.model.get[key] for key, value in learner.start.items()
            }
            found = measured(learner, data, held, tensors, learner.table)
            figures[f"share {share}"] = found
            log(f"{name}: share {share} {shown(found)}")
    log(f"{name}: {json.dumps(figures)}")


def fit(
    learner: Learner, data: Data, lists: Lists, rng: np.random.Generator, name: str, seconds: float, steps: int
) -> int:
    """Train for so many seconds or steps; the number of steps taken."""
    settings, device, began = learner.settings, learner.device, time.time()
    optimiser = torch.optim.AdamW(learner.groups(), weight_decay=0.0)
    rates = [group["lr"] for group in optimiser.param_groups]
    kinds = data.kind[lists.queries.cpu().numpy()]
    share = data.shares[kinds] / np.bincount(kinds, minlength=len(data.kinds))[kinds]
    share /= share.sum()
    pressure, step, running = [1e-3, 1e-3], 0, 0.0
    while step < steps and time.time() - began < seconds:
        done = max((time.time() - began) / seconds, step / steps)
        factor = min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        drawn = torch.from_numpy(rng.choice(len(share), settings.batch, p=share, replace=False)).to(device)
        ranking, sparsity, counts = losses(learner, lists, drawn, pressure)
        optimiser.zero_grad()
        torch.autograd.backward(ranking + sparsity)
        torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
        optimiser.step()
        for i, wanted in enumerate((settings.terms, settings.query_terms)):
            pressure[i] = float(np.clip(pressure[i] * (1.02 if counts[i] > wanted else 1 / 1.02), 1e-6, 1.0))
        running = float(ranking.detach()) if step == 0 else 0.98 * running + 0.02 * float(ranking.detach())
        if step % 100 == 0:
            log(f"{name}: step {step} loss {running:.4f} terms {counts[0]:.0f}, {counts[1]:.0f} pressure {pressure}")
        step += 1
    log(f"{name}: {step} steps, loss {running:.4f}")
    return step


def losses(
    learner: Learner, lists: Lists, drawn: Tensor, pressure: list[float]
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """The three divergences, the price of active terms, and active terms a passage and a query."""
    settings = learner.settings
    k, size = settings.candidates, lists.rows.shape[1]
    order = lists.teacher[drawn]
    ranks = order.argsort(1, descending=True).argsort(1)
    priority = torch.rand(order.shape, device=order.device) + (ranks < k // 3).float()
    priority = priority + (ranks < size // 3).float() * 0.3
    chosen = priority.topk(k, dim=1).indices
    teacher = order.gather(1, chosen)
    passages = lists.rows[drawn].gather(1, chosen).flatten()
    states, filled = learner.states(passages)
    asked = learner.query_rows(lists.queries[drawn])
    scores = learner.scores(asked, states, filled)
    lexical = lists.scores["lexical"][drawn].gather(1, chosen)
    dense = lists.scores["dense"][drawn].gather(1, chosen)
    summed = lexical + scores * learner.scales[0].exp()
    target = standard(teacher)
    ranking = settings.alone * divergence(standard(scores) * learner.scales[1].exp(), target, settings.temperature)
    ranking = ranking + settings.lexical * divergence(standard(summed), target, settings.temperature)
    both = standard(0.5 * standard(summed) + 0.5 * dense)
    ranking = ranking + settings.mixed * divergence(both, target, settings.temperature)
    some = torch.randperm(len(passages), device=order.device)[:64]
    rows = learner.model.rows(states[some], filled[some])
    sparsity = pressure[0] * ((rows.mean(0) ** 2).sum() + 0.01 * rows.sum(1).mean())
    if settings.queries == "encoder":
        sparsity = sparsity + pressure[1] * ((asked.mean(0) ** 2).sum() + 0.01 * asked.sum(1).mean())
    else:
        sparsity = sparsity + 1e-3 * (asked.sum(1).mean() - 6).relu()
    return ranking, sparsity, (float((rows > 0).sum(1).float().mean()), float((asked > 0).sum(1).float().mean()))


# figures ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measured(
    learner: Learner, data: Data, held: list[Held], tensors: dict[str, Tensor], table: Tensor
) -> dict[str, dict[str, float]]:
    """nDCG@10 and recall of some weights on the held-out topics: alone, with BM25, with both; means at the end."""
    model = Mlm(tensors, 2)
    out: dict[str, dict[str, float]] = {}
    for one in held:
        asked = [data.queries[i] for i in one.queries]
        weights = torch.nn.functional.softplus(table)
        if learner.settings.queries == "encoder":
            rows = model.encode(asked, learner.device, 64).float()
        else:
            rows = table_rows(weights, asked, learner.device)
        passages = model.encode(data.passages[one.first : one.last], learner.device, 192)
        scores = torch.stack([(row[row > 0] * passages[:, row > 0].float()).sum(1) for row in rows])
        figures = {"alone": scores, "bm25": one.lexical, "dense": one.dense}
        figures["bm25+dense"] = mixture(one.lexical, one.dense)
        for weight in WEIGHTS:
            figures[f"bm25+{weight}"] = one.lexical + weight * scores
            figures[f"mixed {weight}"] = mixture(one.lexical + weight * scores, one.dense)
        gains = torch.zeros_like(scores)
        known = torch.zeros_like(scores, dtype=torch.bool)
        for i, query in enumerate(one.queries):
            for row, grade in data.judged[query].items():
                gains[i, row - one.first], known[i, row - one.first] = max(0, grade), True
        found = {name: float(ndcg(values, gains).mean()) for name, values in figures.items()}
        found["R@100"] = recall(scores, gains)
        found["R@100 mixed"] = recall(figures["mixed 0.5"], gains)
        for name in ("alone", "mixed 0.5"):
            condensed = figures[name].masked_fill(~known, -1e9)
            found[f"{name}, condensed"] = float(ndcg(condensed, gains).mean())
        found["terms"] = float((passages > 0).sum(1).float().mean())
        found["query terms"] = float((rows > 0).sum(1).float().mean())
        out[one.name] = {name: round(value, 4) for name, value in found.items()}
    names = [f"mixed {weight}" for weight in WEIGHTS]
    best = max(float(np.mean([one[name] for one in out.values()])) for name in names)
    alone = float(np.mean([one["alone"] for one in out.values()]))
    out["mean"] = {"mixed": round(best, 4), "alone": round(alone, 4)}
    return out


def mixture(lexical: Tensor, dense: Tensor) -> Tensor:
    """Half of each, standardised over the first thousand of either; others come last."""
    found = torch.zeros_like(lexical, dtype=torch.bool)
    deep = min(1000, lexical.shape[1])
    for scores in (lexical, dense):
        found.scatter_(1, scores.topk(deep, dim=1).indices, True)
    out = torch.zeros_like(lexical)
    for scores in (lexical, dense):
        count = found.sum(1, keepdim=True)
        mean = (scores * found).sum(1, keepdim=True) / count
        deviation = (((scores - mean) * found) ** 2).sum(1, keepdim=True).div(count).sqrt()
        out += 0.5 * (scores - mean) / (deviation + 1e-6)
    return out.masked_fill(~found, -1e9)


def recall(scores: Tensor, gains: Tensor, k: int = 100) -> float:
    """Share of the relevant among the first k, mean over queries."""
    found = gains.gather(1, scores.topk(min(k, scores.shape[1]), dim=1).indices) > 0
    return float((found.sum(1) / (gains > 0).sum(1).clamp_min(1)).mean())


def shown(figures: dict[str, dict[str, float]]) -> str:
    """A line of the figures that matter."""
    parts = [
        f"{name}: alone {one['alone']:.4f} +bm25 {one['bm25+0.5']:.4f} mixed {one['mixed 0.5']:.4f} "
        f"(without {one['bm25+dense']:.4f}) R {one['R@100']:.3f} terms {one['terms']:.0f}/{one['query terms']:.0f}"
        for name, one in figures.items()
        if name != "mean"
    ]
    return f"mean {figures['mean']}; " + "; ".join(parts)


if __name__ == "__main__":
    main()
