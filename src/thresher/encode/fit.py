"""Training the head of an `ExpansionEncoder` by distillation.

A question comes with candidate passages and a teacher's score for each: MiniLM's cosine, plus a share of BM25 and of a
judgment where there is one. The head's scores for the candidates are trained towards the teacher's by the Kullback-Leibler
divergence of their softmax distributions, as in SPLADE-v3 and the inference-free encoders of Geng et al. (arXiv
2411.04403), with FLOPS and L1 regularisation (Paria et al., ICLR 2020) on random passages and word pieces.

MiniLM stays as it is, so a passage is its pooled vector and its word-piece counts: a step costs a few GFLOP, and a head is
trained on one core in minutes. The expansion matrix starts from the ridge regression of a passage's BM25-weighted
mean word-piece embedding on its vector; the question weights start from idf.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.expansion import _CONFIG, _FIRST_TERM, _TENSORS, _TYPE
from thresher.errors import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FitSettings", "Questions", "fit_head", "save_head"]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to train; the defaults are those of `thresher-mini`.

    Attributes:
        steps: optimiser steps.
        batch: questions a step.
        candidates: passages drawn from a question's list at each step.
        rate: learning rate of the matrices; biases and question weights learn six times as fast.
        temperature: of the teacher's softmax.
        regularisation: weight of the sparsity term.
        rank: of the learned table that moves the tied embeddings; 0 for none.
        k1, b, average: BM25's saturation of a passage's own pieces, and the length it takes as the average.
        max_tokens: what MiniLM reads of a passage.
        max_active_terms: terms kept of a passage, at encoding.
        seed: of everything drawn.
    """

    steps: int = 2000
    batch: int = 128
    candidates: int = 48
    rate: float = 2e-3
    temperature: float = 0.05
    regularisation: float = 1e-3
    rank: int = 0
    k1: float = 0.9
    b: float = 0.4
    average: float = 60.0
    max_tokens: int = 256
    max_active_terms: int = 128
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Questions:
    """Training questions with candidates; n questions of at most l word pieces, k candidates each.

    Attributes:
        terms: int64[n, l] word pieces, 0 where there is none.
        counts: float32[n, l] how often each occurs, 0 where there is none.
        candidates: int64[n, k] rows of passages.
        frequencies: uint8[n, k, l] how often each question piece occurs in each candidate.
        teacher: float32[n, k] scores to be learned.
        weights: float64[n] how often a question is drawn, relative to the others.
    """

    terms: NDArray[np.int64]
    counts: NDArray[np.float32]
    candidates: NDArray[np.int64]
    frequencies: NDArray[np.uint8]
    teacher: NDArray[np.float32]
    weights: NDArray[np.float64]
