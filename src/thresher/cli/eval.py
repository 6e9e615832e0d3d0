"""`thresher eval`: measure a run against judgments, compare it with others, or carry out an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, emit_json, progress_wanted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.evaluate import Evaluation
    from thresher.evaluate.compare import Comparison
    from thresher.evaluate.significance import Equivalence, NonInferiority


def eval_(
    experiment: Annotated[str | None, typer.Argument(help="An experiment: a TOML file or a shipped name.")] = None,
    run: Annotated[Path | None, typer.Option(help="A TREC run, gzipped or not.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgments, gzipped or not.")] = None,
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks.")] = "nDCG@10 AP RR@10 R@1000 Judged@10",
    per_query: Annotated[bool, typer.Option("--per-query", help="Show every topic, not the means alone.")] = False,
    compare: Annotated[list[Path] | None, typer.Option(help="A baseline run; give it again for more.")] = None,
    margin: Annotated[float | None, typer.Option(help="With --compare: the loss that would matter.")] = None,
    alpha: Annotated[float, typer.Option(help="Accepted chance of a false claim.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of the randomisation test.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check an experiment without reading its data.")] = False,
    run_out: Annotated[Path | None, typer.Option(help="Write an experiment's run here.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure a run, compare it with baselines, or carry out an experiment.

    \b
    Measures are named as in ir_measures: nDCG@10, AP(rel=2), RR(rel=2)@10, R(rel=2)@1000, P@10, Success@5,
    Judged@10, Bpref. Topics of the qrels without results count 0. Scores tie at single precision, and ties
    go to the larger docno, as in trec_eval.

    \b
    Examples:
      thresher eval --run bm25.run --qrels qrels.txt --measures "nDCG@10 AP(rel=2) R(rel=2)@1000"
      thresher eval --run pruned.run --qrels qrels.txt --compare full.run --margin .02
      thresher eval eval/scifact-bm25.toml --json
      thresher eval eval/trec-dl-2019-full.toml --dry-run
    """
    if experiment is not None:
        if run or qrels or compare:
            raise typer.BadParameter("give an experiment, or --run with --qrels, not both")
        _experiment(experiment, dry_run=dry_run, run_out=run_out, per_query=per_query, json=json)
        return
    if run is None or qrels is None:
        raise typer.BadParameter("give an experiment, or --run RUN with --qrels QRELS")
    if dry_run or run_out:
        raise typer.BadParameter("--dry-run and --run-out belong to an experiment")
    if margin is not None and not compare:
        raise typer.BadParameter("--margin needs --compare BASELINE")
    from thresher.evaluate import evaluate, read_qrels, read_run
    from thresher.evaluate.compare import compare as compare_evaluations
    from thresher.evaluate.compare import family

    judgments = read_qrels(qrels)
    evaluation = evaluate(read_run(run), judgments, measures)
    baselines = [(path, evaluate(read_run(path), judgments, measures)) for path in compare or ()]
    pairs = [(path, baseline, measure) for path, baseline in baselines for measure in evaluation.mean]
    comparisons = family(
        [
            compare_evaluations(evaluation, baseline, measure, margin=margin, alpha=alpha, seed=seed)
            for _, baseline, measure in pairs
        ]
    )
    compared = [(str(path), comparison) for (path, _, _), comparison in zip(pairs, comparisons, strict=True)]
    if json:
        emit_json(_document(run, qrels, evaluation, compared, per_query=per_query))
    else:
        _show(evaluation, compared, per_query=per_query)


def _experiment(source: str, *, dry_run: bool, run_out: Path | None, per_query: bool, json: bool) -> None:
    from thresher.experiment import run_experiment

    report = run_experiment(source, dry_run=dry_run, run_out=run_out, progress=progress_wanted())
    if json:
        emit_json(report.as_json() | ({"per_query": report.per_query} if per_query else {}))
        return
    table(["plan", ""], [(key, _said(value)) for key, value in report.plan.items()])
    published = dict(report.experiment.published)
    origin = published.pop("source", "")
    if not dry_run:
        numbers = ("measured", "published", "difference")
        cells = [(row["measure"], *("" if row[n] is None else row[n] for n in numbers)) for row in report.rows()]
        table(["measure", *numbers], cells, numeric=numbers)
    elif published:
        table(["measure", "published"], list(published.items()), numeric=["published"])
    if origin:
        typer.echo(f"published: {origin}")
    if per_query and not dry_run:
        _show_topics(report.per_query)


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _document(
    run: Path,
    qrels: Path,
    evaluation: Evaluation,
    compared: Sequence[tuple[str, Comparison]],
    *,
    per_query: bool,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run": str(run),
        "qrels": str(qrels),
        "topics": _topics(evaluation),
        "measured": dict(evaluation.mean),
        "interval_95": {name: list(bounds) for name, bounds in _intervals(evaluation).items()},
    }
    if per_query:
        document["per_query"] = evaluation.per_query
    if compared:
        document["compared"] = [{"with": path, **comparison.as_row()} for path, comparison in compared]
    return document


def _show(evaluation: Evaluation, compared: Sequence[tuple[str, Comparison]], *, per_query: bool) -> None:
    if per_query:
        _show_topics(evaluation.per_query)
    bounds = _intervals(evaluation)
    rows = [(name, mean, *bounds.get(name, ("", ""))) for name, mean in evaluation.mean.items()]
    table(["measure", "mean", "low", "high"], rows, numeric=["mean", "low", "high"])
    typer.echo(f"{_topics(evaluation)} topics; low and high: 95 % t interval of the mean")
    if compared:
        _show_comparisons(compared)


def _show_topics(per_query: Any) -> None:
    names = list(per_query)
    rows = [(qid, *(per_query[name][qid] for name in names)) for qid in per_query[names[0]]]
    table(["qid", *names], rows, numeric=names)


def _show_comparisons(compared: Sequence[tuple[str, Comparison]]) -> None:
    names = {path: Path(path).name.removesuffix(".gz").removesuffix(".run") for path, _ in compared}
    if len(set(names.values())) < len(names):
        names = {path: path for path in names}
    numeric = ["diff", "sd", "low", "high", "p", "Holm", "rand."]
    rows = [
        (
            names[path],
            c.measure,
            c.difference,
            c.sd,
            c.interval.low,
            c.interval.high,
            c.p,
            c.p_adjusted,
            c.p_randomisation,
        )
        for path, c in compared
    ]
    typer.echo()
    table(["baseline", "measure", *numeric], rows, numeric=numeric)
    typer.echo(
        f"diff: run minus baseline, with its {compared[0][1].interval.level:.0%} t interval; p: paired t, alone and "
        "by Holm, and randomisation"
    )
    claims = [(names[path], c.measure, *_claims(c)) for path, c in compared if c.non_inferiority is not None]
    typer.echo()
    if claims:
        columns = ["baseline", "measure", "margin", "not worse", "p", "loss <", "same", "p ", "provable"]
        table(columns, claims, numeric=["margin", "p", "loss <", "p ", "provable"])
        typer.echo("not worse: non-inferior at the margin; same: equivalent; p by Holm; provable: margin at power .80")
    else:
        provable = [(names[path], c.measure, c.provable) for path, c in compared]
        table(["baseline", "measure", "provable"], provable, numeric=["provable"])
        typer.echo(
            "provable: the margin of non-inferiority that these topics prove at power .80; test one with --margin"
        )


def _claims(comparison: Comparison) -> tuple[Any, ...]:
    low, both = comparison.non_inferiority, comparison.equivalence
    if low is None or both is None:
        return ()
    loss = max(0.0, -low.low)
    return low.margin, _verdict(low.proven), _p(low), loss, _verdict(both.proven), _p(both), comparison.provable


def _verdict(proven: bool) -> str:
    return "proven" if proven else "no"


def _p(claim: Equivalence | NonInferiority) -> float:
    return claim.p if claim.p_adjusted is None else claim.p_adjusted


def _topics(evaluation: Evaluation) -> int:
    return len(next(iter(evaluation.per_query.values())))


def _intervals(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    from thresher.evaluate.significance import mean_interval

    if _topics(evaluation) < 2:
        return {}
    intervals = {name: mean_interval(evaluation.values(name)) for name in evaluation.mean}
    return {name: (interval.low, interval.high) for name, interval in intervals.items()}
