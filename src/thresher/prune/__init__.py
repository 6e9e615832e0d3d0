"""From quality scores to what is indexed: policies, decisions, and pruning inside the vectors.

    from thresher.prune import Policy, decide
    decision = decide(Policy(keep=0.9, fold=True), docnos, scores, texts=texts)
    decision.kept  # bool[n]

Names load when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.prune.decision import Decision, read_decision, write_decision
    from thresher.prune.plan import PruneStep
    from thresher.prune.policy import Policy, decide
    from thresher.prune.static import VectorPruning, prune_lists, prune_vectors

__all__ = [
    "Decision",
    "Policy",
    "PruneStep",
    "VectorPruning",
    "decide",
    "prune_lists",
    "prune_vectors",
    "read_decision",
    "write_decision",
]

_HOMES = {
    "Decision": "decision",
    "Policy": "policy",
    "PruneStep": "plan",
    "VectorPruning": "static",
    "decide": "policy",
    "prune_lists": "static",
    "prune_vectors": "static",
    "read_decision": "decision",
    "write_decision": "decision",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
