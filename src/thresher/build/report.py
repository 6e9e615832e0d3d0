"""What a build made and what it took."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.records import Usage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made.

    Attributes:
        path: the index.
        counts: passages, postings, terms, bytes by part, as in the manifest.
        skipped: records left out, by reason; empty unless skipping was asked for.
        usage: seconds and counts by stage.
    """

    path: Path
    counts: dict[str, Any]
    skipped: dict[str, int]
    usage: Usage

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "path": str(self.path),
            "counts": self.counts,
            "skipped": self.skipped,
            "usage": [stage.as_json() for stage in self.usage.stages],
        }


def logged(report: BuildReport, corpus: str) -> BuildReport:
    """The report, when its stages and the records skipped are in the log."""
    for stage in report.usage.stages:
        _log.info("%s: %s took %.2f s, %s", report.path, stage.stage, stage.seconds, dict(stage.counts))
    for reason, count in report.skipped.items():
        _log.info("%s: %d records of %s skipped: %s", report.path, count, corpus, reason)
    return report


def duration(seconds: float) -> str:
    """Seconds as a person says them: `40 seconds`, `7 minutes`, `2.5 hours`."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
