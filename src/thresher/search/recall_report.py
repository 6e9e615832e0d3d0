"""A recall curve in figures: what promises cost, for tables, `--json` and `thresher info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.search.recall import Promise

if TYPE_CHECKING:
    from thresher.index.commit import Commit
    from thresher.search.recall import Level, RecallCurve

PROMISES = (0.9, 0.95, 0.99)
"""Recalls that tables show."""


def promises(curve: RecallCurve) -> list[dict[str, int | float | str]]:
    """For each k and some promises: k, recall, expected (recall), ms, exact_ms and effort."""
    found: list[dict[str, int | float | str]] = []
    for k, levels in curve.levels.items():
        for recall in PROMISES:
            chosen = curve.at(k, recall) or Promise(curve.longest, levels[0])
            figures = {"expected": round(chosen.mean, 5), "ms": round(chosen.ms, 5), "exact_ms": levels[0].ms}
            found.append({"k": k, "recall": recall, **figures, "effort": said(curve, chosen)})
    return found


def said(curve: RecallCurve, promise: Promise) -> str:
    """The efforts of a promise, and the share of the queries that take each."""
    part = round(100 * promise.share)
    own = efforts_of(curve, promise.level)
    if promise.cheaper is None or not part:
        return own
    return f"{own} ({100 - part} % of queries), {efforts_of(curve, promise.cheaper)} ({part} %)"


def efforts_of(curve: RecallCurve, level: Level) -> str:
    """The efforts of a level, by the number of terms of a query where kinds differ."""
    efforts = [str(effort) or "exact" for effort in level.efforts]
    if len(set(efforts)) == 1:
        return efforts[0]
    ends = [f"up to {most} terms" for most in curve.longest] + ["more"]
    return "; ".join(f"{end}: {effort}" for end, effort in zip(ends, efforts, strict=True))


def sentences(curve: RecallCurve, commit: Commit) -> list[str]:
    """Lines about the curve of a commit: what it was measured on, what has changed since, and what promises cost."""
    changed = curve.changed(commit)
    since = curve.stale(commit) or (f"{changed:,} passages were changed since" if changed else "")
    lines = [f"recall: calibrated on {curve.queries:,} queries, {curve.source}" + (f"; {since}" if since else "")]
    for row in promises(curve):
        cost = f"{row['ms']:.3f} ms (exact {row['exact_ms']:.3f})"
        lines.append(f"  k = {row['k']:,}, recall {row['recall']:g}: {cost}, {row['effort']}")
    return lines
