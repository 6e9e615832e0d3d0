"""`thresher calibrate`: set thresholds from your own queries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.output import JsonOption, counted, emit_json, say

app = typer.Typer(no_args_is_help=True, help="Set thresholds from your own queries.")
_HELP = {"help_option_names": ["-h", "--help"]}


@app.command("tiers", context_settings=_HELP)
def tiers(
    directory: Annotated[Path, typer.Argument(help="An index with a second tier.")],
    queries: Annotated[Path, typer.Option(help="A TSV file of logged queries: qid, tab, text.")],
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
