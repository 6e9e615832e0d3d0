"""`thresher calibrate`: set thresholds from your own queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.output import JsonOption, emit_json, say

app = typer.Typer(no_args_is_help=True, help="Set thresholds from your own queries: of the second tier.")
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
        margin = calibrate_tiers(index, logged, rate, k=k)
    if json:
        emit_json({"index": str(directory), "queries": len(logged), "rate": margin.rate, "threshold": margin.threshold})
    else:
        say(f"{directory}: calibrated on {len(logged):,} queries; about {rate:.0%} like them will search both tiers")
