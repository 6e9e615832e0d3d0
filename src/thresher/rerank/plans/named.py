"""Plans by name: what the command line and configuration files say."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError
from thresher.rerank.plans.jointrank import JointRank
from thresher.rerank.plans.listwise import SinglePass, SlidingWindow
from thresher.rerank.plans.pairwise import AllPairs, PairwiseHeap, PairwiseSliding
from thresher.rerank.plans.pointwise import Pointwise
from thresher.rerank.plans.setwise import SetwiseHeap, SetwiseInsertion

if TYPE_CHECKING:
    from thresher.rerank.plans.plan import Plan

PLANS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "pointwise": (Pointwise, {}),
    "pairwise-all": (AllPairs, {}),
    "pairwise-heap": (PairwiseHeap, {}),
    "pairwise-sliding": (PairwiseSliding, {}),
    "instupr-pairs": (AllPairs, {"head": 30, "aggregation": "probabilities"}),
    "setwise-heap": (SetwiseHeap, {}),
    "setwise-insertion": (SetwiseInsertion, {}),
    "sliding": (SlidingWindow, {}),
    "single": (SinglePass, {}),
    "jointrank": (JointRank, {}),
    "jointrank-head": (JointRank, {"replicas": 2, "windows": 5}),
}
"""Name to class and the settings the name stands for."""


def parse_plan(spec: str) -> Plan:
    """A plan from its name and settings, as `sliding:window=20,stride=10`.

    Raises:
        ConfigError: no such plan, no such setting, or a value of the wrong type.
    """
    name, _, settings = spec.partition(":")
    if name not in PLANS:
        raise ConfigError(f"there is no plan {name!r}; choose one of {', '.join(PLANS)}")
    made, preset = PLANS[name]
    known = {f.name: str(f.type) for f in fields(made)}
    values: dict[str, Any] = dict(preset)
    for setting in filter(None, settings.split(",")):
        key, sep, value = setting.partition("=")
        if not sep or key not in known:
            raise ConfigError(
                f"plan {name!r} has no setting {key!r}; it knows {', '.join(known) or 'none'}, written as KEY=VALUE"
            )
        values[key] = _value(known[key], key, value)
    plan: Plan = made(**values)
    return plan


def _value(kind: str, key: str, value: str) -> Any:
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
        raise ConfigError(f"setting {key}={value!r} should be of type {kind}") from None
    return value
