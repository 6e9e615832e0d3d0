"""Recorded answers of real models, replayed: the run each recording made, its nDCG@10, and its malformed answers.

33 recordings of five 7B and 13B models on TREC DL 2019, 8,643 windows. A replay asks for the recorded windows under the
sliding plan, reads the answers with `digits-v1` (under which they were made) and must reproduce the recorded run list
for list.

    THRESHER_DATA=... python eval/rerank_replay.py
"""

import json
import os
from collections import Counter
from pathlib import Path

import altair as alt

from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_qrels, read_run
from thresher.ranking import Ranking, Run
from thresher.records import Hit, Query
from thresher.rerank.replay import RecordedWindows
from thresher.rerank.reranker import Reranker


def replay(data, row, qrels, parsing):
    """One recording: whether the lists are the recorded ones, nDCG@10, and what became of its answers."""
    run = read_run(data / f"runs/{row['first_stage']}.dl19.run.gz", as_listed=True)
    wanted = read_run(data / f"recordings/runs/{row['recording']}.run.gz", as_listed=True)
    judge = RecordedWindows(data / f"recordings/{row['recording']}.windows.jsonl.gz", parsing)
    plan = f"sliding:window={row['window']},stride={row['stride']}"
    reranker = Reranker(judge, plan, depth=row["depth"], on_failure="keep")
    results = reranker.rank_batch(
        [
            (Query(qid, ""), [Hit(r.docno, r.score, rank) for rank, r in enumerate(rows, 1)])
            for qid, rows in run.rankings.items()
        ]
    )
    made = Run({r.qid: Ranking.from_pairs((hit.docno, hit.score) for hit in r.hits) for r in results})
    same = sum(
        [r.docno for r in made.rankings[qid]] == [r.docno for r in rows] for qid, rows in wanted.rankings.items()
    )
    kinds = Counter()
    for result in results:
        kinds.update(result.record.repaired)
        kinds["no ids"] += result.record.unreadable
    return same, evaluate(made, qrels, "nDCG@10").mean["nDCG@10"], kinds, sum(r.record.calls for r in results)


def main():
    data = Path(os.environ["THRESHER_DATA"])
    qrels = read_qrels(data / "trec-dl/qrels.dl19.txt")
    index = json.loads((data / "recordings/index.json").read_text())
    replayed = [(row, *replay(data, row, qrels, "digits-v1")) for row in index]
    names = sorted({kind for *_, kinds, _ in replayed for kind in kinds})
    rows = [
        {
            "recording": row["recording"],
            "windows": windows,
            "lists_reproduced": same,
            "lists": row["queries"],
            "ndcg_cut_10": value,
            "recorded_ndcg_cut_10": row["ndcg_cut_10"],
            "malformed": sum(kinds.values()),
            **{kind: kinds[kind] for kind in names},
        }
        for row, same, value, kinds, windows in replayed
    ]
    summed = ("windows", "lists_reproduced", "lists", "malformed", *names)
    rows.append({"recording": "all", **{key: sum(row[key] for row in rows) for key in summed}})
    points = [{"kind": kind, "answers": rows[-1][kind]} for kind in names]
    plot = (
        alt.Chart(alt.Data(values=points), title="Malformed answers by kind, 8,643 recorded windows")
        .mark_bar()
        .encode(x=alt.X("answers:Q", title="answers"), y=alt.Y("kind:N", sort="-x", title=None))
        .properties(width=520)
    )
    write_results(
        "eval/results/rerank-replay.json",
        rows,
        command="python eval/rerank_replay.py",
        plot=plot,
        title="Recorded rerankings, replayed",
        note="`format` is anything around the ids but ` > `. An answer without ids leaves its window as it was and is "
        "counted as no information.",
    )


if __name__ == "__main__":
    main()
