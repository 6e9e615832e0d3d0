"""Recorded answers of real models, replayed: the run each recording made, its nDCG@10, and its malformed answers.

33 recordings of five 7B and 13B models on TREC DL 2019, 8,643 windows. A replay asks for the recorded windows under the
sliding plan, reads the answers with `digits-v1` (under which they were made) and must reproduce the recorded run list
for list. Writes eval/results/rerank-replay.json.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import altair as alt

from eval.bench import Bench, Row, options
from eval.collections import data_file
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_qrels, read_run
from thresher.records import Query
from thresher.rerank.replay import RecordedWindows
from thresher.rerank.reranker import Reranked, Reranker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.records import Qrels

PARSER = "digits-v1"


def replay(row: Mapping[str, Any], qrels: Qrels) -> tuple[Row, Counter[str]]:
    """One recording: what became of its windows, and its malformed answers by kind."""
    run = read_run(data_file("runs", f"{row['first_stage']}.dl19.run.gz"), as_listed=True)
    recorded = read_run(data_file("recordings", "runs", f"{row['recording']}.run.gz"), as_listed=True)
    judge = RecordedWindows(data_file("recordings", f"{row['recording']}.windows.jsonl.gz"), PARSER)
    plan = f"sliding:window={row['window']},stride={row['stride']}"
    reranker = Reranker(judge, plan, depth=row["depth"], on_failure="keep")
    made = reranker.rank_batch(run, [Query(qid, "") for qid in run])
    usages = [ranking.usage for ranking in made.values() if isinstance(ranking, Reranked)]
    kinds: Counter[str] = Counter()
    for usage in usages:
        kinds.update(usage.repaired)
        kinds["no ids"] += usage.unreadable
    found = {
        "recording": row["recording"],
        "windows": sum(usage.calls for usage in usages),
        "lists_reproduced": sum(made[qid].docnos == ranking.docnos for qid, ranking in recorded.items()),
        "lists": row["queries"],
        "nDCG@10": evaluate(made, qrels, "nDCG@10").mean["nDCG@10"],
        "recorded_nDCG@10": row["ndcg_cut_10"],
        "malformed": sum(kinds.values()),
    }
    return found, kinds


def main(arguments: Sequence[str]) -> None:
    """Replay everything and write."""
    bench = Bench.of(options("rerank-replay", __doc__).parse_args(arguments))
    qrels = read_qrels(data_file("trec-dl", "qrels.dl19.txt"))
    replayed = [replay(row, qrels) for row in json.loads(data_file("recordings", "index.json").read_text())]
    names = sorted({kind for _, kinds in replayed for kind in kinds})
    rows: list[Row] = [row | {kind: kinds[kind] for kind in names} for row, kinds in replayed]
    summed = ("windows", "lists_reproduced", "lists", "malformed", *names)
    rows.append({"recording": "all", **{key: sum(row[key] for row in rows) for key in summed}})
    points = [{"kind": kind, "answers": rows[-1][kind]} for kind in names]
    plot = (
        alt.Chart(alt.Data(values=points), title="Malformed answers by kind, 8,643 recorded windows")
        .mark_bar()
        .encode(x=alt.X("answers:Q", title="answers"), y=alt.Y("kind:N", sort="-x", title=None))
        .properties(width=520)
    )
    bench.write(
        "rerank-replay",
        rows,
        plot=plot,
        title="Recorded rerankings, replayed",
        note="`format` is anything around the ids but ` > `. An answer without ids leaves its window as it was and is "
        "counted as no information.",
    )
