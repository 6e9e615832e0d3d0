"""Losses of a model on lists of passages: what gradients are taken of, and what removing a layer is judged by.

Scores of a list are standardised (mean 0, deviation 1 of the whole model's), so that cosines and logits give losses of
one size. `ranking_loss` needs a target: the judged grades of the list where there are some, else the passage that the
whole model puts first. `agreement_loss` compares with the whole model's scores and needs no judgments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.models.hf import import_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker

SHARPNESS = 2.0
"""Standardised scores are multiplied by this before the softmax."""


def standardised(scores: torch.Tensor, whole: torch.Tensor | None = None) -> torch.Tensor:
    """Scores minus the mean of `whole`, divided by its deviation; `whole` is the scores themselves by default."""
    base = (scores if whole is None else whole).detach().float()
    return (scores.float() - base.mean()) / (base.std(unbiased=False) + 1e-6)


def ranking_loss(scores: torch.Tensor, one: Candidates) -> torch.Tensor:
    """Cross entropy of the list's target and the softmax of its scores (ListNet; Cao and others, ICML 2007).

    The target is proportional to the grades, or all on the highest score where no passage has a grade above 0.
    """
    library = import_torch("the loss of a ranking")
    logs = (SHARPNESS * standardised(scores)).log_softmax(0)
    grades = library.tensor(one.relevance(), dtype=library.float32, device=scores.device)
    if not grades.any():
        grades[int(scores.detach().argmax())] = 1.0
    found: torch.Tensor = -(grades / grades.sum() * logs).sum()
    return found


def ranking_score(scores: torch.Tensor, one: Candidates) -> torch.Tensor:
    """How far the target's passages are in front: their mean score minus that of all, in deviations.

    The target is as in `ranking_loss`.
    """
    library = import_torch("the score of a ranking")
    grades = library.tensor(one.relevance(), dtype=library.float32, device=scores.device)
    if not grades.any():
        grades[int(scores.detach().argmax())] = 1.0
    found: torch.Tensor = (grades / grades.sum() * standardised(scores)).sum()
    return found


def agreement_loss(scores: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax of the scores from that of the whole model's scores."""
    wanted = (SHARPNESS * standardised(whole)).log_softmax(0)
    found = (SHARPNESS * standardised(scores)).log_softmax(0)
    total: torch.Tensor = (wanted.exp() * (wanted - found)).sum()
    return total


def disagreement(ranker: Ranker, lists: Sequence[Candidates], whole: Sequence[NDArray[np.float32]]) -> float:
    """Mean `agreement_loss` of a model over lists, against the whole model's scores."""
    library = import_torch("the loss of a ranking")
    rows = zip(ranker.scores(lists), whole, strict=True)
    return sum(float(agreement_loss(library.tensor(a), library.tensor(b))) for a, b in rows) / len(lists)
