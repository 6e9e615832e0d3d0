"""`thresher eval`: measure runs against judgments, compare them with baselines, or run an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, note, progress_wanted, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.evaluate import Evaluation
    from thresher.evaluate.comparison import Comparison
    from thresher.evaluate.holes import Holes
    from thresher.evaluate.significance import Equivalence, Interval, NonInferiority
    from thresher.records import Qrels

    Cells = tuple[object, ...]
    Compared = tuple[str, str, Comparison]
    """Name of the run, name of the baseline, comparison."""


def eval_(
    experiment: Annotated[str | None, typer.Argument(help="An experiment: a TOML file or a shipped name.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="A TREC run, gzipped or not; repeat for several.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgments, gzipped or not.")] = None,
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks.")] = "nDCG@10 AP RR@10 R@1000 Judged@10",
    per_query: Annotated[bool, typer.Option("--per-query", help="Also show the values of every query.")] = False,
    compare: Annotated[list[Path] | None, typer.Option(help="A baseline run; repeat for several.")] = None,
    margin: Annotated[float | None, typer.Option(help="With --compare: the smallest loss that would matter.")] = None,
    alpha: Annotated[float, typer.Option(help="Significance level.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Random seed of the randomisation test.")] = 0,
    holes: Annotated[int | None, typer.Option(metavar="K", help="List the unjudged documents in each top K.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check an experiment without reading its data.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write an experiment's run to this file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure runs, compare them with baselines, or run an experiment.

    \b
    Measures are named as in ir_measures: nDCG@10, AP(rel=2), RR(rel=2)@10, R(rel=2)@1000, P@10, Success@5,
    Judged@10, Bpref. Queries of the qrels without results count 0. Scores tie at single precision, and ties
    go to the larger docno, as in trec_eval. Intervals and comparisons need scipy (thresher[eval]).

    \b
    Examples:
      thresher eval --run bm25.run --run new.run --qrels qrels.txt --measures "nDCG@10 AP(rel=2)"
      thresher eval --run pruned.run --qrels qrels.txt --compare full.run --margin .02
      thresher eval --run new.run --qrels qrels.txt --holes 10
      thresher eval scifact-bm25 -o scifact.run
      thresher eval trec-dl-2019-full --dry-run
    """
    if experiment is not None:
        if run or qrels or compare:
            raise typer.BadParameter("give an experiment, or --run with --qrels, not both")
        _experiment(experiment, dry_run=dry_run, output=output, per_query=per_query, json=json)
        return
    if not run or qrels is None:
        raise typer.BadParameter("give an experiment, or --run RUN with --qrels QRELS")
    if dry_run or output:
        raise typer.BadParameter("--dry-run and --output need an experiment")
    if margin is not None and not compare:
        raise typer.BadParameter("--margin needs --compare BASELINE")
    from thresher.evaluate import evaluate, find_holes, read_qrels, read_run

    judgments = read_qrels(qrels)
    runs = dict(zip(_names(run), map(read_run, run), strict=True))
    evaluations = {name: evaluate(one, judgments, measures) for name, one in runs.items()}
    baselines = _evaluations(compare or (), judgments, measures)
    compared = _compared(evaluations, baselines, margin=margin, alpha=alpha, seed=seed)
    found = {name: find_holes(one, judgments, holes) for name, one in runs.items()} if holes is not None else {}
    if json:
        emit_json(_document(qrels, evaluations, compared, found, baselines=baselines, per_query=per_query))
    else:
        _show(evaluations, compared, found, baselines=baselines, per_query=per_query)
        _warn_of_grades(judgments, next(iter(evaluations.values())).mean)


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


def _names(paths: Sequence[Path]) -> list[str]:
    """File names without `.run` and `.gz`; whole paths where two would be the same."""
    short = [path.name.removesuffix(".gz").removesuffix(".run") for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"the run {next(n for n in names if names.count(n) > 1)} is given twice")
    return names


def _evaluations(paths: Sequence[Path], qrels: Qrels, measures: str) -> dict[str, Evaluation]:
    from thresher.evaluate import evaluate, read_run

    return {name: evaluate(read_run(path), qrels, measures) for name, path in zip(_names(paths), paths, strict=True)}


def _compared(
    evaluations: Mapping[str, Evaluation],
    baselines: Mapping[str, Evaluation],
    *,
    margin: float | None,
    alpha: float,
    seed: int,
) -> list[Compared]:
    """Every run against every baseline on every measure, as one family."""
    if not baselines:
        return []
    from thresher.evaluate import compare
    from thresher.evaluate.comparison import family

    pairs = [(name, other, m) for name, one in evaluations.items() for other in baselines for m in one.mean]
    found = [
        compare(evaluations[name], baselines[other], measure, margin=margin, alpha=alpha, seed=seed)
        for name, other, measure in pairs
    ]
    return [(name, other, c) for (name, other, _), c in zip(pairs, family(found), strict=True)]


def _document(
    qrels: Path,
    evaluations: Mapping[str, Evaluation],
    compared: Sequence[Compared],
    holes: Mapping[str, Holes],
    *,
    baselines: Mapping[str, Evaluation],
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
    if per_query and baselines:
        document["baselines"] = [{"run": name, "per_query": one.per_query} for name, one in baselines.items()]
    if compared:
        document["compared"] = [{"run": name, "with": other, **c.as_row()} for name, other, c in compared]
    return document


def _show(
    evaluations: Mapping[str, Evaluation],
    compared: Sequence[Compared],
    holes: Mapping[str, Holes],
    *,
    baselines: Mapping[str, Evaluation],
    per_query: bool,
) -> None:
    if per_query:
        shown = {**evaluations, **baselines}
        for name, evaluation in shown.items():
            if len(shown) > 1:
                echo(f"{name}:")
            _show_queries(evaluation.per_query)
        for name, other in ((name, other) for name in evaluations for other in baselines):
            echo(f"{name} minus {other}:")
            _show_queries(_minus(evaluations[name], baselines[other]))
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
    if compared:
        _show_comparisons(compared, several=len(evaluations) > 1)
    if holes:
        _show_holes(holes)


def _minus(system: Evaluation, baseline: Evaluation) -> dict[str, dict[str, float]]:
    """Differences by measure and query."""
    from thresher.evaluate.comparison import differences

    return {
        name: dict(zip(values, differences(system, baseline, name).tolist(), strict=True))
        for name, values in system.per_query.items()
    }


def _warn_of_grades(qrels: Qrels, measures: Iterable[str]) -> None:
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


def _show_comparisons(compared: Sequence[Compared], *, several: bool) -> None:
    def labels(name: str, other: str) -> Cells:
        return (name, other) if several else (other,)

    head = ["run", "baseline", "measure"] if several else ["baseline", "measure"]
    numeric = ["diff", "sd", "low", "high", "p", "Holm", "rand."]
    rows = [
        (*labels(name, other), c.measure, c.difference, c.sd, c.interval.low, c.interval.high, c.p, c.p_adjusted,
         c.p_randomisation)
        for name, other, c in compared
    ]  # fmt: skip
    echo()
    table([*head, *numeric], rows, numeric=numeric)
    level = compared[0][2].interval.level
    echo(
        f"diff: run minus baseline, with its {level:.0%} t interval; p: paired t, unadjusted and by Holm, and "
        "randomisation"
    )
    claims = [
        (*labels(name, other), c.measure, *_claims(c)) for name, other, c in compared if c.non_inferiority is not None
    ]
    echo()
    if claims:
        columns = [*head, "margin", "not worse", "p", "loss <", "same", "p ", "provable"]
        table(columns, claims, numeric=["margin", "p", "loss <", "p ", "provable"])
        echo("not worse: non-inferior at the margin; same: equivalent; p by Holm; provable: margin at power .80")
    else:
        provable = [(*labels(name, other), c.measure, c.provable) for name, other, c in compared]
        table([*head, "provable"], provable, numeric=["provable"])
        echo("provable: the margin of non-inferiority that these queries prove at power .80; test one with --margin")


def _claims(comparison: Comparison) -> Cells:
    low, both = comparison.non_inferiority, comparison.equivalence
    if low is None or both is None:
        return ()
    loss = max(0.0, -low.low)
    return low.margin, _verdict(low), _p(low), loss, _verdict(both), _p(both), comparison.provable


def _verdict(claim: Equivalence | NonInferiority) -> str:
    return "proven" if claim.proven else "no"


def _p(claim: Equivalence | NonInferiority) -> float:
    return claim.p if claim.p_adjusted is None else claim.p_adjusted


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
