"""From quality scores to what is indexed: policies, tiers, duplicates, and pruning inside the vectors.

    from thresher.prune import Policy, decide
    decision = decide(Policy(keep=0.9, fold=True), docnos, scores, texts=texts)
    decision.kept  # bool[n]

Names load when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.prune.budget import costs_by_words, parse_budget
    from thresher.prune.policy import Decision, Policy, decide
    from thresher.prune.report import PruneReport
    from thresher.prune.static import VectorPruning, prune_lists, prune_vectors
    from thresher.prune.tiers import read_decision, write_decision

__all__ = [
    "Decision",
    "Policy",
    "PruneReport",
    "VectorPruning",
    "costs_by_words",
    "decide",
    "parse_budget",
    "prune_lists",
    "prune_vectors",
    "read_decision",
    "write_decision",
]

_HOMES = {
    "Decision": "policy",
    "Policy": "policy",
    "PruneReport": "report",
    "VectorPruning": "static",
    "costs_by_words": "budget",
    "decide": "policy",
    "parse_budget": "budget",
    "prune_lists": "static",
    "prune_vectors": "static",
    "read_decision": "tiers",
    "write_decision": "tiers",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
