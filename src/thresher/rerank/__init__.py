"""Reranking: plans decide which comparisons to make, judges answer them, and a driver keeps budget and usage.

from thresher.rerank import Budget, Reranker

reranker = Reranker.from_name("cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2", budget=Budget(seconds=2))
ranking = reranker.rank("why is the sky blue", index.search("why is the sky blue", k=100))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.llm.budget import Budget, Price
    from thresher.llm.client import RetryPolicy
    from thresher.rerank.cross_encoder import CrossEncoderJudge
    from thresher.rerank.judges import Judge
    from thresher.rerank.model_judge import ModelJudge
    from thresher.rerank.plans import plan_from_name
    from thresher.rerank.plans.plan import Answer, Best, Order, Placement, Plan, Prefer, Rate, drive
    from thresher.rerank.replay import RecordedWindows
    from thresher.rerank.reranker import Reranked, Reranker, UnfinishedRunError
    from thresher.rerank.servers import RerankServer

_HOMES = {
    "Answer": "plans.plan",
    "Best": "plans.plan",
    "Budget": "reranker",
    "CrossEncoderJudge": "cross_encoder",
    "Judge": "judges",
    "ModelJudge": "model_judge",
    "Order": "plans.plan",
    "Placement": "plans.plan",
    "Plan": "plans.plan",
    "Prefer": "plans.plan",
    "Price": "reranker",
    "Rate": "plans.plan",
    "RecordedWindows": "replay",
    "RerankServer": "servers",
    "Reranked": "reranker",
    "Reranker": "reranker",
    "UnfinishedRunError": "reranker",
    "RetryPolicy": "reranker",
    "drive": "plans.plan",
    "plan_from_name": "plans",
}

__all__ = [
    "Answer",
    "Best",
    "Budget",
    "CrossEncoderJudge",
    "Judge",
    "ModelJudge",
    "Order",
    "Placement",
    "Plan",
    "Prefer",
    "Price",
    "Rate",
    "RecordedWindows",
    "RerankServer",
    "Reranked",
    "Reranker",
    "RetryPolicy",
    "UnfinishedRunError",
    "drive",
    "plan_from_name",
]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
