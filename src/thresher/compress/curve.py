"""Levels of compression, measured: effectiveness by query group, bytes and milliseconds, against the whole model.

Equivalence is tested level by level in the order of what is removed, and stops at the first that fails (a fixed
sequence, so that the chance of any false claim stays alpha without a correction; Maurer, Hothorn and Lehmacher, 1995).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thresher.compress.data import evaluated, groups_of
from thresher.compress.methods import Cut, method_from_name
from thresher.durable import write_atomic
from thresher.errors import InputError
from thresher.evaluate.comparison import differences
from thresher.evaluate.measures import Evaluation
from thresher.evaluate.significance import equivalence, mean_interval
from thresher.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from thresher.compress.data import Candidates, Task
    from thresher.compress.ranker import Ranker

MAIN = "nDCG@10"
MEASURES = f"{MAIN} R@10"
_TIMED = 4
"""Passages of the batch that is timed."""


@dataclass(frozen=True, slots=True)
class Level:
    """One compressed model, measured.

    Attributes:
        method: how parts were chosen; empty for the whole model.
        cut: what was removed; None for the whole model.
        bytes: of the weights as they are saved.
        ms: milliseconds a passage.
        speedup: milliseconds of the whole model, measured by turns with this one, divided by `ms`.
        values: measure to qid to value.
        healed: steps of training after the removal.
    """

    method: str
    cut: Cut | None
    bytes: int
    ms: float
    speedup: float
    values: Mapping[str, Mapping[str, float]]
    healed: int = 0

    @property
    def removed(self) -> float:
        """Share that was removed."""
        return 0.0 if self.cut is None else self.cut.removed

    @property
    def label(self) -> str:
        """The level as tables show it."""
        return "whole" if self.cut is None else self.cut.label

    def evaluation(self) -> Evaluation:
        """The values with their means."""
        means = {name: sum(rows.values()) / len(rows) for name, rows in self.values.items()}
        return Evaluation(means, self.values)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Level:
        """The level that `asdict` made plain."""
        return cls(**{**row, "cut": None if row["cut"] is None else Cut(**row["cut"])})


@dataclass(slots=True)
class Kept:
    """Plans and levels finished so far, in a file, so that an interrupted run goes on where it was.

    Attributes:
        file: where they are; None keeps them in memory only.
        key: of the model, the data and the settings; what is kept under another key does not count.
    """

    file: Path | None
    key: str
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            saved = read_json(self.file)
            if saved.get("key") == self.key:
                self.found = dict(saved["found"])

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returned, now or before the interruption; plain JSON."""
        if name not in self.found:
            self.found[name] = make()
            if self.file is not None:
                write_atomic(self.file, json.dumps({"key": self.key, "found": self.found}))
        return self.found[name]


class Curve:
    """Measures levels of one model on one task.

    Args:
        ranker: the whole model.
        task: what calibrates and what measures.
        kept: what is finished already.
        tell: called with a line for each finished step.
    """

    def __init__(
        self, ranker: Ranker, task: Task, kept: Kept | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.ranker, self.task, self.kept, self.tell = ranker, task, kept or Kept(None, ""), tell
        self._timed = [text for one in task.measured for text in one.texts][:_TIMED]

    def whole(self) -> Level:
        """The model as it is."""
        return Level.from_json(self.kept.get("whole", lambda: asdict(self._measured(self.ranker, "", None))))

    def cuts(self, method: str) -> list[Cut]:
        """What a method plans."""

        def plan() -> list[dict[str, Any]]:
            self.tell(f"{method}: choosing what to remove, on {len(self.task.calibration)} lists")
            return [asdict(cut) for cut in method_from_name(method).plan(self.ranker, self.task.calibration)]

        return [Cut(**row) for row in self.kept.get(f"plan {method}", plan)]

    def compressed(self, cut: Cut, heal: int = 0) -> Ranker:
        """A copy of the model with the cut applied, trained for `heal` steps on the whole model's scores."""
        copy = self.ranker.copy()
        cut.apply(copy, self.task.calibration)
        if heal:
            from thresher.compress.heal import heal as train

            train(copy, self.ranker, self.task.calibration, steps=heal)
        return copy

    def level(self, method: str, cut: Cut, heal: int = 0) -> Level:
        """The model with one cut, measured."""

        def make() -> dict[str, Any]:
            made = self._measured(self.compressed(cut, heal), method, cut, heal)
            value = f"{MAIN} {made.evaluation().mean[MAIN]:.4f}, " if made.values else ""
            self.tell(f"{method}: {cut.label}: {value}{made.speedup:.2f} times as fast")
            return asdict(made)

        name = f"level {json.dumps([cut.axis, cut.removed, cut.spec])} {heal}"  # two methods may remove the same
        return replace(Level.from_json(self.kept.get(name, make)), method=method)

    def _measured(self, ranker: Ranker, method: str, cut: Cut | None, healed: int = 0) -> Level:
        values: Mapping[str, Mapping[str, float]] = {}
        if self.task.measured and any(any(one.relevance()) for one in self.task.measured):
            values = evaluated(self.task.measured, ranker.scores(self.task.measured), MEASURES).per_query
        ms, base = float("inf"), float("inf")
        texts = self._timed or [text for one in self.task.calibration for text in one.texts][:_TIMED]
        for _ in range(3 if texts else 0):
            ms = min(ms, ranker.milliseconds(texts, repeats=1))
            base = min(base, self.ranker.milliseconds(texts, repeats=1)) if cut is not None else ms
        return Level(method, cut, ranker.bytes(), ms, base / ms, {k: dict(v) for k, v in values.items()}, healed)


def rows_of(level: Level, whole: Level, lists: Sequence[Candidates], margin: float) -> list[dict[str, Any]]:
    """A row for each group of queries with at least two: means, intervals, and whether the level is equivalent.

    Args:
        level: a compressed model.
        whole: the model it was made of, measured on the same lists.
        lists: the lists.
        margin: the largest difference of nDCG@10 that does not matter.
    """
    rows = []
    before, after = whole.evaluation(), level.evaluation()
    for group, qids in groups_of(lists).items():
        if len(qids) < 2:
            continue
        mine, theirs = _only(after, qids), _only(before, qids)
        difference = differences(mine, theirs, MAIN)
        inner, outer = mean_interval(mine.values(MAIN)), mean_interval(difference)
        rows.append(
            {
                "method": level.method or "none",
                "level": level.label,
                "removed": level.removed,
                "bytes": level.bytes,
                "ms": level.ms,
                "speedup": level.speedup,
                "group": group,
                "queries": len(qids),
                MAIN: mine.mean[MAIN],
                "lo": inner.low,
                "hi": inner.high,
                "R@10": mine.mean["R@10"],
                "difference": float(difference.mean()),
                "difference lo": outer.low,
                "difference hi": outer.high,
                "equivalent": True if level.cut is None else equivalence(difference, margin).proven,
                "healed": level.healed,
            }
        )
    return rows


def _only(evaluation: Evaluation, qids: Sequence[str]) -> Evaluation:
    values = {name: {qid: rows[qid] for qid in qids} for name, rows in evaluation.per_query.items()}
    return Evaluation({name: sum(rows.values()) / len(qids) for name, rows in values.items()}, values)


def smallest_equivalent(levels: Iterable[Level], whole: Level, margin: float) -> Level | None:
    """The level that removes most of those that are equivalent, tested from the one that removes least.

    Testing stops at the first that is not proven equivalent; None where that is the first.
    """
    found = None
    for level in sorted(levels, key=lambda one: one.removed):
        difference = differences(level.evaluation(), whole.evaluation(), MAIN)
        if not equivalence(difference, margin).proven:
            break
        found = level
    return found


def quick_enough(levels: Iterable[Level], speedup: float) -> Level:
    """The level with the highest nDCG@10 (where nothing is judged, with least removed) of those quick enough.

    Raises:
        InputError: none is.
    """
    levels = list(levels)
    enough = [level for level in levels if level.speedup >= speedup]
    if not enough:
        best = max((level.speedup for level in levels), default=1.0)
        raise InputError(
            f"no level is {speedup:g} times as fast as the whole model; the quickest is {best:.2f} times. Ask for "
            "less, or choose another method"
        )
    return max(enough, key=lambda one: (one.evaluation().mean.get(MAIN, 0.0) if one.values else 0.0, -one.removed))
