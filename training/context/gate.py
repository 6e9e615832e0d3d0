"""Fitting of a retrieval gate (`thresher.context.gate`) on a reader's own drafts, and choosing its threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thresher.context.gate import LogisticGate, feature_matrix
from thresher.errors import InputError
from training.context.learners import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.context.gate import Draft


def fit_gate(drafts: Sequence[Draft], needed: Sequence[bool], *, penalty: float = 1.0) -> LogisticGate:
    """Fit a gate.

    Args:
        drafts: what the reader said without retrieval.
        needed: whether retrieval helped it, one for each draft: both answers must occur.
        penalty: on the squares of the weights; above 0.

    Raises:
        InputError: lengths differ, or only one answer occurs.
    """
    if len(drafts) != len(needed) or len(set(map(bool, needed))) < 2:
        raise InputError(f"{len(drafts)} drafts and {len(needed)} marks: give one mark a draft, and both kinds of them")
    return LogisticGate(fit_logistic(feature_matrix(drafts), np.array(needed, dtype=np.float64), penalty=penalty))


def choose_threshold(probabilities: Sequence[float], needed: Sequence[bool], *, recall: float = 0.95) -> float:
    """The highest threshold at which at least `recall` of the needed retrievals happen.

    Raises:
        InputError: no retrieval was needed, or `recall` is not in (0, 1].
    """
    wanted = sorted((p for p, n in zip(probabilities, needed, strict=True) if n), reverse=True)
    if not wanted or not 0 < recall <= 1:
        raise InputError(
            f"{len(wanted)} needed retrievals and recall={recall}: give at least one, and a share in (0, 1]"
        )
    return wanted[math.ceil(recall * len(wanted) - 1e-9) - 1]
