"""`thresher eval`: measure runs against judgments, or run an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, note, progress_wanted, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.evaluate import Evaluation
    from thresher.evaluate.holes import Holes
    from thresher.evaluate.significance import Interval
    from thresher.records import Qrels


def _moved(value: str | None) -> str | None:
    """Options that are another command's now."""
    if value is not None:
        raise typer.BadParameter(
            "runs are compared by `thresher compare RUN... --qrels QRELS`, which has --baseline, --margin, --alpha and "
            "--seed"
        )
    return value


def eval_(
    experiment: Annotated[str | None, typer.Argument(help="An experiment: a TOML file or a shipped name.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="A TREC run, gzipped or not; repeat for several.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgments, gzipped or not.")] = None,
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks.")] = "nDCG@10 AP RR@10 R@1000 Judged@10",
    per_query: Annotated[bool, typer.Option("--per-query", help="Also show the values of every query.")] = False,
    filled: Annotated[
        Path | None, typer.Option(help="Judgments by `thresher judge`: figures without and with.")
    ] = None,
    holes: Annotated[int | None, typer.Option(metavar="K", help="List the unjudged documents in each top K.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check an experiment without reading its data.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write an experiment's run to this file.")
    ] = None,
    json: JsonOption = False,
    moved: Annotated[
        str | None, typer.Option("--compare", "--margin", "--alpha", "--seed", hidden=True, callback=_moved)
    ] = None,
) -> None:
    """Measure runs, or run an experiment. `thresher compare` compares runs.

    \b
    Measures are named as in ir_measures: nDCG@10, AP(rel=2), RR(rel=2)@10, R(rel=2)@1000, P@10, Success@5,
    Judged@10, Bpref. Queries of the qrels without results count 0. Scores tie at single precision, and ties
    go to the larger docno, as in trec_eval. Intervals need scipy (thresher[eval]).

    \b
    Examples:
      thresher eval --run bm25.run --run new.run --qrels qrels.txt --measures "nDCG@10 AP(rel=2)"
      thresher eval --run new.run --qrels qrels.txt --holes 10
      thresher eval scifact-bm25 -o scifact.run
      thresher eval trec-dl-2019-full --dry-run
    """
    if experiment is not None:
        if run or qrels or filled:
            raise typer.BadParameter("give an experiment, or --run with --qrels, not both")
        _experiment(experiment, dry_run=dry_run, output=output, per_query=per_query, json=json)
        return
    if not run or qrels is None:
        raise typer.BadParameter("give an experiment, or --run RUN with --qrels QRELS")
    if dry_run or output:
        raise typer.BadParameter("--dry-run and --output need an experiment")
    from thresher.evaluate import evaluate, find_holes, read_qrels, read_run

    judgments = read_qrels(qrels)
    runs = dict(zip(names_of(run), map(read_run, run), strict=True))
    evaluations = {name: evaluate(one, judgments, measures) for name, one in runs.items()}
    found = {name: find_holes(one, judgments, holes) for name, one in runs.items()} if holes is not None else {}
    more = None if filled is None else Added.of(filled, judgments)
    again = {name: evaluate(one, more.qrels, measures) for name, one in runs.items()} if more is not None else {}
    if json:
        twice = {} if more is None else {"filled": more.as_json(again)}
        emit_json(_document(qrels, evaluations, found, per_query=per_query) | twice)
    else:
        _show(evaluations, found, per_query=per_query)
        if more is not None:
            _show_twice(evaluations, again, more)
        warn_of_grades(judgments, next(iter(evaluations.values())).mean)


@dataclass(frozen=True, slots=True)
class Added:
    """Judgments by people with those by a model added.

    Attributes:
        judge: the model's name.
        documents: judgments that were added.
        qrels: both.
    """

    judge: str
    documents: int
    qrels: Qrels

    @classmethod
    def of(cls, path: Path, people: Qrels) -> Added:
        """The judgments of people, with those of a file of `thresher judge`."""
        from thresher.evaluate.filled import read_filled, with_filled

        filled = read_filled(path)
        both = with_filled(people, filled)
        count = sum(len(topic) - len(people.judgments[qid]) for qid, topic in both.judgments.items())
        return cls(filled.judge, count, both)

    def as_json(self, evaluations: Mapping[str, Evaluation] | None = None) -> dict[str, object]:
        """The judge, how much it added, and what that makes of runs."""
        runs = [{"run": name, "measured": dict(one.mean)} for name, one in (evaluations or {}).items()]
        return {"judge": self.judge, "documents": self.documents} | ({"runs": runs} if runs else {})

    def __str__(self) -> str:
        return f"with {self.documents:,} judgments by {self.judge}" if self.documents else "with no judgment added"


def _show_twice(judged: Mapping[str, Evaluation], both: Mapping[str, Evaluation], added: Added) -> None:
    """Every figure by people's judgments, and with the filled ones."""
    rows = [
        (name, measure, mean, both[name].mean[measure], both[name].mean[measure] - mean)
        for name, evaluation in judged.items()
        for measure, mean in evaluation.mean.items()
    ]
    echo()
    numeric = ["judged", "filled", "change"]
    table(["run", "measure", *numeric], rows, numeric=numeric)
    echo(f"judged: by people alone; filled: {added}")


def _experiment(source: str, *, dry_run: bool, output: Path | None, per_query: bool, json: bool) -> None:
    from thresher.experiment import run_experiment

    report = run_experiment(source, dry_run=dry_run, output=output, progress=progress_wanted())
    if json:
        emit_json(report.as_json() | ({"per_query": report.per_query} if per_query else {}))
        return
    table(["plan", ""], [(key, _text(value)) for key, value in report.plan.items()])
    published = dict(report.experiment.published)
    origin = published.pop("source", "")
    if not dry_run:
        numbers = ("measured", "published", "difference")
        cells = [(row["measure"], *("" if row[n] is None else row[n] for n in numbers)) for row in report.rows()]
        table(["measure", *numbers], cells, numeric=numbers)
    elif published:
        table(["measure", "published"], list(published.items()), numeric=["published"])
    if origin:
        echo(f"published: {origin}")
    if per_query and not dry_run:
        _show_queries(report.per_query)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def names_of(paths: Sequence[Path]) -> list[str]:
    """File names without `.run` and `.gz`; whole paths where two would be the same.

    Raises:
        BadParameter: a run is given twice.
    """
    short = [path.name.removesuffix(".gz").removesuffix(".run") for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"the run {next(n for n in names if names.count(n) > 1)} is given twice")
    return names


def _document(
    qrels: Path,
    evaluations: Mapping[str, Evaluation],
    holes: Mapping[str, Holes],
    *,
    per_query: bool,
) -> dict[str, object]:
    runs = []
    for name, evaluation in evaluations.items():
        row: dict[str, object] = {
            "run": name,
            "measured": dict(evaluation.mean),
            "interval_95": {measure: [i.low, i.high] for measure, i in _intervals(evaluation).items()},
        }
        if per_query:
            row["per_query"] = evaluation.per_query
        if name in holes:
            row["holes"] = {
                "k": holes[name].cutoff,
                "rate": holes[name].rate,
                "found": [{"qid": hole.qid, "docno": hole.docno, "rank": hole.rank} for hole in holes[name].found],
            }
        runs.append(row)
    document: dict[str, object] = {"qrels": str(qrels), "queries": _queries(evaluations), "runs": runs}
    return document


def _show(
    evaluations: Mapping[str, Evaluation],
    holes: Mapping[str, Holes],
    *,
    per_query: bool,
) -> None:
    if per_query:
        for name, evaluation in evaluations.items():
            if len(evaluations) > 1:
                echo(f"{name}:")
            _show_queries(evaluation.per_query)
    if len(evaluations) == 1:
        (evaluation,) = evaluations.values()
        intervals = _intervals(evaluation)
        bounds = {measure: (i.low, i.high) for measure, i in intervals.items()}
        rows = [(measure, mean, *bounds.get(measure, ("", ""))) for measure, mean in evaluation.mean.items()]
        table(["measure", "mean", "low", "high"], rows, numeric=["mean", "low", "high"])
        echo(f"{_queries(evaluations)} queries; low and high: 95 % t interval of the mean")
    else:
        names = list(next(iter(evaluations.values())).mean)
        table(["run", *names], [(name, *e.mean.values()) for name, e in evaluations.items()], numeric=names)
        echo(f"{_queries(evaluations)} queries")
    if holes:
        _show_holes(holes)


def warn_of_grades(qrels: Qrels, measures: Iterable[str]) -> None:
    """Say that binary measures take grade 1 for relevant, where grades go beyond it."""
    binary = [name for name in measures if name.split("@")[0] in ("AP", "RR", "R", "P", "Success", "Bpref")]
    if binary and any(grade > 1 for topic in qrels.judgments.values() for grade in topic.values()):
        note(
            f"the judgments have grades above 1, and {', '.join(binary)} count every grade from 1 as relevant; TREC "
            f"deep learning passages count from 2, as in {binary[0].split('@')[0]}(rel=2)"
        )


def _show_queries(per_query: Mapping[str, Mapping[str, float]]) -> None:
    names = list(per_query)
    rows = [(qid, *(per_query[name][qid] for name in names)) for qid in per_query[names[0]]]
    table(["qid", *names], rows, numeric=names)


def _show_holes(holes: Mapping[str, Holes]) -> None:
    echo()
    rows = [(name, hole.qid, hole.rank, hole.docno) for name, found in holes.items() for hole in found.found]
    if rows:
        table(["run", "qid", "rank", "unjudged"], rows, numeric=["rank"])
    for name, found in holes.items():
        count = f"{len(found.found)} of {found.retrieved} documents in the top {found.cutoff} are unjudged"
        echo(f"{name}: {count} ({found.rate:.1%})")


def _queries(evaluations: Mapping[str, Evaluation]) -> int:
    first = next(iter(evaluations.values()))
    return len(next(iter(first.per_query.values())))


def _intervals(evaluation: Evaluation) -> dict[str, Interval]:
    """By measure; none for a single query, or where scipy is not installed."""
    from thresher.errors import MissingExtraError
    from thresher.evaluate.significance import mean_interval

    if _queries({"": evaluation}) < 2:
        return {}
    try:
        return {name: mean_interval(evaluation.values(name)) for name in evaluation.mean}
    except MissingExtraError as err:
        note(str(err))
        return {}
