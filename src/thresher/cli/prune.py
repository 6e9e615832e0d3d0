"""`thresher prune`: decide which passages of a corpus to index, and inspect the decision before anything is encoded."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, progress_wanted, say, table

if TYPE_CHECKING:
    from thresher.prune.plan import PruneReport, PruneStep

_BAR = 40
_SAMPLE = 2000
"""Passages indexed with BM25 to see what a budget in bytes allows."""


def prune(
    corpus: Annotated[
        str, typer.Argument(help="A corpus: .jsonl[.gz|.zst], .tsv, .csv, a BEIR folder, - (stdin), ...")
    ],
    estimator: Annotated[str, typer.Option(help="Quality estimator, or the directory of a fitted one.")] = "embedded",
    scores: Annotated[str, typer.Option(help="Read the scores from this score store instead of scoring.")] = "",
    keep: Annotated[float | None, typer.Option(help="Fraction of the passages to keep, 0 to 1.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Minimum score; passages below it are pruned.")] = None,
    budget: Annotated[str, typer.Option(help="What the index may take: '2 GB', '3 hours'.")] = "",
    rate: Annotated[
        float, typer.Option(help="Bytes of index per word, or words encoded per second; default: measured.")
    ] = 0.0,
    floor: Annotated[int, typer.Option(help="Minimum number of passages kept of every group.")] = 0,
    floor_field: Annotated[str, typer.Option(help="Metadata field that names the group.")] = "",
    pins: Annotated[Path | None, typer.Option(help="File of docnos that are always kept, one a line.")] = None,
    junk: Annotated[bool, typer.Option("--junk/--no-junk", help="Prune junk passages, whatever their score.")] = True,
    drop_junk: Annotated[
        bool, typer.Option("--drop-junk", help="Drop junk; default: where pruned passages go.")
    ] = False,
    fold: Annotated[bool, typer.Option("--fold/--no-fold", help="Fold duplicates into one passage.")] = True,
    similarity: Annotated[float, typer.Option(help="Minimum Jaccard similarity of near-duplicates.")] = 0.8,
    fold_field: Annotated[str, typer.Option(help="Metadata field: fold only passages with the same value of it.")] = "",
    drop: Annotated[bool, typer.Option("--drop", help="Drop passages below the cut; default: second tier.")] = False,
    format: Annotated[
        str, typer.Option(help="jsonl, tsv, csv, trec, parquet or beir, if the suffix does not say.")
    ] = "",
    report: Annotated[bool, typer.Option("--report", help="Show a histogram and examples of pruned passages.")] = False,
    examples: Annotated[int, typer.Option(help="Examples of each kind in the report.")] = 5,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the decision to this directory.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing decision.")] = False,
    json: JsonOption = False,
) -> None:
    """Decide which passages are worth indexing, and show what would be pruned.

    The corpus is not changed. `thresher build --decision DIR` applies a decision that -o wrote. Pruned passages go to
    a second tier that is searched at low cost, so a pruning can be undone.

    \b
    Examples:
      thresher prune corpus.jsonl --keep .9 --report
      thresher prune corpus.jsonl --estimator kl --keep .75 --report --json
      thresher prune corpus.jsonl --budget '500 MB' --drop -o decision
      thresher build corpus.jsonl --decision decision -o my-index
    """
    from thresher.build.recipe import checked
    from thresher.prune.plan import PruneStep

    values = {k: v for k, v in locals().items() if k in PruneStep.model_fields and k not in ("pins", "similarity")}
    values |= {"pins": tuple(_docnos(pins)) if pins else (), "similarity": similarity or None}
    step = checked(PruneStep, values | {"rest": "drop" if drop else "tier-2"}, "options")
    step.check()
    document, shown = _decide(corpus, format, step, examples if report else 0, output, overwrite)
    if json:
        emit_json(document)
        return
    _show(shown, str(document["estimator"]), report)
    if output:
        say(f"decision written to {output}; apply it with: thresher build {corpus} --decision {output} -o INDEX")


def _decide(
    corpus: str, format: str, step: PruneStep, examples: int, output: Path | None, overwrite: bool
) -> tuple[dict[str, object], PruneReport]:
    """Read the corpus once, decide, and write the decision if asked to; returns the report, also as plain JSON."""
    from tqdm import tqdm

    from thresher.build.recipe import EncodeStep
    from thresher.build.tiers import measure
    from thresher.build.weights import CountedTerms, count_terms
    from thresher.corpus import open_corpus
    from thresher.corpus.spool import Spool, refuse_empty
    from thresher.prune.decision import write_decision
    from thresher.prune.frozen import threshold_of
    from thresher.prune.plan import plan_pruning, report

    source = open_corpus(corpus, format=format)
    with tempfile.TemporaryDirectory(prefix="thresher-prune-") as folder:
        spool = Spool(Path(folder) / "corpus", source.name)
        with tqdm(desc="reading", unit=" passages", disable=not progress_wanted(), delay=1) as bar:
            for chunk in spool.fill(source):
                bar.update(len(chunk))
        refuse_empty(spool)
        measured = None
        if step.budget and not step.rate:
            counts = CountedTerms(count_terms(spool, Path(folder) / "counts", "english"), EncodeStep())
            measured = replace(measure(spool, counts, counts, 16, None, passages=_SAMPLE, both=False), seconds=0.0)
        pruning = plan_pruning(spool, step, measured=measured, progress=progress_wanted())
        shown = report(pruning.decision, spool.docnos, pruning.scores, spool.texts, examples=examples)
        if output:
            write_decision(
                output,
                pruning.decision,
                spool.docnos,
                corpus_fingerprint=spool.fingerprint(),
                estimator=pruning.estimator_fingerprint,
                policy=step.model_dump(mode="json"),
                overwrite=overwrite,
                threshold=threshold_of(step, pruning.decision, pruning.scores),
                fitted=pruning.fitted,
            )
    return {"estimator": pruning.estimator, "seconds": pruning.usage.seconds, **shown.as_json()}, shown


def _docnos(file: Path) -> list[str]:
    from thresher.files import read_text_lines

    return [line.strip() for _, line in read_text_lines(file) if line.strip()]


def _show(shown: PruneReport, estimator: str, full: bool) -> None:
    counts = shown.counts
    total = max(counts["passages"], 1)
    rows = [
        (label, f"{counts[key]:,}", f"{counts[key] / total:.1%}")
        for label, key in (
            ("first tier", "tier_1"),
            ("second tier", "tier_2"),
            ("junk", "junk"),
            ("duplicates", "duplicate"),
            ("dropped, all reasons", "dropped"),
        )
    ]
    echo(f"{counts['passages']:,} passages scored by {estimator}")
    table(["", "passages", "share"], rows, numeric=["passages", "share"])
    words = max(counts["words"], 1)
    echo(f"{1 - counts['words_kept'] / words:.1%} of the words are not encoded")
    if not full:
        return
    largest = max(int((shown.kept + shown.pruned).max()), 1)
    echo()
    for low, kept, pruned in zip(shown.edges, shown.kept.tolist(), shown.pruned.tolist(), strict=False):
        bar = "█" * round(_BAR * kept / largest) + "░" * round(_BAR * pruned / largest)
        echo(f"{low:10.3f}  {bar} {kept:,} kept, {pruned:,} pruned")
    echo()
    table(
        ["docno", "score", "why", "text"],
        [(e.docno, e.score, e.reason + (f" of {e.canonical}" if e.canonical else ""), e.text) for e in shown.examples],
        numeric=["score"],
    )
