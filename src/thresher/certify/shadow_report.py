"""What is known of a pruned system by its live queries, and how they are sampled: plain values, and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

from thresher.certify.certificate import Subject, made_from, subject_from, typed
from thresher.checks import one_of, real
from thresher.evaluate.sequential import check_test

if TYPE_CHECKING:
    from collections.abc import Mapping

Policy = Literal["report", "fall-back"]


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """How live queries are sampled and what is tested.

    Attributes:
        margin: the mean loss that would matter, between 0 and 1.
        share: share of the live queries that are also asked on the other side, above 0 and at most 1.
        alpha: accepted chance that `certified` is ever wrong, and that `lost` is ever wrong: alpha for each.
        measure: `overlap`, `expected`, or the name of a function.
        policy: what follows when the margin is exceeded: `report` only says so, `fall-back` answers from the baseline.
        seed: of the choice of queries.

    Raises:
        InputError: a number is out of range, or the policy unknown.
    """

    margin: float
    share: float = 0.02
    alpha: float = 0.05
    measure: str = "overlap"
    policy: str = "report"
    seed: int = 0

    def __post_init__(self) -> None:
        check_test(self.margin, 0.0, 1.0, self.alpha)
        real("share", self.share, 1e-9, 1.0)
        one_of("policy", self.policy, ("report", "fall-back"))

    @property
    def tested(self) -> tuple[object, ...]:
        """What the test depends on."""
        return self.margin, self.alpha, self.measure


@dataclass(frozen=True, slots=True)
class Earlier:
    """A test that was ended.

    Attributes:
        outcome: what it had come to.
        sampled: queries.
        mean: their mean loss; None without any.
        began, ended: when.
        why: what ended it.
        system, baseline: numbers of the commits.
    """

    outcome: str
    sampled: int
    mean: float | None
    began: str
    ended: str
    why: str
    system: int
    baseline: int


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What is known of a system by its live queries.

    Attributes:
        settings: share, margin, alpha, measure, policy.
        system: the commit that is tested.
        baseline: the commit that it is compared with.
        sampled: queries whose loss was counted.
        dropped: queries that were chosen and not compared: no room, no spare capacity, a deadline, a commit meanwhile.
        failed: queries whose comparison raised an error.
        mean: mean loss, between 0 and 1; None before the first.
        low, high: the mean losses that are not disproven, at level 1 - 2 alpha, valid at every look.
        outcome: `certified`: the mean loss is below the margin; `lost`: it exceeded it; or `undecided`.
        since: when the outcome became this.
        began: when the test began.
        more: queries to be sampled until the margin is proven, if losses stay as they are; None where it never is.
        lost_at: the sampled query, counted from 1, at which this test found the margin exceeded; None while it has not.
        lost_since: when the margin was exceeded, in this test or an earlier one, and nothing has ended that since.
        falls_back: queries are answered by the baseline.
        history: earlier tests, newest first.
        problem: why the state cannot be written; empty where it can.
    """

    settings: ShadowSettings
    system: Subject
    baseline: Subject
    sampled: int
    dropped: int
    failed: int
    mean: float | None
    low: float
    high: float
    outcome: str
    since: str
    began: str
    more: int | None
    lost_at: int | None
    lost_since: str | None
    falls_back: bool
    history: tuple[Earlier, ...] = ()
    problem: str = ""

    @property
    def more_live(self) -> int | None:
        """Live queries until then, at this share."""
        return None if self.more is None else math.ceil(self.more / self.settings.share)

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {**asdict(self), "history": [asdict(one) for one in self.history], "more_live": self.more_live}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ShadowReport:
        """The report whose `as_json` this is.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        parts = {
            "settings": made_from(ShadowSettings, document["settings"]),
            "history": tuple(made_from(Earlier, one) for one in typed("history", document["history"], "list")),
            **{name: subject_from(document[name]) for name in ("system", "baseline")},
        }
        plain = {
            one.name: typed(one.name, document[one.name], str(one.type)) for one in fields(cls) if one.name not in parts
        }
        return cls(**parts, **plain)

    def __str__(self) -> str:
        """What it comes to, in a sentence or some."""
        s = self.settings
        loss = "no loss yet" if self.mean is None else f"mean loss {self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"
        parts = [f"{self.outcome} since {self.since}: {loss} of {self.sampled:,} sampled queries, margin {s.margin:g}"]
        if self.outcome == "undecided":
            parts.append(
                "losses like these never prove the margin"
                if self.more is None
                else f"about {self.more:,} more sampled queries ({self.more_live:,} live ones) would prove the margin"
            )
        if self.lost_since is not None:
            what = "queries are answered by the baseline" if self.falls_back else "the policy is to report only"
            parts.append(f"the margin was exceeded on {self.lost_since}; {what}, until a reset or a new certificate")
        left_out = self.dropped + self.failed
        if left_out > 0.1 * (left_out + self.sampled):
            parts.append(
                f"{left_out:,} of {left_out + self.sampled:,} chosen queries were not compared, and may be others than "
                "those that were"
            )
        return ". ".join([parts[0], *(one[0].upper() + one[1:] for one in parts[1:])]) + "."
