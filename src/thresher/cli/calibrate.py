"""`thresher calibrate`: set thresholds from your own queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.output import JsonOption, counted, emit_json, grouped, note, refuse_input_as_output, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.rerank.calibration import ScoreCalibration, Unjudged
    from thresher.search import Index
    from thresher.search.queries import AnyQuery

app = typer.Typer(no_args_is_help=True, help="Set thresholds from your own queries.")
_HELP = {"help_option_names": ["-h", "--help"]}


@app.command("tiers", context_settings=_HELP)
def tiers(
    directory: Annotated[Path, typer.Argument(help="An index with a second tier.")],
    queries: Annotated[Path, typer.Option(help="Logged queries: TSV (qid, tab, text) or JSON lines.")],
    rate: Annotated[float, typer.Option(min=0, max=1, help="Share of the queries that search the second tier.")] = 0.3,
    k: Annotated[int, typer.Option("-k", min=1, help="Passages of an answer.")] = 10,
    json: JsonOption = False,
) -> None:
    """Calibrate when a query searches the second tier, on logged queries without judgements.

    Without calibration every query searches both tiers. Use queries that did not decide what was pruned.

    \b
    Example:
      thresher calibrate tiers my-index --queries log.tsv --rate 0.3
    """
    from thresher.evaluate.trec import read_queries
    from thresher.search import Index, calibrate_tiers

    with Index.open(directory) as index:
        logged = list(read_queries(queries))
        model = calibrate_tiers(index, logged, rate, k=k)
    if json:
        emit_json({"index": str(directory), "queries": len(logged), "rate": model.rate, "threshold": model.threshold})
    else:
        say(f"{directory}: calibrated on {counted(len(logged))}; about {rate:.0%} like them will search both tiers")


@app.command("recall", context_settings=_HELP)
def recall(
    directory: Annotated[Path, typer.Argument(help="An index.")],
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Logged queries: TSV (qid, tab, text, or terms for an index without encoder), JSON lines, or texts, "
            "one a line. "
            "By default words of the passages."
        ),
    ] = None,
    k: Annotated[list[int], typer.Option("-k", "--k", min=1, help="Passages of an answer; repeat for several.")] = [  # noqa: B006
        10,
        100,
        1000,
    ],
    sample: Annotated[int, typer.Option(min=1, help="Queries to make of the passages, without --queries.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the sample, and of the queries that choose.")] = 0,
    json: JsonOption = False,
) -> None:
    """Measure what a search for less than the exact answer saves, so that searches can be asked for a recall.

    The index then answers `recall=.99` (library, server, recipe) as fast as keeps 99 % of the exact answer on average.
    Without it such searches are exact. No judgements are needed. Some hundreds of queries are, the more the better:
    what few queries cannot show is not promised.

    \b
    Examples:
      thresher calibrate recall my-index --queries log.tsv
      thresher calibrate recall my-index --sample 2000 -k 10 -k 100
    """
    from thresher.search import Index
    from thresher.search.recall_report import promises

    with Index.open(directory) as index:
        logged = None if queries is None else _log_of(index, queries)
        curve = index.calibrate_recall(
            logged, ks=k, sample=sample, seed=seed, source="" if queries is None else queries.name
        )
    rows = promises(curve)
    if json:
        emit_json({"index": str(directory), "queries": curve.queries, "source": curve.source, "promises": rows})
        return
    say(f"{directory}: recall calibrated on {counted(curve.queries)}, {curve.source}")
    show_promises(rows)


def show_promises(rows: Sequence[Mapping[str, object]]) -> None:
    """Print what promises cost, one a row."""
    columns = ["k", "recall", "expected", "ms", "exact ms", "effort"]
    shown = [
        (f"{row['k']:,}", f"{row['recall']:g}", f"{row['expected']:.4f}", f"{row['ms']:.3f}", f"{row['exact_ms']:.3f}",
         str(row["effort"]))
        for row in rows
    ]  # fmt: skip
    table(columns, shown, numeric=columns[:-1])


def _log_of(index: Index, file: Path) -> list[AnyQuery]:
    """The queries of a log, as the index takes them."""
    from thresher.encode.preencoded import read_queries_for
    from thresher.encode.query_side import TermsOnly
    from thresher.files import read_text_lines

    texts = not isinstance(index.encoder, TermsOnly)
    lines = [line.strip() for _, line in read_text_lines(file) if line.strip()]
    if texts and not any("\t" in line for line in lines) and not (lines and lines[0].startswith("{")):
        return list(lines)
    return list(read_queries_for(file, texts=texts).values())


@app.command("context", context_settings=_HELP)
def context(
    labelled: Annotated[
        Path,
        typer.Argument(
            help='JSON lines {"query", "passage", "answers": [[start, end], ...]}, in code points of the passage (no '
            "answers: nothing in it helps), or a file in the format of SQuAD 2.0 (.json)."
        ),
    ],
    goal: Annotated[float, typer.Option("--goal", "-g", help="Share of the answers to keep.")] = 0.98,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The sentence scorer, by name or path, as for `thresher context`.")
    ] = "thresher-context",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Find the sentence threshold that keeps the answer as often as you want, on your own labelled queries.

    Also finds min_confidence: below it no passage is returned. Both are keys of a recipe's [ask] table.

    \b
    Example:
      thresher calibrate context held-out.jsonl --goal 0.98
    """
    from thresher.context.calibrate import calibrate, calibrate_confidence, read_labelled
    from thresher.context.scorers import SentenceScorer, SplitPassage

    rows = read_labelled(labelled)
    scorer = SentenceScorer.from_name(model, device=device)
    scores = scorer.score([(row.query, SplitPassage(row.passage, row.sentences)) for row in rows])
    found, sure = calibrate(rows, scores, goal), calibrate_confidence(rows, scores, goal)
    if json:
        emit_json({**asdict(found), "confidence": asdict(sure), "scorer": scorer.name})
        return
    say(
        f"threshold = {found.threshold:.4f} keeps {found.answer_kept:.1%} of the answers of {counted(found.queries)} "
        f"(95 % interval {found.low:.1%} to {found.high:.1%}) and drops {found.pruned:.0%} of their passages"
    )
    withheld = (
        "" if sure.withheld is None else f" and withholds {sure.withheld:.0%} of the {sure.unanswerable:,} without"
    )
    say(f"min_confidence = {sure.min_confidence:.4f} answers {sure.answered:.1%} of those with an answer{withheld}")


@dataclass(frozen=True)
class Fitting:
    """How scores are fitted."""

    relevant: Annotated[int, typer.Option(min=1, help="Lowest grade that counts as relevant.")] = 1
    unjudged: Annotated[
        str,
        typer.Option(help="Passages without a judgment: not-relevant, as in trec_eval, or left-out."),
    ] = "not-relevant"
    method: Annotated[str, typer.Option(help="Curve: isotonic, platt, or auto (the better on held-out topics).")] = (
        "auto"
    )
    depth: Annotated[int | None, typer.Option(min=1, help="Passages per query; by default as reranked, or 50.")] = None
    folds: Annotated[int, typer.Option(min=2, help="Folds of topics.")] = 5

    def checked(self) -> tuple[Unjudged, Literal["auto", "isotonic", "platt"]]:
        """What unjudged passages count as, and the curve."""
        if self.unjudged not in ("left-out", "not-relevant"):
            raise typer.BadParameter("choose not-relevant or left-out", param_hint="--unjudged")
        if self.method not in ("auto", "isotonic", "platt"):
            raise typer.BadParameter("choose auto, isotonic or platt", param_hint="--method")
        return self.unjudged.replace("-", " "), self.method  # type: ignore[return-value]  # checked above


@dataclass(frozen=True)
class Origin:
    """Where the scores of a run are from."""

    judge: Annotated[str, typer.Option(help="Name of the run's judge, where no file beside the run has it.")] = ""
    plan: Annotated[str, typer.Option(help="Name of the run's plan, likewise.")] = ""
    signal: Annotated[
        str, typer.Option(help="What is calibrated: score, rank, or auto (the better on held-out topics).")
    ] = "auto"


@app.command("scores", context_settings=_HELP)
@grouped
def scores(
    source: Annotated[Path, typer.Argument(help="A run that `thresher rerank` wrote, or an index.")],
    qrels: Annotated[Path, typer.Option(help="Judgments.")],
    fitting: Fitting,
    origin: Origin,
    queries: Annotated[Path | None, typer.Option(help="For an index: TSV (qid, tab, text) or JSON lines.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; an index keeps its own.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find out what a reranker's scores mean: the probability that a passage with such a score is relevant.

    For a run, the file is what `thresher rerank --calibration` and `Reranker(calibration=...)` take. For an index, the
    model that reads its passages (the recipe's reranker, else thresher-context) is calibrated, and the index keeps
    the result; `thresher ask --min-score` and the server use it. The error printed is on topics that were held out.

    \b
    Examples:
      thresher calibrate scores reranked.run --qrels qrels.txt --relevant 2 -o scores.json
      thresher calibrate scores my-index --queries queries.tsv --qrels qrels.txt
    """
    refuse_input_as_output(output, source, qrels, queries)
    if source.is_dir():
        made = _of_index(source, queries, qrels, fitting)
        kept = str(source)
    else:
        if output is None:
            raise typer.BadParameter("give the file to write", param_hint="--output")
        made, kept = _of_run(source, qrels, fitting, origin), str(output)
    if output is not None:
        made.save(output)
    if json:
        emit_json({"calibration": kept, **made.as_json(), "meaning": made.meaning})
        return
    held = made.held_out
    say(
        f"{kept}: {made.method} curve of {made.signal}s for {made.judge} with {made.plan}, fitted on {made.pairs:,} "
        f"passages of {counted(made.topics)} ({made.positives:,} relevant at grade {made.relevant} or higher; "
        f"passages without a judgment are {made.unjudged})"
    )
    say(
        f"expected calibration error on held-out topics {held.ece:.3f} (95 % interval {held.low:.3f} to "
        f"{held.high:.3f}; {held.folds} folds)"
    )
    if made.topics < _FEW:
        note(f"{made.topics} topics are few: the curve may be off by as much as the interval says")


_FEW = 30


def _of_run(run: Path, qrels: Path, fitting: Fitting, origin: Origin) -> ScoreCalibration:
    from thresher.evaluate.trec import read_qrels, read_run
    from thresher.rerank.calibration_fit import fit_calibration, judged_pairs
    from thresher.rerank.run_settings import RunSettings

    made_with = RunSettings.read(run)
    judge, plan = origin.judge, origin.plan
    if made_with is not None:
        judge, plan = judge or made_with.judge, plan or made_with.plan
    if not judge or not plan:
        raise typer.BadParameter(f"there is no {run}.json beside the run; give --judge and --plan")
    if made_with is not None and made_with.scores == "probability":
        raise typer.BadParameter(f"the scores of {run} are probabilities; calibrate the run without --calibration")
    if origin.signal not in ("auto", "score", "rank"):
        raise typer.BadParameter("choose auto, score or rank", param_hint="--signal")
    unjudged, method = fitting.checked()
    pairs = judged_pairs(
        read_run(run, as_listed=True),
        read_qrels(qrels),
        relevant=fitting.relevant,
        depth=fitting.depth or (None if made_with is None else made_with.depth),
        scored=made_with is None or made_with.scores == "score",
        unjudged=unjudged,
    )
    return fit_calibration(
        pairs,
        judge=judge,
        plan=plan,
        relevant=fitting.relevant,
        signal=origin.signal,  # type: ignore[arg-type]  # checked above
        method=method,
        folds=fitting.folds,
        model="" if made_with is None else made_with.model,
        source=f"{len(set(pairs.topics))} topics of {qrels.name}",
    )


def _of_index(index: Path, queries: Path | None, qrels: Path, fitting: Fitting) -> ScoreCalibration:
    from thresher.evaluate.trec import read_qrels, read_queries
    from thresher.pipeline.calibration_run import calibrate_index

    if queries is None:
        raise typer.BadParameter("give the queries of the judgments", param_hint="--queries")
    unjudged, method = fitting.checked()
    return calibrate_index(
        index,
        read_queries(queries),
        read_qrels(qrels),
        relevant=fitting.relevant,
        depth=fitting.depth or 50,
        unjudged=unjudged,
        method=method,
        folds=fitting.folds,
        source=qrels.name,
    )
