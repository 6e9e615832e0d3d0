"""Plans: generators that decide which comparisons to make. They know no model, no prompt and no thread.

A plan is made from its name and settings, `sliding:window=20,stride=10`. Other packages add plans through the
entry-point group `thresher.plans`: a callable whose keyword parameters, annotated as int, float, bool or str, are the
plan's settings.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.checks import is_a, shown
from thresher.errors import ConfigError
from thresher.registry import Registry

if TYPE_CHECKING:
    from thresher.rerank.plans.plan import Plan

PLANS: Registry[Plan] = Registry(
    "plan",
    "thresher.plans",
    {
        "pointwise": "thresher.rerank.plans.pairwise:Pointwise",
        "pairwise-all": "thresher.rerank.plans.pairwise:AllPairs",
        "pairwise-heap": "thresher.rerank.plans.pairwise:PairwiseHeap",
        "pairwise-sliding": "thresher.rerank.plans.pairwise:PairwiseSliding",
        "instupr-pairs": "thresher.rerank.plans.pairwise:instupr_pairs",
        "setwise-heap": "thresher.rerank.plans.listwise:SetwiseHeap",
        "setwise-insertion": "thresher.rerank.plans.listwise:SetwiseInsertion",
        "sliding": "thresher.rerank.plans.listwise:SlidingWindow",
        "single": "thresher.rerank.plans.listwise:SinglePass",
        "top-down": "thresher.rerank.plans.partition:TopDown",
        "tournament-graph": "thresher.rerank.plans.tournament_graph:TournamentGraph",
        "funnel": "thresher.rerank.plans.funnel:Funnel",
        "choice-pool": "thresher.rerank.plans.pool:ChoicePool",
        "tourrank": "thresher.rerank.plans.tourrank:TourRank",
        "jointrank": "thresher.rerank.plans.jointrank:JointRank",
        "jointrank-head": "thresher.rerank.plans.jointrank:jointrank_head",
        "prp-graph": "thresher.rerank.plans.prpgraph:PrpGraph",
        "acurank": "thresher.rerank.plans.acurank:AcuRank",
        "slidegar": "thresher.rerank.plans.slidegar:SlideGar",
    },
)


DEFAULT_PLAN = "funnel"
"""Chosen on DL 2021, see eval/results/rerank-study.md."""


@checked_call
def plan_from_name(name: str) -> Plan:
    """A plan from its name and settings, as `sliding:window=20,stride=10`.

    Raises:
        ConfigError: the plan or a setting is unknown, or a value has the wrong type.
        InputError: a value is out of range.
    """
    if not is_a(name, str):
        raise ConfigError(f"a plan's name must be a text, got {shown(name)}")
    kind, _, settings = name.partition(":")
    factory = PLANS.factory(kind)
    known = {key: _type_name(one.annotation) for key, one in inspect.signature(factory).parameters.items()}
    values: dict[str, object] = {}
    for setting in filter(None, settings.split(",")):
        key, sep, value = setting.partition("=")
        if not sep or key not in known:
            raise ConfigError(
                f"plan {kind!r} has no setting {key!r}; its settings are {', '.join(known) or 'none'}, written as "
                "KEY=VALUE"
            )
        values[key] = _value(known[key], key, value)
    return factory(**values)


def _type_name(annotation: object) -> str:
    """`int | None` as text, whether annotations are strings or types."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _value(kind: str, key: str, value: str) -> object:
    """`value` converted to the annotated type."""
    if "None" in kind and value in ("all", "none"):
        return None
    try:
        if kind.startswith("bool"):
            return {"true": True, "false": False}[value.lower()]
        if kind.startswith("int"):
            return int(value)
        if kind.startswith("float"):
            return float(value)
    except (ValueError, KeyError):
        raise ConfigError(f"setting {key}={value!r} must be of type {kind}") from None
    return value
