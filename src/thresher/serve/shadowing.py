"""`Shadowing`: a share of the requests that a pruned index answers is also asked of an unpruned one.

`thresher.certify.shadow` says what is tested. Here the comparisons run while the server has cores to spare: never while
a request waits, only while fewer run than half of the cores, and one that has begun stops before its next stage when
that ends. What a caller may not see is not asked on the other side either. The baseline has no name of its own:
requests reach it where it has taken the pruned index's place, and then with all they ask of that index.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from thresher.certify.running import OUTCOMES, Running
from thresher.certify.sampling import Sampler
from thresher.certify.shadow import folded, measure_of, subject_of
from thresher.errors import ConfigError, InputError
from thresher.search.index import Index
from thresher.serve.hosted import Hosted
from thresher.serve.late import UNCOUNTED
from thresher.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client import Metric

    from thresher.certify.sampling import Sides
    from thresher.certify.shadow_report import ShadowReport, ShadowSettings
    from thresher.ranking import Ranking
    from thresher.serve.keys import Key
    from thresher.serve.work import Work

_log = logging.getLogger(__name__)
_CLOSING: Final = 0.2
"""Seconds that a comparison which runs has to stop when the server does."""


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """What an index is compared with.

    Attributes:
        baseline: the directory of the unpruned index.
        settings: margin, share, measure, policy.
        state: the file that keeps the test between processes; None to keep it in memory.
    """

    baseline: Path
    settings: ShadowSettings
    state: Path | None = None


class Shadowing:
    """The comparison of one index with its baseline.

    Args:
        hosted: the index.
        plan: what it is compared with.
        work: says whether there are cores to spare.
        device: for models.
        cache: where the costs of stages are kept between processes.

    Attributes:
        host: the baseline.
        plan: as given.

    Raises:
        ConfigError: one of the two is in shards.
        ArtifactError: the baseline is not an index; or the state file is in use, or damaged.
    """

    def __init__(
        self, hosted: Hosted, plan: ShadowPlan, work: Work, *, device: str = "auto", cache: Path | None = None
    ) -> None:
        self._hosted, self.plan = hosted, plan
        self._loss = measure_of(plan.settings.measure)
        self.host = Hosted(hosted.name, plan.baseline, UNCOUNTED, device=device, cache=cache)
        for one in (hosted, self.host):
            if not isinstance(one.index, Index):
                raise ConfigError(f"{one.path} lists shards, which are not compared; compare indexes in one directory")
        self._running = Running(plan.settings, *self._sides(), plan.state)
        self._sampler = Sampler(self._running, spare=lambda: work.spare)

    def _sides(self) -> Sides:
        return subject_of(self._hosted.index), subject_of(self.host.index)

    def check(self, keys: Iterable[Key]) -> None:
        """See whether the baseline can be restricted to what each key may see.

        Raises:
            ConfigError: it cannot.
        """
        for where in (key.caller.where for key in keys):
            try:
                if where is not None:
                    self.host.index.restricted(where)
            except InputError as err:
                raise ConfigError(f"the baseline {self.host.path} cannot be restricted as a key is: {err}") from err

    @property
    def falls_back(self) -> bool:
        """Whether the baseline answers in the index's place."""
        return self._running.falls_back

    def watch(
        self, served: Served, ranking: Ranking, again: Callable[[Served], Ranking], *, complete: bool = True
    ) -> None:
        """Compare an answer, if its request is chosen; nothing that goes wrong here is the request's concern.

        Args:
            served: what answered.
            ranking: what it found.
            again: asks the same of the other side.
            complete: no stage was left out for the deadline.
        """
        try:
            if not self._sampler.draw():
                return
            there = self._hosted if served.falls_back else self.host
            other = Served(there, served.caller, at=there.now)
            mine, theirs = (other, served) if served.falls_back else (served, other)
            sides = subject_of(mine.whole), subject_of(theirs.whole)
            if not complete or not self._running.at(*sides):
                self._running.drop()
                return

            def compared() -> tuple[float, Sides]:
                found = again(other)
                system, baseline = (found, ranking) if served.falls_back else (ranking, found)
                return self._loss(system, folded(baseline, mine.index)), sides

            self._sampler.offer(compared)
        except Exception:
            _log.exception("a request could not be watched")

    def report(self) -> ShadowReport:
        """What is known now, without paths of this machine."""
        self._running.at(*self._sides())
        self._running.look()
        found = self._running.report()
        return replace(
            found,
            system=replace(found.system, path=self._hosted.name),
            baseline=replace(found.baseline, path=self.host.path.name),
            problem="the log has the cause" if found.problem else "",
        )

    def reset(self) -> ShadowReport:
        """Start the test anew, and let the pruned index answer again."""
        self._running.reset()
        return self.report()

    def brief(self) -> dict[str, object]:
        """What `/info` says."""
        found = self.report()
        return {"outcome": found.outcome, "falls_back": found.falls_back, "sampled": found.sampled}

    def close(self) -> None:
        """Drop what waits, and write the state."""
        self._sampler.close(_CLOSING)


class ShadowCollector:
    """What `/metrics` says of the comparisons.

    Args:
        shadows: by the index's name.
    """

    def __init__(self, shadows: Mapping[str, Shadowing]) -> None:
        self._shadows = dict(shadows)

    def collect(self) -> Iterator[Metric]:
        """The families, as they are now; counters start at 0 again with each test."""
        reports = {name: one.report() for name, one in self._shadows.items()}
        for what, of in (
            ("sampled", "Requests whose loss was counted."),
            ("dropped", "Requests that were chosen and not compared."),
            ("failed", "Requests whose comparison failed."),
        ):
            counter = CounterMetricFamily(f"thresher_shadow_{what}", of, labels=["index"])
            for name, report in reports.items():
                counter.add_metric([name], getattr(report, what))
            yield counter
        for what, of in (
            ("mean", "Mean loss of the sampled requests."),
            ("low", "Lower end of the mean losses that are not disproven."),
            ("high", "Upper end of the mean losses that are not disproven."),
        ):
            gauge = GaugeMetricFamily(f"thresher_shadow_loss_{what}", of, labels=["index"])
            for name, report in reports.items():
                value = getattr(report, what)
                if value is not None:
                    gauge.add_metric([name], value)
            yield gauge
        outcome = GaugeMetricFamily(
            "thresher_shadow_outcome", "1 for the outcome of the test.", labels=["index", "outcome"]
        )
        falls = GaugeMetricFamily("thresher_shadow_falls_back", "1 where the baseline answers.", labels=["index"])
        for name, report in reports.items():
            falls.add_metric([name], report.falls_back)
            for one in OUTCOMES.values():
                outcome.add_metric([name, one], one == report.outcome)
        yield from (outcome, falls)
