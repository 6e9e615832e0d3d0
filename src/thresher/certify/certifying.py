"""`certify`: an index, and shares of its baseline, put to the test.

Three kinds of systems are compared with the baseline, which is searched whole (of two tiers, both):

    the index as it is     asked as it is by default; with a second tier also by its first tier alone
    a fraction             the baseline without the passages that score lowest (`thresher.certify.fractions`)
    a setting              the index with another effort of searching, or setting of its pipeline

All of them are one family of claims, whatever is shown of them later.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.arguments import checked_call
from thresher.certify.certificate import Certificate, Subject
from thresher.certify.claims import MEASURE, Setting, decisive_of, names_of, prove
from thresher.certify.plan import Plan
from thresher.certify.topics import Topics
from thresher.certify.wording import name_of
from thresher.errors import InputError
from thresher.evaluate.holes import support
from thresher.evaluate.measures import parse_measures
from thresher.evaluate.significance import check_claim
from thresher.evaluate.trec import read_run
from thresher.index.commit import read_commit
from thresher.ranking import Run
from thresher.records import Query
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.certify.claims import Claim, Kind
    from thresher.certify.fractions import Scores
    from thresher.index.commit import Commit
    from thresher.records import Qrels

_ALL = 1000
"""Results a query for measures without a cutoff."""
_REFERENCE_DEPTH = 100
"""Results a query that are compared where there are no judgments."""


@checked_call
def certify(
    system: str | Path | Index,
    baseline: str | Path | Index,
    queries: str | Path | Sequence[Query],
    qrels: str | Path | Qrels | None = None,
    *,
    margin: float,
    measures: str | Iterable[str] = MEASURE,
    pipelines: Sequence[str] | None = None,
    fractions: Sequence[float] = (),
    scores: Scores = None,
    settings: Sequence[str] = (),
    claim: Kind = "non-inferiority",
    alpha: float = 0.05,
    k: int | None = None,
    judged: int = 1,
    work: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Certificate:
    """Test whether an index, and shares of its baseline, are worse than the baseline by the margin or more.

    Args:
        system: the index that is to be certified. The same index as `baseline` tests its first tier against both, and
            otherwise fractions and settings.
        baseline: the unpruned index.
        queries: a TSV file of qid and text, or queries.
        qrels: judgments; None compares with the baseline's own rankings, which is weaker.
        margin: the smallest loss that would matter, in the unit of the measures, chosen before looking.
        measures: as in `thresher.evaluate.evaluate`; without judgments `RBO`, `kept@10` or both, as by default.
        pipelines: of `thresher.certify.pipelines.PIPELINES`; by default all that both indexes have.
        fractions: shares of the baseline's passages to leave out, those with the lowest scores.
        scores: by which fractions go: a score store or its directory, an estimator or its name; None for the estimator
            that the baseline was pruned by, else `embedded`.
        settings: `NAME=VALUE` of a field of `Effort` or of a recipe's `[ask]` table, each a system of its own.
        claim: what is to be proven.
        alpha: accepted chance of any false claim.
        k: results a query; by default what the measures look at.
        judged: topics with fewer relevant passages are left out: they would count as unchanged whatever is lost.
        work: a folder in which finished runs are kept, so that an interrupted call goes on where it was.
        device: for models.
        progress: show a bar.

    Raises:
        InputError: an argument is out of range, fewer than two topics are left, or a pipeline is not there.
        ArtifactError: there is no such index.
        MissingExtraError: scipy is not installed.
    """
    given = dict(locals())
    test = _Test(margin, measures, claim, alpha, judged=qrels is not None)
    topics = Topics.of(queries, qrels, least=judged)
    with _opened(system) as (own, own_commit), _opened(baseline) as (other, other_commit):
        depth = depth_wanted(test.names, judged=topics.qrels is not None) if k is None else k
        plan = Plan.of(own, other, Path(work) if work is not None else None, topics.queries, depth, device)
        tested = plan.pipelines(pipelines)
        systems = plan.systems(tested, fractions, scores, settings)
        runs, against = plan.runs(systems, tested, progress=progress)
        subjects = Subject.of(_path(system), own_commit), Subject.of(_path(baseline), other_commit)
    return test.certificate(topics, runs, against, subjects, plan.notes, _remembered(given, test.names))


@checked_call
def renew(
    index: str | Path, *, work: str | Path | None = None, device: str = "auto", progress: bool = False
) -> Certificate:
    """Certify an index again as its certificate says, as it is now.

    Args:
        index: an index with a certificate.
        work: as in `certify`.
        device: as in `certify`.
        progress: as in `certify`.

    Raises:
        InputError: it has no certificate, or one that was made of queries or judgments in memory.
        ArtifactError: its certificate cannot be read; or as `certify`.
    """
    earlier = Certificate.read(index)
    if earlier is None:
        raise InputError(f"the index {index} has no certificate to renew; make one with `thresher certify --index`")
    settings = dict(earlier.settings)
    if earlier.baseline.path == earlier.system.path:  # also where the index was moved
        settings["baseline"] = str(index)
    lacking = {"baseline", "queries", "margin"} - settings.keys()
    if lacking or (earlier.kind == "judged" and "qrels" not in settings):
        raise InputError(
            f"the certificate of {index} does not say where its queries and judgments are; give them again: "
            "thresher certify --index INDEX --baseline BASELINE --queries QUERIES --qrels QRELS"
        )
    try:
        return certify(index, **settings, work=work, device=device, progress=progress)
    except TypeError as err:
        raise InputError(f"the certificate of {index} has settings of another release ({err}); certify again") from err


@checked_call
def certify_runs(
    systems: Mapping[str, Run | str | Path],
    baseline: Run | str | Path,
    qrels: str | Path | Qrels | None = None,
    *,
    margin: float,
    measures: str | Iterable[str] = MEASURE,
    claim: Kind = "non-inferiority",
    alpha: float = 0.05,
    judged: int = 1,
) -> Certificate:
    """Test whether runs are worse than a baseline's run by the margin or more: of anything that makes a run.

    Args:
        systems: runs, or TREC files, by name.
        baseline: the run they are compared with, or a TREC file.
        qrels: as in `certify`; topics that are not in the baseline's run are left out.
        margin: as in `certify`.
        measures: as in `certify`.
        claim: as in `certify`.
        alpha: as in `certify`.
        judged: as in `certify`.

    Raises:
        InputError: as `certify`; or a file is not a run.
    """
    against = read_run(baseline) if isinstance(baseline, str | Path) else baseline
    topics = Topics.of([Query(qid, "") for qid in against], qrels, least=judged)
    runs = {Setting(name): read_run(one) if isinstance(one, str | Path) else one for name, one in systems.items()}
    paths = [str(one) if isinstance(one, str | Path) else name for name, one in systems.items()]
    files = [one for one in systems.values() if isinstance(one, str | Path)]
    against_file = [baseline] if isinstance(baseline, str | Path) else []
    name = str(baseline) if isinstance(baseline, str | Path) else against.tag
    subjects = Subject(", ".join(paths), 0, _digest(files), 0), Subject(name, 0, _digest(against_file), 0)
    test = _Test(margin, measures, claim, alpha, judged=qrels is not None)
    return test.certificate(topics, runs, against, subjects)


class _Test:
    """What is to be shown; arguments as of `certify`."""

    def __init__(
        self, margin: float, measures: str | Iterable[str], claim: Kind, alpha: float, *, judged: bool
    ) -> None:
        check_claim(margin, alpha)
        self.names = names_of(measures, judged=judged)
        self.margin, self.claim, self.alpha = margin, claim, alpha

    def certificate(
        self,
        topics: Topics,
        runs: Mapping[Setting, Run],
        against: Run | Mapping[str, Run],
        subjects: tuple[Subject, Subject],
        notes: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> Certificate:
        """Test the runs against the baseline's."""
        margin, claim, alpha, qrels = self.margin, self.claim, self.alpha, topics.qrels
        claims = prove(runs, against, qrels, self.names, margin, claim=claim, alpha=alpha)
        holes, words = _support(decisive_of(claims)[0], runs, against, qrels)
        return Certificate(
            kind="reference" if qrels is None else "judged",
            margin=margin,
            alpha=alpha,
            claim=claim,
            measures=tuple(dict.fromkeys(one.measure for one in claims)),
            queries=topics.source,
            n=len(topics.queries),
            system=subjects[0],
            baseline=subjects[1],
            claims=tuple(claims),
            holes=holes,
            note=" ".join([*topics.notes, *notes, *words]),
            settings=settings or {},
        )


class _opened:  # noqa: N801  (a context manager)
    """An index and its commit: opened here, and closed afterwards, or given open."""

    def __init__(self, given: str | Path | Index) -> None:
        self.given = given

    def __enter__(self) -> tuple[Index, Commit]:
        self.index = self.given if isinstance(self.given, Index) else Index.open(self.given)
        commit = read_commit(self.index.path)
        if commit.number != self.index.commit:
            raise InputError(f"the index {self.index.path} had another commit since it was opened; refresh it")
        return self.index, commit

    def __exit__(self, *_: object) -> None:
        if not isinstance(self.given, Index):
            self.index.close()


def depth_wanted(measures: Sequence[str], *, judged: bool) -> int:
    """Results a query that the measures look at."""
    if not judged:
        return _REFERENCE_DEPTH
    return max(max(one.cutoff or _ALL, 10) for one in parse_measures(measures))


def _support(
    claim: Claim, runs: Mapping[Setting, Run], against: Run | Mapping[str, Run], qrels: Qrels | None
) -> tuple[dict[str, float], list[str]]:
    """What the judgments can support of a claim: in figures, and in words; nothing without judgments."""
    if qrels is None:
        return {}, []
    run = runs[Setting(claim.pipeline, claim.setting, claim.fraction)]
    other = against if isinstance(against, Run) else against[claim.pipeline]
    found = support(run, other, qrels, claim.measure)
    row = found.as_row()
    figures = {name: float(value) for name, value in row.items() if type(value) in (int, float) and name != "n"}
    return figures, [f"Of {name_of(claim)}, {claim.measure}:", *found.sentences()]


def _remembered(given: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """The arguments of `certify` that are plain JSON, to make the certificate again; the others are left out."""
    plain = {**given, "baseline": _path(given["baseline"]), "measures": list(measures)}
    for name in ("system", "work", "device", "progress"):
        plain.pop(name)
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    return {name: value for name, value in plain.items() if value is not None and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool)


def _path(given: str | Path | Index) -> str:
    return str(given.path if isinstance(given, Index) else given)


def _digest(files: Sequence[str | Path]) -> str:
    state = hashlib.sha256()
    for file in files:
        state.update(Path(file).read_bytes())
    return state.hexdigest() if files else ""
