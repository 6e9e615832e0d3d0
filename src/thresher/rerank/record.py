"""What a reranking did and cost: the account that comes with every result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thresher.rerank.budget import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Record:
    """The account of one query, or of several added up.

    Attributes:
        plan: the plan and its settings.
        judge: the model and its settings.
        queries: how many queries this adds up.
        asks: comparisons the plan asked for.
        calls: requests sent, failed ones and retries included.
        failed_calls: requests that brought no answer.
        retries: requests sent again after a failure.
        cache_hits: answers taken from the response cache.
        resumed: answers taken from the journal of an interrupted run.
        prompt_tokens: tokens in. Calls whose usage the model did not say count at their reservation.
        answer_tokens: tokens out, reasoning included.
        reasoning_tokens: tokens spent thinking, where the model says.
        unconfirmed_calls: calls counted at their reservation.
        money: cost by the price table; None without one.
        depth: batches that waited for each other, re-asked ones counted again; of several queries the largest.
        seconds: wall clock.
        repaired: answers that were repaired, by kinds (`duplicate`, `duplicate+missing`, ...).
        unreadable: answers that named no id and counted as no information.
        reasks: asks repeated with the error.
        failed: asks that got no answer because calls failed for good.
        unasked: asks the budget did not reach.
        truncated: passages cut to the token limit, counted each time one is shown.
    """

    plan: str = ""
    judge: str = ""
    queries: int = 1
    asks: int = 0
    calls: int = 0
    failed_calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    reasoning_tokens: int = 0
    unconfirmed_calls: int = 0
    money: float | None = None
    depth: int = 0
    seconds: float = 0.0
    repaired: Mapping[str, int] = field(default_factory=dict)
    unreadable: int = 0
    reasks: int = 0
    failed: int = 0
    unasked: int = 0
    truncated: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "repaired": dict(self.repaired)}

    @classmethod
    def total(cls, records: Iterable[Record], seconds: float) -> Record:
        """The sum over queries that ran side by side for `seconds` together."""
        records = list(records)
        if not records:
            return cls(queries=0, seconds=seconds)
        added = {name: sum(getattr(record, name) for record in records) for name in _ADDED}
        repaired: Counter[str] = Counter()
        for record in records:
            repaired.update(record.repaired)
        money = [record.money for record in records if record.money is not None]
        return cls(
            plan=records[0].plan,
            judge=records[0].judge,
            money=sum(money) if money else None,
            depth=max(record.depth for record in records),
            seconds=seconds,
            repaired=dict(sorted(repaired.items())),
            **added,
        )


_ADDED = (
    "queries", "asks", "calls", "failed_calls", "retries", "cache_hits", "resumed", "prompt_tokens", "answer_tokens",
    "reasoning_tokens", "unconfirmed_calls", "unreadable", "reasks", "failed", "unasked", "truncated",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """The account of one query while it is being kept."""

    cost: Cost = field(default_factory=Cost)
    failed_calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    resumed: int = 0
    reasoning_tokens: int = 0
    unconfirmed_calls: int = 0
    repaired: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    reasks: int = 0
    truncated: int = 0
    asks: int = 0
    failed: int = 0
    unasked: int = 0
    depth: int = 0

    def record(self, plan: str, judge: str, seconds: float, priced: bool) -> Record:
        """The account as it stands."""
        return Record(
            plan=plan,
            judge=judge,
            asks=self.asks,
            calls=self.cost.calls,
            failed_calls=self.failed_calls,
            retries=self.retries,
            cache_hits=self.cache_hits,
            resumed=self.resumed,
            prompt_tokens=self.cost.prompt_tokens,
            answer_tokens=self.cost.answer_tokens,
            reasoning_tokens=self.reasoning_tokens,
            unconfirmed_calls=self.unconfirmed_calls,
            money=self.cost.money if priced else None,
            depth=self.depth,
            seconds=seconds,
            repaired=dict(sorted(self.repaired.items())),
            unreadable=self.unreadable,
            reasks=self.reasks,
            failed=self.failed,
            unasked=self.unasked,
            truncated=self.truncated,
        )
