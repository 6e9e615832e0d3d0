"""Plans that ask for comparisons, judges that answer, and one driver between them that keeps budget and account.

from thresher.rerank import Budget, ModelJudge, Reranker

reranker = Reranker(ModelJudge(model), plan="jointrank", budget=Budget(calls=20))
result = reranker.rank("why is the sky blue", hits)
"""

from __future__ import annotations

from typing import Any

from thresher._lazy import load

__all__ = [
    "PLANS",
    "AllPairs",
    "Answer",
    "Best",
    "Budget",
    "CrossEncoderJudge",
    "JointRank",
    "Judge",
    "ModelJudge",
    "Order",
    "PairwiseHeap",
    "PairwiseSliding",
    "Plan",
    "Pointwise",
    "Prefer",
    "Question",
    "Ranking",
    "Rate",
    "Record",
    "RecordedWindows",
    "RerankServer",
    "Reranked",
    "Reranker",
    "SetwiseHeap",
    "SetwiseInsertion",
    "SinglePass",
    "SlidingWindow",
    "drive",
    "parse_plan",
]

_HOMES = {
    "PLANS": "plans.named",
    "AllPairs": "plans.pairwise",
    "Answer": "asks",
    "Best": "asks",
    "Budget": "budget",
    "CrossEncoderJudge": "cross_encoder",
    "JointRank": "plans.jointrank",
    "Judge": "judge",
    "ModelJudge": "model_judge",
    "Order": "asks",
    "PairwiseHeap": "plans.pairwise",
    "PairwiseSliding": "plans.pairwise",
    "Plan": "plans.plan",
    "Pointwise": "plans.pointwise",
    "Prefer": "asks",
    "Question": "judge",
    "Ranking": "plans.plan",
    "Rate": "asks",
    "Record": "record",
    "RecordedWindows": "replay",
    "Reranked": "reranker",
    "Reranker": "reranker",
    "RerankServer": "servers",
    "SetwiseHeap": "plans.setwise",
    "SetwiseInsertion": "plans.setwise",
    "SinglePass": "plans.listwise",
    "SlidingWindow": "plans.listwise",
    "drive": "plans.plan",
    "parse_plan": "plans.named",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
