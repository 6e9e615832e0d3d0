"""The tasks that prune: an estimator fitted on all parts, scores and signs of each part, one decision for all.

What is decided is what a build in one piece decides, passage by passage. The statistics that an estimator compares with
are sums over the parts that do not depend on their order (`thresher.quality.moments`); everything that costs time is
read from the texts part by part; and `thresher.prune.policy.decide` then sees all scores at once, so the threshold is
exact, duplicates are folded across parts, and floors, pins and budgets hold for the whole. That last step is one
process, of about 110 bytes a passage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar, overload

import msgspec
import numpy as np

from thresher.distributed.reading import WORDS, Part
from thresher.distributed.task import RESULTS, Task, read_result
from thresher.errors import ConfigError, InputError
from thresher.prune.decision import REASONS, TIER_ONE, Decision
from thresher.prune.frozen import threshold_of
from thresher.prune.plan import PruneStep, groups_of, policy_of
from thresher.prune.policy import Signs, decide, parse_budget
from thresher.quality.duplicates import SHINGLE, write_signatures
from thresher.quality.estimator import DOCUMENT, QualityEstimator
from thresher.quality.fitted import FittedEstimator, moments_of, shipped_head
from thresher.quality.junk import JunkRules
from thresher.quality.lexical import CollectionStatistics, LexicalEstimator, words_of
from thresher.quality.moments import Moments
from thresher.quality.store import score_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ESTIMATOR, SIGNATURES, SCORES, COSTS, LENGTHS = "estimator", "signatures", "scores", "words", "lengths"
FLOORS, FOLDS = "floor-groups", "fold-groups"
_EMBEDDED = "embedded"
Number = TypeVar("Number", bound=np.generic)
_OF_WORDS = ("kl", "unigram")


def needs_words(estimator: str) -> bool:
    """Whether an estimator compares passages with the words of the collection.

    Raises:
        ConfigError: it is a combination, which is standardised on a collection in one piece.
    """
    if (Path(estimator) / DOCUMENT).is_file():
        return False
    if "+" in estimator:
        raise ConfigError(
            f"prune.estimator is {estimator!r}, which is standardised on a collection in one piece; fit it on a sample "
            "(QualityEstimator.from_name(NAME, texts=...).save(DIRECTORY)) and name that directory"
        )
    return estimator == _EMBEDDED or estimator in _OF_WORDS


def is_standardised(estimator: str) -> bool:
    """Whether an estimator is standardised on features of all passages."""
    return estimator == _EMBEDDED and not (Path(estimator) / DOCUMENT).is_file()


class Summed(msgspec.Struct):
    """Sums of features, as `Moments` holds them, in decimal digits."""

    sums: list[str]
    squares: list[str]
    rows: int


class MeasureFeatures(Task, frozen=True, kw_only=True):
    """Sums the features of a part, given the words of all.

    Attributes:
        read: the task that read the part.
        content: of the part.
        facts: the task that counted the words.
    """

    stage: ClassVar[str] = "features"
    places: ClassVar[frozenset[str]] = frozenset(("read",))
    read: str
    content: str
    facts: str

    def make(self, folder: Path) -> Summed:
        """Nothing but the sums."""
        statistics = CollectionStatistics.load(Path(self.work) / RESULTS / self.facts / WORDS)
        found = moments_of(Part(self.work, self.read).spool.texts, statistics, shipped_head()[1])
        return Summed([*map(str, found.sums)], [*map(str, found.squares)], found.rows)


class Fitted(msgspec.Struct):
    """A quality estimator.

    Attributes:
        name: of the estimator.
        fingerprint: likewise.
        saved: whether it is in the result, or its weights stay where they are.
    """

    name: str
    fingerprint: str
    saved: bool


class FitEstimator(Task, frozen=True, kw_only=True):
    """Makes the quality estimator that all parts are scored with.

    Attributes:
        estimator: its name, or the directory of a saved one.
        facts: the task that counted the words; empty where they do not count.
        features: the tasks that summed the features, in any order.
    """

    stage: ClassVar[str] = "estimator"
    estimator: str
    facts: str
    features: list[str]

    def make(self, folder: Path) -> Fitted:
        """The estimator, where it can be saved."""
        estimator = self._fit()
        if estimator.can_save:
            (folder / ESTIMATOR).mkdir()
            estimator.save(folder / ESTIMATOR)
        return Fitted(estimator.name, estimator.fingerprint, estimator.can_save)

    def _fit(self) -> QualityEstimator:
        if not self.facts:
            return QualityEstimator.from_name(self.estimator, device=self.device)
        results = Path(self.work) / RESULTS
        statistics = CollectionStatistics.load(results / self.facts / WORDS)
        if not self.features:
            return LexicalEstimator("kl" if self.estimator == "kl" else "unigram", statistics)
        head, columns = shipped_head()
        total = Moments.none(len(columns))
        for name in self.features:
            part = read_result(results / name, Summed)
            total.merge(Moments([*map(int, part.sums)], [*map(int, part.squares)], part.rows))
        return FittedEstimator(_EMBEDDED, head, columns, statistics, *total.mean_and_scale())


def open_estimator(work: str, task: str, name: str, device: str) -> QualityEstimator:
    """The estimator that a task made.

    Raises:
        ConfigError: its weights are not those that it was made with.
    """
    place = Path(work) / RESULTS / task
    fitted = read_result(place, Fitted)
    if fitted.saved:
        return QualityEstimator.load(place / ESTIMATOR)
    estimator = QualityEstimator.from_name(name, device=device)
    if estimator.fingerprint != fitted.fingerprint:
        raise ConfigError(
            f"the estimator {name!r} is another one on this machine ({estimator.fingerprint[:12]}, not "
            f"{fitted.fingerprint[:12]}); all machines need the same"
        )
    return estimator


class Scored(msgspec.Struct):
    """A part that was scored; its arrays are files.

    Attributes:
        junk: rule by number of the passage.
    """

    junk: dict[int, str]


class ScoreShard(Task, frozen=True, kw_only=True):
    """Reads of a part's texts what a decision needs.

    Attributes:
        read: the task that read the part.
        content: of the part.
        estimator: its name.
        fitted: the task that made it.
        step: what is pruned, as JSON.
    """

    stage: ClassVar[str] = "score"
    places: ClassVar[frozenset[str]] = frozenset(("read",))
    read: str
    content: str
    estimator: str
    fitted: str
    step: str

    def make(self, folder: Path) -> Scored:
        """Scores, words, groups, and what folding compares."""
        step, spool = PruneStep.model_validate_json(self.step), Part(self.work, self.read).spool
        estimator = open_estimator(self.work, self.fitted, self.estimator, self.device)
        score_texts(spool.texts, estimator).tofile(folder / SCORES)
        np.fromiter((max(len(words_of(t)), 1) for t in spool.texts), np.int64, len(spool)).tofile(folder / COSTS)
        np.fromiter((len(text.split()) for text in spool.texts), np.int64, len(spool)).tofile(folder / LENGTHS)
        if step.fold:
            (folder / SIGNATURES).mkdir()
            write_signatures(spool.texts, folder / SIGNATURES, None if step.similarity is None else SHINGLE)
        for file, groups in zip((FLOORS, FOLDS), groups_of(step, spool, hashed=True), strict=True):
            if groups is not None:
                groups.tofile(folder / file)
        rules = JunkRules() if step.junk else None
        found = ((row, rules.reason(text)) for row, text in enumerate(spool.texts)) if rules is not None else ()
        return Scored({row: reason for row, reason in found if reason})


class Decided(msgspec.Struct):
    """One decision for all parts.

    Attributes:
        threshold: the least score of a passage that is kept; None where nothing was cut off.
        counts: passages by tier and reason, words, and words kept.
        tiers: passages of the first and the second tier of each part.
        digests: sha256 of what was decided of each part.
    """

    threshold: float | None
    counts: dict[str, int]
    tiers: list[tuple[int, int]]
    digests: list[str]


class DecideTiers(Task, frozen=True, kw_only=True):
    """Decides which tier every passage goes to.

    Attributes:
        step: what is pruned, as JSON.
        contents: of the parts.
        reads: the tasks that read them.
        scored: the tasks that scored them.
    """

    stage: ClassVar[str] = "decide"
    places: ClassVar[frozenset[str]] = frozenset(("reads",))
    step: str
    contents: list[str]
    reads: list[str]
    scored: list[str]

    def make(self, folder: Path) -> Decided:
        """A folder for each part, which `part_decision` reads."""
        step = PruneStep.model_validate_json(self.step)
        parts = [Part(self.work, name) for name in self.reads]
        places = [Path(self.work) / RESULTS / name for name in self.scored]
        sizes = [part.read.passages for part in parts]
        starts = np.cumsum([0, *sizes])
        policy, costs = policy_of(step), None
        if step.budget:
            unit = parse_budget(step.budget)[1]
            costs = _joined(places, COSTS, np.int64).astype(np.float64) * (
                step.rate if unit == "bytes" else 1 / step.rate
            )
        junk = {
            int(start) + row: rule
            for start, place in zip(starts.tolist(), places, strict=False)
            for row, rule in read_result(place, Scored).junk.items()
        }
        scores = _joined(places, SCORES, np.float32)
        signs = Signs(
            np.concatenate([part.keys for part in parts]), junk,
            [place / SIGNATURES for place in places] if step.fold else (),
        )  # fmt: skip
        floors = _joined(places, FLOORS, np.int64) if step.floor else None
        folds = _joined(places, FOLDS, np.int64) if step.fold_field else None
        made = decide(
            policy, Chain([part.spool.docnos for part in parts]), scores,
            texts=Chain([part.spool.texts for part in parts]), groups=floors, fold_groups=folds, costs=costs,
            work=folder, signs=signs,
        )  # fmt: skip
        if not made.kept.any():
            problem = f"the pruning keeps none of {len(made):,} passages; ask for more"
            raise InputError(problem, parts[0].spool.name)
        digests = [_write_part(folder / str(n), made, parts, starts, n) for n in range(len(parts))]
        words = _joined(places, LENGTHS, np.int64)
        counts = made.counts() | {"words": int(words.sum()), "words_kept": int(words[made.kept].sum())}
        in_tiers = [
            (int((made.tiers[a:b] == TIER_ONE).sum()), int((made.tiers[a:b] > TIER_ONE).sum()))
            for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        ]
        return Decided(threshold_of(step, made, scores), counts, in_tiers, digests)


def check_step(step: PruneStep) -> None:
    """Refuse what cannot be decided for parts.

    Raises:
        ConfigError: scores or a decision of a whole corpus are named, or a budget without a rate, which is measured
            anew each time; or the estimator is standardised on a collection in one piece.
    """
    for name, value in (("scores", step.scores), ("decision", step.decision)):
        if value:
            raise ConfigError(
                f"prune.{name} is {value!r}, which belongs to a corpus in one piece; a build in shards scores and "
                "decides itself: leave it out, or build without shards"
            )
    if step.budget and not step.rate:
        raise ConfigError(
            f"prune.budget is {step.budget!r}, and each build would measure its rate anew; set prune.rate as well"
        )
    needs_words(step.estimator)


def part_decision(work: str, task: str, number: int) -> tuple[Decision, dict[int, str]]:
    """What was decided of a part, and the docnos in other parts that stand for some of its passages."""
    folder = Path(work) / RESULTS / task / str(number)
    tiers, reasons = (np.fromfile(folder / name, np.uint8) for name in ("tiers", "reasons"))
    found = json.loads((folder / "rest.json").read_bytes())
    junk, elsewhere = ({int(row): str(value) for row, value in found[name].items()} for name in ("junk", "elsewhere"))
    return Decision(tiers, reasons, np.fromfile(folder / "canonical", np.int64), junk), elsewhere


def _write_part(folder: Path, made: Decision, parts: Sequence[Part], starts: NDArray[np.int64], number: int) -> str:
    """Write what was decided of a part; returns its sha256."""
    first, after = starts[number : number + 2].tolist()
    canonical, own = made.canonical[first:after] - first, np.arange(after - first)
    abroad = np.flatnonzero((canonical < 0) | (canonical >= after - first))
    folded = abroad[made.reasons[first:after][abroad] == REASONS.index("duplicate")].tolist()
    elsewhere = {}
    for row in folded:
        target = int(canonical[row]) + first
        owner = int(np.searchsorted(starts, target, side="right")) - 1
        elsewhere[str(row)] = parts[owner].spool.docnos[target - int(starts[owner])]
    canonical[abroad] = own[abroad]
    junk = {str(row - first): rule for row, rule in made.junk.items() if first <= row < after}
    files = {
        "tiers": made.tiers[first:after].tobytes(),
        "reasons": made.reasons[first:after].tobytes(),
        "canonical": canonical.astype(np.int64).tobytes(),
        "rest.json": json.dumps({"junk": junk, "elsewhere": elsewhere}).encode(),
    }
    folder.mkdir()
    digest = hashlib.sha256()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        digest.update(b"%d " % len(content) + content)
    return digest.hexdigest()


def _joined(places: Sequence[Path], name: str, kind: type[Number]) -> NDArray[Number]:
    """The arrays of all parts, one after the other."""
    return np.concatenate([np.zeros(0, kind), *(np.fromfile(place / name, kind) for place in places)])


class Chain(Sequence[str]):
    """Strings of several parts one after the other, read where they are asked for."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[row] for row in range(*number.indices(len(self)))]
        row = range(len(self))[number]
        owner = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[owner][row - int(self._starts[owner])]
