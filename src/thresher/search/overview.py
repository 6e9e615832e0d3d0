"""What an index holds, for people: counts, pruning and the quality of its passages, the commits that are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ArtifactError, InputError
from thresher.index.commit import COMMITS, Commit
from thresher.manifest import parse_manifest
from thresher.prune.decision import REASONS, TIER_DROPPED, TIER_ONE
from thresher.prune.frozen import frozen_estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.records import Passage
    from thresher.search.index import Index
    from thresher.search.results import StoredPassages

_TEXT = 2000
"""Characters of an example."""


@checked_call
def overview(index: Index) -> dict[str, object]:
    """Counts of an index at its commit, its encoder, fields and recipe, as plain JSON.

    Returns:
        commit, passages, deleted, tiers (passages of each), pruned (passages by the reason why they are not in the
        first tier), segments, bytes, created, version, encoder, fields and recipe.

    Raises:
        InputError: this is a restricted view.
    """
    stored = _stored(index)
    commit = stored.collection.commit
    tiers: dict[int, int] = {}
    for part, live in zip(stored.parts, stored.live, strict=True):
        tiers[part.tier] = tiers.get(part.tier, 0) + live
    encoder = commit.fields.get("encoder")
    return {
        "commit": commit.number,
        "passages": commit.live,
        "deleted": commit.passages - commit.live,
        "tiers": [{"tier": tier, "passages": count} for tier, count in sorted(tiers.items())],
        "pruned": _reasons(stored),
        "segments": [
            {"name": one.name, "passages": sum(one.passages), "deleted": sum(one.deleted), "bytes": one.bytes}
            for one in commit.segments
        ],
        "bytes": sum(one.bytes for one in commit.segments),
        "created": _created(index, commit),
        "version": commit.version,
        "encoder": encoder.get("name") if isinstance(encoder, dict) else encoder,
        "fields": dict(index.schema),
        "recipe": commit.fields.get("recipe"),
    }


@checked_call
def kept_commits(index: Index) -> list[dict[str, object]]:
    """The commits of an index that are kept: the one it answers from, and earlier ones that a reader may need.

    Returns:
        newest first: number, created, passages, deleted, segments and bytes.

    Raises:
        InputError: this is a restricted view.
    """
    _stored(index)
    found = {}
    for file in (index.path / COMMITS).glob("*.json"):
        try:
            commit = Commit.of(parse_manifest(file.read_bytes(), file), index.path)
        except (ArtifactError, OSError):  # a writer removes it
            continue
        found[commit.number] = commit
    return [
        {
            "number": one.number,
            "created": _created(index, one),
            "passages": one.live,
            "deleted": one.passages - one.live,
            "segments": len(one.segments),
            "bytes": sum(entry.bytes for entry in one.segments),
        }
        for _, one in sorted(found.items(), reverse=True)
    ]


@checked_call(bins=1, examples=0, sample=1)
def quality_of(
    index: Index, *, bins: int = 20, examples: int = 3, sample: int = 400, device: str = "auto"
) -> dict[str, object] | None:
    """How good an index's passages are by the estimator that it was pruned with; None where it was not pruned by one.

    Args:
        index: the index.
        bins: of the histogram, equally wide.
        examples: passages of each kind: the worst of the second tier, duplicates, the best of the first tier.
        sample: passages that are scored, evenly spaced over the index.
        device: for the estimator.

    Returns:
        estimator, threshold (passages below it are not in the first tier), passages (scored ones), share_pruned (of all
        passages that were ever indexed), bins (low, high, count) and examples (docno, title, text, score, tier, pruned:
        why).

    Raises:
        InputError: this is a restricted view.
        ConfigError: the estimator of this name is another one than the index was pruned with.
        DataNotFoundError: its model is not on this machine.
        MissingExtraError: an optional dependency is not installed.
    """
    stored = _stored(index)
    frozen = stored.collection.commit.frozen.get("pruning")
    if not isinstance(frozen, dict) or frozen.get("threshold") is None:
        return None
    estimator = frozen_estimator(index.path, frozen, device)
    numbers = _sampled(stored, sample)
    passages = stored.passages_at(numbers)
    scores = estimator.score([passage.contents for passage in passages])
    tiers = stored.tiers_of(numbers)
    counts, edges = np.histogram(scores, bins=bins)
    ranked = [(passages[at], float(scores[at]), int(tiers[at])) for at in np.argsort(scores, kind="stable").tolist()]
    worst = [(*one, "score") for one in ranked if one[2] != TIER_ONE][:examples]
    best = [(*one, "") for one in ranked[::-1] if one[2] == TIER_ONE][:examples]
    folded = _folded(stored, examples)
    again = estimator.score([one.contents for one in folded]) if folded else ()
    doubles = [(one, float(score), None, "duplicate") for one, score in zip(folded, again, strict=True)]
    reasons = _reasons(stored)
    total = stored.collection.commit.live + reasons.get("dropped", 0)
    first = sum(live for part, live in zip(stored.parts, stored.live, strict=True) if part.tier == TIER_ONE)
    return {
        "estimator": str(frozen.get("estimator") or estimator.name),
        "threshold": float(frozen["threshold"]),
        "passages": len(passages),
        "share_pruned": round(1 - first / total, 6) if total else None,
        "bins": [
            {"low": float(low), "high": float(high), "count": int(count)}
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ],
        "examples": [_example(*one) for one in (*worst, *doubles, *best)],
    }


def _example(passage: Passage, score: float, tier: int | None, pruned: str) -> dict[str, object]:
    text = {"docno": passage.docno, "title": passage.title, "text": passage.text[:_TEXT]}
    return {**text, "score": score, "tier": tier, "pruned": pruned}


def _stored(index: Index) -> StoredPassages:
    if index.scope is not None:
        raise InputError("a restricted view does not tell of the whole index; open it with Index.open")
    return index._current().stored


def _reasons(stored: StoredPassages) -> dict[str, int]:
    """Passages that pruning put elsewhere than in the first tier, by reason, and how many are in no tier."""
    found = dict.fromkeys(REASONS, 0) | {"dropped": 0}
    decisions = stored.decisions
    for one in () if decisions is None else decisions.decisions:
        tiers, reasons, _ = one.arrays
        away = tiers != TIER_ONE
        if one.forgotten is not None:
            away = away.copy()
            away[one.positions[one.forgotten]] = False
        for number, count in enumerate(np.bincount(reasons[away], minlength=len(REASONS)).tolist()):
            found[REASONS[number]] += count
        found["dropped"] += int(np.count_nonzero(away & (tiers == TIER_DROPPED)))
    return {reason: count for reason, count in found.items() if count}


def _folded(stored: StoredPassages, count: int) -> list[Passage]:
    """Some passages that were folded into others."""
    found: list[Passage] = []
    decisions = stored.decisions
    for one in () if decisions is None else decisions.decisions:
        places = one.folded[: count - len(found)].tolist() if one.folds else []
        found += [passage for place in places if (passage := one.passage(place)) is not None]
    return found


def _sampled(stored: StoredPassages, count: int) -> NDArray[np.int64]:
    """Numbers of passages, evenly spaced over those that are there."""
    live = [
        part.start + (np.arange(part.size) if mask is None else np.flatnonzero(mask))
        for part, mask in zip(stored.parts, stored.visible, strict=True)
    ]
    numbers = np.concatenate(live).astype(np.int64)
    places = np.linspace(0, max(len(numbers) - 1, 0), min(count, len(numbers))).astype(np.int64)
    return numbers[places]


def _created(index: Index, commit: Commit) -> str | None:
    """When the newest file was written that a commit names, as ISO 8601; None where they are gone."""
    times = []
    for name in commit.files:
        try:
            times.append((index.path / name).stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds") if times else None
