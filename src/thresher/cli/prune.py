"""`thresher prune`: decide what a corpus should be indexed of, and look at it before anything is encoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, emit_json, say, table

if TYPE_CHECKING:
    from thresher.prune.report import PruneReport

_BAR = 40


def prune(
    corpus: Annotated[str, typer.Argument(help="A corpus: .jsonl[.gz|.zst], .tsv, .csv, a BEIR folder, ...")],
    estimator: Annotated[str, typer.Option(help="Quality estimator, or the directory of a fitted one.")] = "embedded",
    scores: Annotated[str, typer.Option(help="Take the scores from this score store.")] = "",
    keep: Annotated[float | None, typer.Option(help="Fraction of the passages to keep, 0 to 1.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least score to keep.")] = None,
    budget: Annotated[str, typer.Option(help="What the kept passages may cost: '2 GB', '3 hours'.")] = "",
    rate: Annotated[float, typer.Option(help="Bytes a word of index, or words a second of encoding.")] = 0.0,
    floor: Annotated[int, typer.Option(help="Passages every group keeps at least.")] = 0,
    floor_field: Annotated[str, typer.Option(help="Metadata field that names the group.")] = "",
    pins: Annotated[Path | None, typer.Option(help="File of docnos that stay, one a line.")] = None,
    junk: Annotated[bool, typer.Option("--junk/--no-junk", help="Junk goes first.")] = True,
    fold: Annotated[bool, typer.Option("--fold/--no-fold", help="Fold duplicates to one passage.")] = True,
    similarity: Annotated[float, typer.Option(help="Least Jaccard similarity of near-duplicates.")] = 0.8,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the rest; default: second tier.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Show a histogram and examples of what goes.")] = False,
    examples: Annotated[int, typer.Option(help="Examples of each sort in the report.")] = 5,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the decision to this directory.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a decision that stands there.")] = False,
    json: JsonOption = False,
) -> None:
    """Decide which passages are worth indexing, and show what would go, before anything is encoded.

    Nothing is changed: the decision is shown, and written where -o says. Removed passages go to the second tier, which
    is searched only where the first looks unsure, so a pruning can be undone.

    \b
    Examples:
      thresher prune corpus.jsonl --keep .9 --report
      thresher prune corpus.jsonl --estimator kl --keep .75 --report --json
      thresher prune corpus.jsonl --budget '500 MB' --rate 4.2 -o decision
      thresher prune corpus.jsonl --keep .8 --floor 1 --floor-field source
    """
    from thresher.corpus import open_corpus
    from thresher.files import read_text_lines
    from thresher.prune.plan import plan_pruning
    from thresher.prune.report import report as describe
    from thresher.prune.step import PruneStep
    from thresher.prune.tiers import write_decision

    step = PruneStep(
        estimator=estimator,
        scores=scores,
        keep=keep,
        threshold=threshold,
        budget=budget,
        rate=rate,
        floor=floor,
        floor_field=floor_field,
        pins=tuple(line.strip() for _, line in read_text_lines(pins) if line.strip()) if pins else (),
        junk=junk,
        fold=fold,
        similarity=similarity,
        rest="drop" if drop else "tier-2",
    )
    opened = open_corpus(corpus)
    plan = plan_pruning(opened, step, corpus_fingerprint=opened.fingerprint() if scores else "")
    shown = describe(plan.decision, plan.docnos, plan.scores, plan.texts, examples=examples if report else 0)
    if output:
        write_decision(
            output,
            plan.decision,
            plan.docnos,
            corpus_fingerprint=opened.fingerprint(),
            estimator=plan.estimator_fingerprint,
            policy=step.model_dump(mode="json"),
            overwrite=overwrite,
        )
    if json:
        document: dict[str, Any] = {"estimator": plan.estimator, "seconds": plan.account.seconds, **shown.as_json()}
        emit_json(document)
        return
    _show(shown, plan.estimator, report)
    if output:
        say(f"decision written to {output}")


def _show(shown: PruneReport, estimator: str, full: bool) -> None:
    counts = shown.counts
    total = max(counts["passages"], 1)
    rows = [
        (label, f"{counts[key]:,}", f"{counts[key] / total:.1%}")
        for label, key in (
            ("first tier", "tier_1"),
            ("second tier", "tier_2"),
            ("junk", "junk"),
            ("duplicates folded", "duplicate"),
            ("dropped, all reasons", "dropped"),
        )
    ]
    typer.echo(f"{counts['passages']:,} passages scored by {estimator}")
    table(["", "passages", "share"], rows, numeric=["passages", "share"])
    words = max(counts["words"], 1)
    typer.echo(f"{1 - counts['words_kept'] / words:.1%} of the words need not be encoded")
    if not full:
        return
    largest = max(int((shown.kept + shown.gone).max()), 1)
    typer.echo("")
    for low, kept, gone in zip(shown.edges, shown.kept.tolist(), shown.gone.tolist(), strict=False):
        bar = "█" * round(_BAR * kept / largest) + "░" * round(_BAR * gone / largest)
        typer.echo(f"{low:10.3f}  {bar} {kept:,} kept, {gone:,} gone")
    typer.echo("")
    table(
        ["docno", "score", "why", "text"],
        [(e.docno, e.score, e.reason + (f" of {e.canonical}" if e.canonical else ""), e.text) for e in shown.examples],
        numeric=["score"],
    )
