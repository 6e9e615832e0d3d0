"""The systems that a certificate is about, and their runs: kept in a folder, an interrupted call goes on from there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from thresher.certify.claims import AS_IT_IS, FIRST_TIER, Setting
from thresher.certify.fractions import kept, scores_of
from thresher.certify.pipelines import AS_BUILT, STAGES, Asked, Changed
from thresher.errors import ConfigError
from thresher.evaluate.trec import read_run, write_run
from thresher.index.commit import read_commit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.certify.fractions import Scores
    from thresher.ranking import Run
    from thresher.records import Query
    from thresher.search.index import Index


@dataclass(frozen=True, slots=True)
class System:
    """What makes runs: an index, asked in some way."""

    asked: Asked
    setting: str = ""
    fraction: float | None = None
    allow: NDArray[np.bool_] | None = None
    tiers: Any = None
    changed: Changed = AS_BUILT

    def concerns(self, pipeline: str) -> bool:
        """Whether it can differ from the index as it is, on this pipeline."""
        return self.changed == AS_BUILT or self.changed.concerns(pipeline)


@dataclass(slots=True)
class Plan:
    """The systems and their runs.

    Attributes:
        own: asks the index that is to be certified.
        other: asks the baseline.
        work: where finished runs are kept; None keeps none.
        notes: what to mind, in words.
    """

    own: Asked
    other: Asked
    work: Path | None
    notes: list[str] = field(default_factory=list)
    bar: Any = None

    @classmethod
    def of(cls, own: Index, other: Index, work: Path | None, queries: Sequence[Query], k: int, device: str) -> Plan:
        """Ask both; once where they are the same commit."""
        theirs, same = Asked(other, queries, k, device=device), identity(own) == identity(other)
        mine = theirs if same else Asked(own, queries, k, models=theirs.models, device=device)
        return cls(mine, theirs, work)

    def pipelines(self, wanted: Sequence[str] | None) -> list[str]:
        """The pipelines to test: those wanted, or all that both indexes have."""
        if wanted is not None:
            return list(dict.fromkeys(wanted))
        return [name for name in self.other.available() if not self.own.lacking(name)]

    def systems(
        self, pipelines: Sequence[str], fractions: Sequence[float], scores: Scores, settings: Sequence[str]
    ) -> list[System]:
        """Everything that is compared with the baseline."""
        own, other = self.own, self.other
        found: list[System] = []
        plain = own is other and not own.index.tiered
        if own is not other or own.index.calibrated or (plain and not fractions and not settings):
            found.append(System(own, AS_IT_IS))
        if own.index.tiered:
            found.append(System(own, FIRST_TIER, tiers="first"))
            dropped = sum(entry.dropped for entry in read_commit(own.index.path).segments)
            if own is other and dropped:
                self.notes.append(
                    f"Pruning dropped {dropped:,} of the passages (junk, duplicates): in neither tier, so nothing is "
                    "said of them."
                )
        if fractions:
            known, name = scores_of(other.index, scores, device=other.device)
            self.notes.append(
                f"Fractions leave out the passages of the baseline that {name} scores lowest; statistics of terms stay "
                "those of the whole baseline."
            )
            found += [System(other, "", one, kept(other.index, known, one), "both") for one in sorted(set(fractions))]
        found += [System(own, text, changed=Changed.parse(text)) for text in settings]
        if unused := [one.setting for one in found if not any(map(one.concerns, pipelines))]:
            raise ConfigError(f"{unused[0]} changes none of the pipelines {', '.join(pipelines)}")
        return found

    def runs(
        self, systems: Sequence[System], pipelines: Sequence[str], *, progress: bool
    ) -> tuple[dict[Setting, Run], dict[str, Run]]:
        """The systems' runs, and the baseline's by pipeline."""
        whole = System(self.other, tiers="both" if self.other.index.tiered else None)
        wanted = [(one, [name for name in pipelines if one.concerns(name)]) for one in (whole, *systems)]
        steps = sum(_steps(names) for _, names in wanted) * len(self.other.queries)
        found: dict[Setting, Run] = {}
        with tqdm(desc="asking", total=steps, unit=" queries", disable=not progress, mininterval=0.5) as bar:
            for asked in (self.own, self.other):
                asked.told = bar.update
            against = self._kept_runs(whole, pipelines, bar)
            for one, names in wanted[1:]:
                for name, run in self._kept_runs(one, names, bar).items():
                    found[Setting(name, one.setting, one.fraction)] = run
        return found, against

    def _kept_runs(self, system: System, pipelines: Sequence[str], bar: Any) -> dict[str, Run]:
        """The runs of a system, from the work folder where they are in it."""
        files = {name: self._file(system, name) for name in pipelines}
        found = {name: read_run(file) for name, file in files.items() if file is not None and file.is_file()}
        missing = [name for name in pipelines if name not in found]
        bar.update((_steps(pipelines) - _steps(missing)) * len(system.asked.queries))
        made = system.asked.runs(missing, allow=system.allow, tiers=system.tiers, changed=system.changed)
        for name, run in made.items():
            file = files[name]
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_run(run, file)
        return {name: found[name] if name in found else made[name] for name in pipelines}

    def _file(self, system: System, pipeline: str) -> Path | None:
        """Where a run is kept: named by everything that it depends on."""
        if self.work is None:
            return None
        asked = system.asked
        mask = "" if system.allow is None else hashlib.sha256(np.packbits(system.allow).tobytes()).hexdigest()
        settings = asked.index.recipe.ask.model_dump(mode="json")
        parts = [
            identity(asked.index), [[one.qid, one.text] for one in asked.queries], asked.k, pipeline, system.tiers,
            mask, dict(system.changed.search), {**settings, **system.changed.ask},
        ]  # fmt: skip
        name = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
        return self.work / f"{pipeline}-{name}.run.gz"


def identity(index: Index) -> tuple[str, int, str]:
    """Path, number and checksum of the commit that an index answers from."""
    return str(index.path), index.commit, read_commit(index.path).sha256


def _steps(pipelines: Sequence[str]) -> int:
    """How often a query is asked for these pipelines: one answer of the stages gives several."""
    return sum(name not in STAGES for name in pipelines) + any(name in STAGES for name in pipelines)
