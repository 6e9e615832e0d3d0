"""`thresher hybrank`: train a reranker that reads similarities between the candidates, on your own judgments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.output import JsonOption, emit_json, refuse_input_as_output, table


def hybrank(
    run: Annotated[Path, typer.Argument(help="TREC run of the first stage, for the judged queries.")],
    queries: Annotated[Path, typer.Option(help="Queries: TSV (qid, tab, text) or JSON lines.")],
    qrels: Annotated[Path, typer.Option(help="TREC judgments of the queries.")],
    index: Annotated[Path, typer.Option(help="The index the run was made on.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the new model.")],
    depth: Annotated[int, typer.Option(min=2, help="First passages of each ranking.")] = 100,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model at the output.")] = False,
    json: JsonOption = False,
) -> None:
    """Train a reranker on judged queries: similarities of the candidates to each other, without a language model.

    Some hundreds of judged queries are needed; a fifth of them is held out, and the figures shown are of that fifth.

    \b
    Examples:
      thresher hybrank first.run --queries train.tsv --qrels train.qrels --index my-index -o my-hybrank
      thresher rerank first.run --queries q.tsv --index my-index --model hybrank:my-hybrank -o out.run
    """
    from thresher.evaluate.trec import read_qrels, read_queries, read_run
    from thresher.rerank.hybrank_training import train_hybrank

    refuse_input_as_output(output, run, queries, qrels, index)
    model = train_hybrank(
        read_run(run, as_listed=True), list(read_queries(queries)), read_qrels(qrels), index, depth=depth, seed=seed
    )
    model.save(output, overwrite=overwrite)
    if json:
        emit_json({"path": str(output), **model.about})
        return
    rows = [(name.replace("_", " "), value) for name, value in (("path", str(output)), *model.about.items())]
    table(["", "value"], rows, numeric=["value"])
