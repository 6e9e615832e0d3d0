"""The tables of README and docs, and the command that writes them from the result files.

`python -m eval tables` writes what is between the markers of README.md and docs/*.md (`eval/figures.py` says which);
with --check it says which pages differ, and exits with 1 if one does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from eval.figures import Column, Listing, Pivot, Sheet, Where, markdown, matching, pages, rendered, rows_of, shown
from thresher.durable import write_atomic
from thresher.errors import ThresherError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.bench import Row

ROOT = Path(__file__).parents[1]
COLLECTIONS = {
    "trec-dl-2019": "trec-dl-2019 (mini)",
    "scifact": "SciFact",
    "nfcorpus": "NFCorpus",
    "cranfield": "Cranfield",
    "med": "MED",
    "npl": "NPL",
}
MEAN6 = {"collection": "mean of 6", "pipeline": "bm25"}
HALVED = {"pruned": 0.5, "wanted_rate": 0.3, "threshold": "live"}
PANEL = "search-goals collection=real-learned track=splade setting=default"
CONTEXT = "context-pruning collection=mean system=thresher-context preset=balanced"


def _per_collection(template: str, names: Sequence[str] = tuple(COLLECTIONS), **where: str) -> list[Column]:
    return [Column(COLLECTIONS[name], template, {"collection": name, **where}) for name in names]


_HEADLINE = (
    ("", "thresher", "compared with"),
    (
        (
            "search, exact top 10 of 101,354 passages, SPLADE++ queries, median on one core",
            f"{{{{{PANEL} k=10 p50_ms:.3f}}}} ms",
            f"best exact peer {{{{{PANEL} k=10 peer_p50_ms:.3f}}}} ms",
        ),
        (
            "search, exact top 1000, the same",
            f"{{{{{PANEL} k=1000 p50_ms:.3f}}}} ms",
            f"best exact peer {{{{{PANEL} k=1000 peer_p50_ms:.3f}}}} ms",
        ),
        (
            "BM25, nDCG@10 on TREC DL 2019 (msmarco-v1-mini)",
            "{{bm25 collection=trec-dl-2019 measure=nDCG@10 bits=16 measured:.4f}}",
            "Anserini {{bm25 collection=trec-dl-2019 measure=nDCG@10 bits=16 published:.4f}}",
        ),
        (
            "<default> with vectors and feedback, the same, "
            "{{cascade collection=trec-dl-2019 stages=<first>,interpolate ms_p50:.0f}} ms a query on CPU",
            "{{cascade collection=trec-dl-2019 stages=<first>,interpolate nDCG@10:.4f}}",
            "vectors alone {{cascade collection=trec-dl-2019 stages=dense nDCG@10:.4f}}",
        ),
        (
            "+ cross-encoder over 50 passages",
            "{{cascade collection=trec-dl-2019 stages=<first>,interpolate,rank nDCG@10:.4f}}",
            "",
        ),
        (
            "context: answers kept, characters of relevant and irrelevant passages pruned",
            f"{{{{{CONTEXT} '{{answer_kept:.1%}}, {{pruned_relevant:.1%}}, {{pruned_irrelevant:.1%}}'}}}}",
            "",
        ),
        (
            "static pruning: loss of nDCG@10 at 10 % of the passages, mean of six collections",
            "{{quality-curves collection='mean of 6' pipeline=bm25 estimator=embedded kept=0.9 loss:.3f}}",
            "random pruning {{quality-curves collection='mean of 6' pipeline=bm25 estimator=embedded kept=0.9 "
            "random_loss:.3f}}",
        ),
    ),
)
bm25 = Pivot(
    "bm25",
    [
        Column("thresher", "{measured:.4f}", {"bits": 16}),
        Column("thresher, 8 bits", "{measured:.4f}", {"bits": 8}),
        Column("Anserini", "{published:.4f}", {"bits": 16}),
    ],
    [(COLLECTIONS[name], {"collection": name, "measure": "nDCG@10"}) for name in COLLECTIONS],
    "nDCG@10",
)


def _bm25_cells(names: Sequence[str]) -> list[str]:
    """nDCG@10 of BM25 on these collections and its mean: every table quotes the same run."""
    rows = [matching("bm25", {"collection": name, "measure": "nDCG@10", "bits": 16}) for name in names]
    values = [float(row["measured"]) for (row,) in rows]
    return [f"{value:.4f}" for value in (*values, sum(values) / len(values))]


def first_stages() -> str:
    """nDCG@10 of first stages, BM25's from its own experiment."""
    columns = [*_per_collection("{nDCG@10:.4f}"), Column("mean", "{nDCG@10:.4f}", {"collection": "mean of all"})]
    systems = [row["system"] for row in matching("first-stage", {"collection": "mean of all"})]
    table = Pivot(
        "first-stage",
        columns,
        [(name.replace("forward index", "vectors"), {"system": name}) for name in systems if name != "BM25"],
    )
    return _with_bm25(table(), "BM25", _bm25_cells(tuple(COLLECTIONS)))


def _with_bm25(table: str, label: str, cells: Sequence[str]) -> str:
    """A table with a first line of these cells."""
    lines = table.split("\n")
    return "\n".join([*lines[:2], "| " + " | ".join((label, *cells)) + " |", *lines[2:]])


STAGES = {
    "bm25": "BM25",
    "thresher-mini": "thresher-mini",
    "bm25+thresher-mini": "BM25 + thresher-mini",
    "dense": "vectors alone",
    "interpolate": "vectors and feedback",
    "relevance": "the ranker's relevance alone",
    "rank": "ranker",
    "context": "sentence selection",
    "quality": "second tier for low quality",
    "folded": "near-duplicates folded",
}
HYBRID = "bm25+thresher-mini"


def first_stage() -> str:
    """What the default searches with in `cascade.json`."""
    return HYBRID if matching("cascade", {"collection": "mean", "stages": (HYBRID,)}) else "bm25"


def headline() -> str:
    """What README says first; the default's first stage is the one that `cascade` was run with."""
    heads, lines = _HEADLINE
    first = first_stage()
    filled = [[cell.replace("<first>", first).replace("<default>", STAGES[first]) for cell in line] for line in lines]
    return Sheet(heads, filled)()


def cascade() -> str:
    """nDCG@10 of every system, by collection, and what a query takes on the first of them."""
    rows = matching("cascade", {"collection": "mean"})
    there = [name for name in COLLECTIONS if matching("cascade", {"collection": name})]
    titles = {**COLLECTIONS, "trec-dl-2019": "DL 2019, msmarco-v1-mini"}
    lines = []
    for stages in (row["stages"] for row in rows):
        cells = []
        for name in there:
            (row,) = matching("cascade", {"collection": name, "stages": stages})
            cells.append(f"{row['nDCG@10']:.4f}")
            if name == "trec-dl-2019":
                cells[-1] += f" ({row['lo']:.3f}-{row['hi']:.3f})"
                cells.append(f"{row['ms_p50']:,.0f}")
        mean = shown("cascade", {"collection": "mean", "stages": stages}, "{nDCG@10:.4f}")
        lines.append([_label(stages), *cells, mean])
    heads = [titles[name] for name in there]
    return markdown(["stages", heads[0], "ms", *heads[1:], "mean"], lines)


def stages() -> str:
    """What each stage adds to the one before it: nDCG@10 and milliseconds, means over the collections of `cascade`."""
    first = first_stage()
    steps = [("bm25",), (first,), (first, "interpolate"), (first, "interpolate", "rank")]
    lines: list[list[str]] = []
    before: dict[str, float] = {}
    for step in dict.fromkeys(steps):
        now = _mean_of(step)
        label = STAGES[step[-1]] if len(step) > 1 or first == "bm25" or step == ("bm25",) else "+ thresher-mini"
        gained, spent = (now[key] - before.get(key, 0.0) for key in ("nDCG@10", "ms_p50"))
        cells = [f"{now['nDCG@10']:.4f}", f"{now['ms_p50']:.1f}"]
        if before:
            label = f"+ {label.removeprefix('+ ')}"
            rate = f"{100 * gained / spent:+.4f}" if spent > _INSTANT else "free"
            cells += [f"{gained:+.4f}", f"{spent:+.1f}", rate]
        else:
            cells += ["", "", ""]
        lines.append([label, *cells])
        before = now
    heads = ["stages", "nDCG@10", "ms", "gain", "for ms", "points a millisecond"]
    return markdown(heads, lines)


def _label(stages: Sequence[str]) -> str:
    return ", ".join(STAGES.get(stage, stage) for stage in stages)


def given_list() -> str:
    """The given BM25 top 100 of DL 2019, reranked by each further stage."""
    rows = [row for row in rows_of("cascade") if "given" in row["collection"]]
    said = [
        [_label(["BM25's list", *row["stages"][1:]]), f"{row['nDCG@10']:.4f} ({row['lo']:.3f}-{row['hi']:.3f})"]
        for row in rows
    ]
    return markdown(["the given BM25 top 100 of DL 2019", "nDCG@10"], said)


def folding() -> str:
    """Near-duplicates folded: nDCG@10 as judged, and where a passage counts by the best judgment of its duplicates."""
    first = first_stage()
    lines = []
    for name, title in COLLECTIONS.items():
        for folded in matching("cascade", {"collection": name, "stages": ("quality", "folded", first, "interpolate")}):
            (plain,) = matching("cascade", {"collection": name, "stages": ("quality", first, "interpolate")})
            figures = (plain["nDCG@10"], folded["nDCG@10"], folded["credited"])
            lines.append([title, *(f"{figure:.4f}" for figure in figures)])
    heads = ["nDCG@10", "not folded", "folded, as judged", "folded, duplicates credited"]
    return markdown(heads, lines or [["not in this run", "", "", ""]])


def costs() -> str:
    """What each system costs on DL 2019, and the share of characters that sentence selection drops."""
    lines = []
    for row in matching("cascade", {"collection": "trec-dl-2019"}):
        dropped = [
            other["characters_dropped"] for other in matching("cascade", {"stages": tuple(row["stages"])})
            if other["collection"] in COLLECTIONS and "context" in row["stages"]
        ]  # fmt: skip
        shares = f"{min(dropped):.0%} to {max(dropped):.0%}" if dropped else ""
        lines.append([_label(row["stages"]), f"{row['bytes'] / 1e6:.1f}", f"{row['encode_s']:,.0f}", shares])
    return markdown(["stages", "MB on DL 2019", "seconds of encoding", "characters dropped, by collection"], lines)


def served() -> str:
    """Answers under a deadline and without one."""
    lines = [
        [
            f"{row['collection']}: {', '.join(row['stages'])}",
            str(row["queries"]),
            "none" if row["deadline_ms"] is None else f"{row['deadline_ms']:.0f}",
            *(f"{row[key]:.0f}" for key in ("ms_p50", "ms_p99", "ms_max")),
            f"{row['passages_read']:.1f}",
            f"{row['nDCG@10']:.4f}" if "nDCG@10" in row else "",
        ]
        for row in rows_of("served")
    ]
    heads = ["", "queries", "deadline, ms", "p50", "p99", "slowest", "passages read", "nDCG@10"]
    return markdown(heads, lines)


_INSTANT = 0.05
"""Milliseconds below which a difference of medians is none."""


def _mean_of(stages: Sequence[str]) -> dict[str, float]:
    """Means over the collections that were searched of nDCG@10 and of the median milliseconds."""
    rows = [row for row in matching("cascade", {"stages": tuple(stages)}) if row["collection"] in COLLECTIONS]
    return {key: sum(float(row[key]) for row in rows) / len(rows) for key in ("nDCG@10", "ms_p50")}


LABELLED = {
    "qed": "QED",
    "squad2-half": "SQuAD 2.0, half",
    "covid-qa": "COVID-QA",
    "wikiqa": "WikiQA dev",
    "trecqa": "TrecQA dev",
    "mean": "mean of the five",
}


def _pruner(preset: str, collection: str) -> tuple[str, Where]:
    where = {"collection": collection, "system": "thresher-context", "preset": preset}
    return f"{preset}, {LABELLED[collection]}", where


context_pruning = Pivot(
    "context-pruning",
    [
        Column("answer kept", "{answer_kept:.3f}"),
        Column("pruned, relevant passages", "{pruned_relevant:.3f}"),
        Column("pruned, irrelevant passages", "{pruned_irrelevant:.3f}"),
        Column("span F1", "{span_f1:.3f}"),
    ],
    [_pruner("conservative", "mean"), *(_pruner("balanced", name) for name in LABELLED), _pruner("strong", "mean")],
    "held-out queries",
)


exchange_fuzz = Listing(
    "exchange-fuzz",
    (
        ("format", "{format}"),
        ("cases", "{cases:,}"),
        ("refused, with the file's name", "{errors_named:,}"),
        ("still valid", "{read_anyway:,}"),
        ("crashes, hangs, other errors", "{failures}"),
        ("most memory, MB", "{peak_mb:.0f}"),
    ),
)

context_technical = Listing(
    "context-technical",
    (
        ("technical documentation", "{preset}"),
        ("answer kept", "{answer_kept:.3f}"),
        ("pruned, relevant passages", "{pruned_relevant:.3f}"),
        ("pruned, irrelevant passages", "{pruned_irrelevant:.3f}"),
        ("headings kept alone", "{lone_headings}"),
        ("lines of marks kept alone", "{lone_marks}"),
    ),
    {"kind": "all", "system": "thresher-context"},
)


def context_levels() -> str:
    """Characters pruned on relevant passages where at least so many answers are kept, mean of the five."""
    systems = {
        "thresher-context": "thresher-context",
        "bm25": "BM25 sentences",
        "minilm-cosine": "MiniLM cosine",
        "position": "position prior",
        "first": "first k",
        "random": "random",
    }
    levels = (0.98, 0.95, 0.9, 0.8)
    lines = []
    for system, label in systems.items():
        points = matching("context-pruning.rows", {"collection": "mean", "system": system})
        best = [max((p["pruned_relevant"] for p in points if p["answer_kept"] >= x), default=0.0) for x in levels]
        lines.append([label, *(f"{value:.3f}" for value in best)])
    heading = "characters pruned on relevant passages (mean of five), by the least share of answers kept"
    return markdown([heading, *(f".{100 * level:.0f}" for level in levels)], lines)


_RANK_VICUNA = "RankVicuna 7B (recorded run)"


def rank_vicuna() -> str:
    """The range that the recorded runs of RankVicuna 7B over BM25's top 100 of DL 2019 reach: they differ by run."""
    found = [
        row["nDCG@10"]
        for row in matching("rerank-replay", {})
        if str(row.get("recording")).startswith("bm25.rank-vicuna-7b") and ".top100." in str(row["recording"])
    ]
    return f"{min(found):.4f} to {max(found):.4f}"


def context_rank() -> str:
    """BM25's top 100 of DL 2019 reranked, beside all recorded runs of RankVicuna."""
    rows = [row for row in matching("context-rank", {"collection": "trec-dl-2019"}) if row["system"] != _RANK_VICUNA]
    lines = [[row["system"], f"{row['nDCG@10']:.4f}"] for row in rows]
    return markdown(
        ["TREC DL 2019, BM25 top 100 reranked", "nDCG@10"], [*lines, ["RankVicuna 7B, recorded runs", rank_vicuna()]]
    )


context_cost = Listing(
    "context-cost",
    (
        ("20 passages of 60 words", "{what}"),
        ("clock", "{clock}"),
        ("threads", "{threads}"),
        ("ms", "{milliseconds:.1f}"),
        ("passages/s", "{passages_per_second:.1f}"),
        ("ratio", "{ratio:.3f}"),
    ),
    left=2,
)
quality_loss = Pivot(
    "quality-curves",
    [
        Column("random (20 seeds)", "{random_loss:.3f}", {"estimator": "embedded"}),
        *(
            Column(f"`{name}`", "{loss:.3f}", {"estimator": name})
            for name in ("embedded", "kl", "length", "itn", "unigram")
        ),
    ],
    [(f"{100 * (1 - kept):.0f} %", {**MEAN6, "kept": kept}) for kept in (0.9, 0.8, 0.7)],
    "pruned",
)
drift = Listing(
    "drift",
    (
        ("collection", "{collection}"),
        ("indexed first", "{indexed_first}"),
        ("average length", "{average_first:.1f} of {average_all:.1f}"),
        ("fresh", "{fresh:.4f}"),
        ("added", "{added:.4f}"),
        ("refit", "{refit:.4f}"),
    ),
    left=2,
)
log_coverage = Pivot(
    "coverage",
    [
        Column(heading, "{ratio:.2f} ({lo:.2f}-{hi:.2f})", {"collection": name, "estimator": "coverage"})
        for name, heading in (
            ("npl", "NPL"),
            ("scifact", "SciFact"),
            ("nfcorpus", "NFCorpus"),
            ("time", "TIME"),
            ("med", "MED"),
            ("cranfield", "Cranfield"),
        )
    ],
    [("half of all the collection's queries", {"queries": "all"}), ("half of its test queries", {"queries": "test"})],
    "log",
)


distributed_kills = Listing(
    "distributed-build",
    (
        ("recipe", "{recipe}"),
        ("executor", "{executor}"),
        ("workers", "{workers}"),
        ("passages", "{passages:,}"),
        ("killed", "{kills}"),
        ("tasks interrupted", "{interrupted}"),
        ("files of segments", "{files}"),
        ("that differ", "{other_files}"),
        ("queries", "{queries}"),
        ("answered otherwise", "{differing}"),
    ),
    {"part": "kills"},
    left=2,
)


def recall_promises() -> str:
    """What each promise realised on queries that calibrated nothing, and what it took beside exact search."""
    by_place: dict[tuple[str, str, int, int], dict[float, Row]] = {}
    for row in matching("recall-promise", {"filter": "none"}):
        if row["calibrated"] == "log" or (row["approximate"] and row["passages"] > 100_000):
            place = row["collection"], row["calibrated"], row["passages"], row["k"]
            by_place.setdefault(place, {})[row["promise"]] = row
    promised = (0.9, 0.95, 0.99)
    return markdown(
        [
            "collection",
            "calibrated on",
            "passages",
            "k",
            *(f"recall={one:g}" for one in promised),
            "time, of exact search's",
        ],
        [
            [
                name,
                {"log": "queries", "sampled": "words of the passages"}[calibrated],
                f"{passages:,}",
                str(k),
                *(f"{found[one]['realised']:.4f} ± {found[one]['error']:.4f}" for one in promised),
                " / ".join(f"{found[one]['ratio']:.2f}" for one in promised),
            ]
            for (name, calibrated, passages, k), found in by_place.items()
            if k in (10, 100) and found.keys() >= set(promised)
        ],
    )


def sharded_answers() -> str:
    """How many answers of shards are not those of one index, by how the shards are reached."""
    by_way: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of("sharded-search"):
        if "differing" in row:
            by_way.setdefault((row["collection"], row["transport"]), []).append(row)
    return markdown(
        ["collection", "shards reached by", "numbers of shards", "queries for each", "answers that differ"],
        [
            [
                collection,
                transport,
                ", ".join(str(row["shards"]) for row in rows),
                ", ".join(f"{count:,}" for count in sorted({row["queries"] for row in rows})),
                str(sum(row["differing"] for row in rows)),
            ]
            for (collection, transport), rows in by_way.items()
        ],
    )


def sharded_stalled() -> str:
    """What came with one of three processes stopped."""
    return markdown(
        ["collection", "queries", "marked", "within 110 ms", "p99, ms"],
        [
            [
                row["collection"],
                str(row["queries"]),
                str(row["marked"]),
                str(row["within_deadline"]),
                f"{row['p99_ms']:.0f}",
            ]
            for row in rows_of("sharded-search")
            if "marked" in row
        ],
    )


def distributed_throughput() -> str:
    """What a second worker brings, and what a second process can bring."""
    lines = [
        [
            row["recipe"],
            str(row["workers"]),
            f"{row['passages_per_s']:.1f}" if "passages_per_s" in row else "",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in matching("distributed-build", {"part": "throughput"})
    ]
    return markdown(["work", "workers of one thread", "passages a second", "times one worker"], lines)


scaling_builds = Listing(
    "scaling",
    (
        ("collection", "{collection}"),
        ("passages", "{passages:,}"),
        ("kept", "{kept:.0%}"),
        ("encoding, core hours", "{encode_core_hours:,.0f}"),
        ("all, core hours", "{core_hours:,.0f}"),
        ("machines for a day", "{machines_for_a_day:,}"),
        ("build, $", "{build_dollars:,.0f}"),
        ("postings, bytes", "{posting_bytes:.2g}"),
        ("texts, bytes", "{text_bytes:.2g}"),
        ("vectors, bytes", "{vector_bytes:.2g}"),
        ("search machines", "{search_machines:,}"),
        ("search, $ a month", "{search_dollars_a_month:,.0f}"),
    ),
    {"part": "build"},
)
scaling_latency = Listing(
    "scaling",
    (
        ("shards", "{shards:,}"),
        ("requests", "{requests}"),
        ("passages", "{passages:,}"),
        ("p50, ms", "{p50_ms:.1f}"),
        ("p99, ms", "{p99_ms:.1f}"),
        ("p99.9, ms", "{p99.9_ms:.1f}"),
        ("more requests", "{more_requests:.1%}"),
        ("complete by the deadline", "{complete:.2%}"),
    ),
    {"part": "latency"},
    left=2,
)


def tiering() -> str:
    """Half of the passages in a second tier: what each test and share of escalated queries reaches."""
    columns = {
        "trec-dl-2019": "TREC DL 2019",
        "nfcorpus": "NFCorpus",
        "scifact": "SciFact",
        "cranfield": "Cranfield",
        "npl": "NPL",
        "med": "MED",
    }
    lines: dict[str, list[str]] = {}
    for name in columns:
        estimator = "embedded" if name == "trec-dl-2019" else "coverage"
        rows = matching("tiering.rows", {**HALVED, "collection": name, "estimator": estimator})
        (row,) = (row for row in rows if row["test"] == "lists")
        (margins,) = (row for row in rows if row["test"] == "margins")
        whole = row["unpruned"]
        cells = {
            "first tier alone": f"{row['without_second'] / whole:.3f}",
            "with the second": f"{row['share']:.3f}",
            "escalated": f"{row['escalated']:.2f}",
            "as many at random (mean, 95 % of draws)": f"{row['random_escalation'] / whole:.3f}, "
            f"{row['random_95'] / whole:.3f}",
            "by margins alone, without the lists": f"{margins['share']:.3f}",
            "ceiling": f"{row['ceiling']:.3f}",
            "passages searched, mean share": f"{row['passages_searched']:.2f}",
        }
        for label, cell in cells.items():
            lines.setdefault(label, []).append(cell)
    return markdown(["", *columns.values()], [[label, *cells] for label, cells in lines.items()])


def certified() -> str:
    """The largest certified level of each change, by collection and margin."""
    margins, files = (0.01, 0.02, 0.05), {"msmarco-v1-mini": "DL 2019", "nfcorpus": "NFCorpus"}
    cells: dict[tuple[str, str], dict[tuple[str, float], str]] = {}
    for file in files:
        for row in rows_of(f"certificate-{file}"):
            cell = "none"
            if row["largest"] is not None:
                cell = row["largest"] + (" *" if row["better_than_random"] else "")
                cell += f" ({row['low']:+.3f} to {row['high']:+.3f})" if row["margin"] == margins[1] else ""
            cells.setdefault((row["change"], row["pipeline"]), {})[file, row["margin"]] = cell
    keys = [(file, margin) for file in files for margin in margins]
    body = [[*names, *(found.get(key, "") for key in keys)] for names, found in cells.items() if names[1] != "lexical"]
    return markdown(["", "pipeline", *(f"{files[file]}, {margin:g}" for file, margin in keys)], body, left=2)


def answers() -> str:
    """Blind verdicts on answers over documentation, by corpus."""
    names = {"debian": "documentation of Debian packages", "installed": "documentation installed with Python"}
    rows = []
    for corpus, label in names.items():
        found = matching("answers", {"corpus": corpus})
        counts = [sum(row["verdict"] == verdict for row in found) for verdict in ("kept", "dropped", "not-found")]
        shown = sum(row["kept_characters"] for row in found) / sum(row["returned_characters"] for row in found)
        rows.append([label, str(len(found)), *map(str, counts), f"{shown:.2f}"])
    heads = ["corpus", "queries", "answer kept", "in a passage, but pruned", "in no passage", "characters kept"]
    return markdown(heads, rows)


def equal_bytes() -> str:
    """Half of the postings gone: loss of nDCG@10 by what goes."""
    names = {"trec-dl-2019": "DL 2019", "scifact": "SciFact", "nfcorpus": "NFCorpus"}
    ways = {
        "whole passages, by `embedded`": "passages",
        "postings, the heaviest of each passage": "postings by document",
        "the best of all ways tried": "best of all",
    }
    said = {
        "mix: 70% by passages": "70 % of the passages, then postings",
        "postings by global": "heaviest of all postings",
        "postings by term": "heaviest of each list",
        "postings by document": "heaviest of each passage",
    }
    lines = []
    for pipeline, label in (("bm25", "BM25"), ("learned", "thresher-mini")):
        for way, estimator in ways.items():
            cells = []
            for name in names:
                same = {"collection": name, "pipeline": f"{pipeline}, equal bytes", "budget": 0.5}
                (row,) = matching("quality-curves.rows", {**same, "estimator": estimator})
                cells.append(f"{row['loss']:.3f}" + (f" ({said.get(row['way'], row['way'])})" if "way" in row else ""))
            lines.append([f"{label}: {way}", *cells])
    return markdown(["", *names.values()], lines)


answer_grammar = Pivot(
    "answer-grammar",
    [Column(name, f"{{{name}:,}}", {"part": "all"}) for name in ("answers", "right", "unreadable", "wrong")],
    [
        ("an order", {"class": "plain"}),
        ("an order that a reader may decline: worst first, scores alone", {"class": "hard"}),
        ("no order: refusals, examples, unfinished thoughts (right if not read)", {"class": "orderless"}),
    ],
    "what the answer says",
)

hybrank = Listing(
    "hybrank",
    (
        ("first stage", "{first_stage}"),
        ("NFCorpus topics", "{topics_of} ({topics})"),
        ("HybRank, nDCG@10", "{nDCG@10:.4f}"),
        ("gain", "{gain:+.4f}"),
        ("95 % interval", "{lo:+.4f} to {hi:+.4f}"),
        ("better", "{better}"),
        ("worse", "{worse}"),
    ),
    {"system": "HybRank"},
    left=2,
)
_HIDDEN = ("half hidden, weighed by the adapter", "half hidden, likeliest tenth left out", "all judgments")
_HIDDEN_REF = "{{{{false-negatives system='{0}' {1}}}}}"
false_negatives = Sheet(
    ("trained on", "nDCG@10", "gain", "95 % interval"),
    (
        ("half hidden", _HIDDEN_REF.format("half hidden", "nDCG@10:.4f"), "", ""),
        *(
            (
                name,
                _HIDDEN_REF.format(name, "nDCG@10:.4f"),
                _HIDDEN_REF.format(name, "gain:+.4f"),
                _HIDDEN_REF.format(name, "'{lo:+.4f} to {hi:+.4f}'"),
            )
            for name in _HIDDEN
        ),
    ),
)
idcm = Listing(
    "idcm",
    (
        ("windows read of each document", "{windows}"),
        ("nDCG@10", "{nDCG@10:.4f}"),
        ("difference to all windows", "{difference:+.4f}"),
        ("95 % interval", "{lo:+.4f} to {hi:+.4f}"),
        ("windows read", "{read}"),
        ("times fewer", "{fewer:.1f}"),
    ),
    {"system": "windows by BM25"},
)
_ADAPTIVE = (
    ("sliding window", "sliding", "none"),
    ("`slidegar`, no neighbours", "slidegar", "none"),
    ("`slidegar`, vectors", "slidegar", "vectors"),
    ("`slidegar`, postings", "slidegar", "postings"),
    ("published, vectors", "slidegar:explore=all,aggregation=last-window", "vectors"),
)
_JUDGES = (
    ("noisy", "noisy"),
    ("fitted to a tuned 7B", "fitted-rank-vicuna-7b-aug"),
    ("fitted to a weak 7B", "fitted-vicuna-7b-ckpt800"),
)
slidegar = Pivot(
    "slidegar",
    [
        Column(f"{heading}: {measure}", f"{{{measure}:.3f}}", {"judge": judge})
        for heading, judge in _JUDGES
        for measure in ("nDCG@10", "R@100")
    ],
    [
        (f"{title}, {label}", {"collection": "dl19", "first stage": first, "plan": plan, "neighbours": source})
        for title, first in (("BM25", "bm25"), ("SPLADE++", "splade-pp-ed"))
        for label, plan, source in _ADAPTIVE
    ],
)

_JUDGED = {
    "perfect": "perfect",
    "noise-0.5": "noise .5",
    "noise-1": "noise 1",
    "noise-2": "noise 2",
    "correlated": "correlated",
    "position-bias": "position bias",
    "option-order": "option order",
    "malformed": "malformed",
    "fitted-rank-vicuna-7b-aug": "fitted, RankVicuna",
    "fitted-vicuna-7b-ckpt800": "fitted, Vicuna",
}
_STUDIED = (
    "single",
    "sliding",
    "sliding:passes=2",
    "top-down",
    "tournament-graph",
    "tourrank",
    "setwise-heap:children=9",
    "setwise-insertion:children=9",
    "pointwise",
    "pairwise-heap",
    "choice-pool",
    "acurank",
    "jointrank",
    "jointrank-head",
    "jointrank-head:replicas=3",
    "funnel:copies=1,middle=0,windows=4",
    "funnel:copies=1,middle=1,windows=2",
    "funnel",
    "funnel:copies=2,middle=2,windows=6",
)


def _studied(collection: str, judges: Sequence[str], plans: Sequence[str] = _STUDIED, *, spent: bool = True) -> Pivot:
    """nDCG@10 of plans under judges; calls, depth and tokens are those under the first judge."""
    first = {"judge": judges[0]}
    spends = [
        Column("calls", "{calls:.1f}", first),
        Column("depth", "{depth:.1f}", first),
        Column("tokens", "{prefill_tokens:,.0f}", first),
    ]
    columns = [*(spends if spent else ()), *(Column(_JUDGED[one], "{nDCG@10:.4f}", {"judge": one}) for one in judges)]
    lines = [(f"`{plan}`", {"plan": plan, "collection": collection}) for plan in plans]
    return Pivot("rerank-study", columns, lines, "plan")


_COMPARED = (
    "sliding",
    "funnel:copies=1,middle=0,windows=4",
    "funnel:copies=1,middle=1,windows=2",
    "jointrank-head:replicas=3",
    "funnel",
    "funnel:copies=2,middle=2,windows=6",
)
_FEW = ("noise-1", "correlated", "position-bias", "fitted-rank-vicuna-7b-aug", "fitted-vicuna-7b-ckpt800")
_RULES = ("bradley-terry", "win-rate", "borda", "copeland", "elo", "pagerank", "rank-centrality")
fitted_judges = Listing(
    "rerank-fitted",
    (
        ("model", "{model}"),
        ("first stage", "{first_stage}"),
        ("what", "{what}"),
        ("recorded", "{recorded:.3f}"),
        ("predicted", "{predicted:.3f}"),
        ("sd", "{sd:.3f}"),
    ),
    left=3,
)


def study_rules() -> str:
    """nDCG@10 of blocks by aggregator and judge, on BM25's candidates of DL 2019."""
    lines = []
    for plan, label in (("jointrank", "blocks alone"), ("jointrank-head:replicas=3", "blocks, then windows")):
        for rule in _RULES:
            name = plan if rule == "bradley-terry" else f"{plan}{',' if ':' in plan else ':'}aggregation={rule}"
            found = {row["judge"]: row for row in matching("rerank-study", {"plan": name, "collection": "dl19-bm25"})}
            lines.append([label, rule, *(f"{found[judge]['nDCG@10']:.4f}" if judge in found else "" for judge in _FEW)])
    return markdown(["plan", "aggregator", *(_JUDGED[judge] for judge in _FEW)], lines, left=2)


def study_intervals() -> str:
    """Plans with their intervals under the fitted judges, by candidates."""
    lines = []
    for plan in _COMPARED:
        for candidates in ("bm25", "splade-pp-ed"):
            cells = []
            for judge in _JUDGED:
                if judge.startswith("fitted"):
                    where = {"plan": plan, "judge": judge, "collection": f"dl19-{candidates}"}
                    (row,) = matching("rerank-study", where)
                    cells.append(f"{row['nDCG@10']:.4f}")
                    cells.append("" if plan == "sliding" else f"{row['gain_lo']:+.3f} to {row['gain_hi']:+.3f}")
            lines.append([f"`{plan}`", candidates, f"{row['calls']:.0f}", f"{row['depth']:.0f}", *cells])
    judges = [name for key, name in _JUDGED.items() if key.startswith("fitted")]
    heads = ["plan", "candidates", "calls", "depth", *(text for name in judges for text in (name, "over sliding"))]
    return markdown(heads, lines, left=2)


_SAID = "{said:.2f}: {there:.2f} ({n:,})"
rerank_confidence = Pivot(
    "rerank-confidence",
    [
        Column("share", "{correlated:.2f}", {"bin": "0.0 to 0.1"}),
        *(Column(f"{low} to {high}", _SAID, {"bin": f"{low} to {high}"}) for low, high in (
            ("0.3", "0.5"), ("0.5", "0.7"), ("0.7", "0.8"), ("0.8", "0.9"), ("0.9", "1.0")
        )),
    ],
    [
        (f"{_JUDGED[judge]}, {label}", {"judge": judge, "plan": plan, "allowance": allowance})
        for judge in (
            "noise-0.5", "noise-1", "noise-2", "correlated", "fitted-rank-vicuna-7b-aug", "fitted-vicuna-7b-ckpt800"
        )
        for plan, allowance, label in (
            ("jointrank-head:replicas=3,windows=5", "independent", "blocks, no share"),
            ("jointrank-head:replicas=3,windows=5", "own", "blocks"),
            ("sliding:window=20,stride=10", "own", "sliding"),
        )
    ],
    "judge, plan",
)  # fmt: skip
search_goals = Listing(
    "search-goals",
    (
        ("collection, queries", "{collection}, {track}"),
        ("best exact peer at p50", "{peer_p50}, {peer_p50_ms:.3f}"),
        ("k", "{k}"),
        ("thresher", "{p50_ms:.3f} / {p99_ms:.3f}"),
        ("p50 ratio", "{ratio_p50:.2f}"),
        ("p99 ratio", "{ratio_p99:.2f}"),
    ),
    {"setting": "default"},
    left=2,
)


def search_growth() -> str:
    """Milliseconds, p50 / p99, of each plan by size and order."""
    plans = ("term-at-a-time", "block-max", "auto")
    lines = []
    for passages in (1_000_000, 2_000_000, 4_000_000):
        for order, label in (("source", "shuffled"), ("bp", "bisected")):
            for k in (10, 100, 1000):
                where = {"passages": passages, "order": order, "k": k}
                rows = {row["plan"]: row for row in matching("search-growth", where)}
                cells = [f"{rows[plan]['p50_ms']:.2f} / {rows[plan]['p99_ms']:.2f}" for plan in plans]
                lines.append([label, f"{passages:,}", str(k), *cells, f"{rows['auto']['by_bounds']:.0%}"])
    return markdown(["order", "passages", "k", *plans, "by bounds"], lines)


def _scale_rows(where: Where) -> list[Row]:
    return [row for row in matching("search-scale", {"threads": 1, **where}) if row.get("p50_ms") is not None]


def _exact_peers(where: Where) -> list[Row]:
    rows = [row for row in _scale_rows(where) if row["engine"] != "thresher" and row["recall"] > 0.9999]
    return sorted((row for row in rows if not row["short_results"]), key=lambda row: row["p50_ms"])


def search_scale() -> str:
    """Milliseconds of thresher in both orders and of the quickest exact peer, by collection and k."""
    timed = [row for row in _scale_rows({"engine": "thresher", "setting": "default"}) if row["k"] == 10]
    lines = []
    for collection, passages in dict.fromkeys((row["collection"], row["passages"]) for row in timed):
        for k in (10, 1000):
            where = {"collection": collection, "passages": passages, "k": k}
            own = {row["order"]: row for row in _scale_rows({**where, "engine": "thresher", "setting": "default"})}
            peer = _exact_peers(where)[0]
            best = min(row["p50_ms"] for row in own.values())
            ordered = [own.get(order) for order in ("source", "bp")]
            cells = [f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f}" if row else "" for row in ordered]
            said = f"{peer['engine']}, {peer['setting']}: {peer['p50_ms']:.2f} / {peer['p99_ms']:.2f}"
            lines.append([collection, f"{passages:,}", str(k), *cells, said, f"{best / peer['p50_ms']:.2f}"])
    heads = ["collection", "passages", "k", "source order", "bisected", "quickest exact peer", "p50 ratio"]
    return markdown(heads, lines)


def search_scale_engines() -> str:
    """Every setting on the largest collection that was measured."""
    own = {"passages": max(row["passages"] for row in _scale_rows({}))}
    lines = []
    for row in _scale_rows({**own, "k": 10}):
        (deep,) = _scale_rows({**own, "k": 1000, **{key: row[key] for key in ("engine", "setting", "order")}})
        times = [f"{one['p50_ms']:.2f} / {one['p99_ms']:.2f}, {one['recall']:.4f}" for one in (row, deep)]
        sizes = [f"{row['bytes_per_posting']:.2f}", f"{row['search_rss_gb']:.1f}", f"{row['build_s']:.0f}"]
        lines.append([f"{row['engine']}, {row['setting']}", row["order"], *times, *sizes])
    lines += [
        [f"{row['engine']}, {row['setting']}", row["order"], f"not measured: {row['not_measured']}", "", "", "", ""]
        for row in matching("search-scale", own)
        if row.get("not_measured")
    ]
    heads = [
        "engine, setting",
        "order",
        "k = 10: ms, recall",
        "k = 1000",
        "bytes a posting",
        "GB to search",
        "build, s",
    ]
    return markdown(heads, lines, left=2)


def search_scale_growth() -> str:
    """Exponents of exact engines: slope of log p50 against log passages."""
    lines: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in matching("search-scale", {"collection": "synthetic"}):
        if row.get("exponent") is not None and "recall" not in row["setting"]:
            lines.setdefault((row["engine"], row["setting"], row["order"]), {})[row["k"]] = f"{row['exponent']:.2f}"
    cells = [
        [f"{engine}, {setting}", order, found[10], found[1000]] for (engine, setting, order), found in lines.items()
    ]
    return markdown(["engine, setting", "order", "k = 10", "k = 1000"], cells, left=2)


search_parts = Listing(
    "search-parts",
    (
        ("collection, queries", "{collection}, {track}"),
        ("postings", "{postings:,.0f}"),
        ("in dense rows", "{dense_share:.0%}"),
        ("all", "{search_us:.0f}"),
        ("Python", "{python_us:.0f}"),
        ("call", "{call_us:.0f}"),
        ("zeroing", "{zeroing_us:.0f}"),
        ("adding", "{adding_us:.0f}"),
        ("looking", "{looking_us:.0f}"),
        ("scoring", "{scoring_us:.0f}"),
        ("rest", "{rest_us:.0f}"),
    ),
)
search_maxima = Listing(
    "search-maxima",
    (
        ("collection, queries", "{collection}, {track}"),
        ("k", "{k}"),
        ("blocks of 64", "{64:.0%}"),
        ("64, half a byte", "{64, 4-bit:.0%}"),
        ("superblocks of 512", "{512:.0%}"),
        ("of 2,048", "{2048:.0%}"),
        ("of 2,048, best block", "{2048, best block:.0%}"),
        ("one byte: µs, bytes", "{dense_us:.1f}, {dense_bytes:.2f}"),
        ("half a byte", "{4-bit_us:.1f}, {4-bit_bytes:.2f}"),
        ("sparse", "{sparse_us:.1f}, {sparse_bytes:.2f}"),
    ),
)


def search_size() -> str:
    """Bytes a posting by kind of file."""
    groups = {
        "all": ("all",),
        "impacts, ids": ("impacts", "ids"),
        "dense rows": ("dense",),
        "directory (`maxima`, `tiles`)": ("maxima", "tiles"),
        "`kth`": ("kth",),
        "lists (`lengths`, `long`, `kinds`)": ("lengths", "long", "kinds"),
        "docnos, `ranks`": ("docnos", "ranks"),
        "vocabulary, `sorted_terms`": ("vocabulary", "sorted_terms"),
    }
    lines = [
        [row["collection"], *(f"{sum(row[key] for key in keys):.2f}" for keys in groups.values())]
        for row in matching("search-size", {})
    ]
    return markdown(["collection", *groups], lines)


def living_search() -> str:
    """Searches of a living index beside those of one segment without deletes, by k."""
    lines = {
        "one segment": {"segments": 1, "deleted_share": 0.0, "filter": ""},
        "eight segments": {"segments": 8, "filter": ""},
        "10 % deleted": {"deleted_share": 0.1, "filter": ""},
    }
    for share, label in ((0.5, "50 %"), (0.1, "10 %"), (0.01, "1 %")):
        lines[f"a filter of {label}"] = {"filter_share": share, "filter": "known"}
        lines[f"a filter of {label}, asked for the first time"] = {"filter_share": share, "filter": "new"}
    lines["a filter of three passages"] = {"filter_share": 3e-6, "filter": "known"}
    ks = (10, 100, 1000)
    body = []
    for label, where in lines.items():
        same = {"engine": "thresher", "what": "search", "passages": 1_000_000, **where}
        found = {row["k"]: row for row in matching("living", same)}
        times = [f"{found[k]['p50_ms']:.2f} / {found[k]['p99_ms']:.2f}" for k in ks]
        body.append([label, *times, *(f"{found[k]['ratio']:.2f}" for k in ks)])
    heads = [f"k = {k}" for k in ks]
    return markdown(["a million passages; ms, p50 / p99", *heads, *(f"ratio, {head}" for head in heads)], body)


def living_peers() -> str:
    """Filtered searches of other engines, k = 10: their median over thresher's, known and new filters; and theirs."""
    rows = [row for row in matching("living", {"what": "search", "k": 10}) if row["engine"] != "thresher"]
    body = []
    for engine, passages in dict.fromkeys((row["engine"], row["passages"]) for row in rows):
        cells = []
        for share in (1.0, 0.5, 0.1, 0.01, 3 / passages):
            found = matching("living", {"engine": engine, "passages": passages, "filter_share": share})
            cells.append(" / ".join(f"{row['ratio']:.1f}" for row in found) + f" ({found[0]['p50_ms']:.2f} ms)")
        (version,) = {row["version"] for row in rows if row["engine"] == engine}
        body.append([f"{engine} {version}", f"{passages:,}", *cells])
    heads = ["no filter", "50 %", "10 %", "1 %", "three passages"]
    return markdown(["times thresher's median", "passages", *heads], body)


living_kills = Listing(
    "living-kills",
    (
        ("write", "{operation}"),
        ("killed", "{kills}"),
        ("last commit", "{last_commit}"),
        ("new commit", "{new_commit}"),
        ("left files, until the next write", "{with_leftovers}"),
        ("failures", "{failures}"),
    ),
)


def living_readers() -> str:
    """Readers of each kind, together, while a writer commits."""
    kinds = {
        "follow": "opened with `follow=True`",
        "refresh": "`refresh()` before each query",
        "open": "opened for each query",
        "fixed": "opened once",
    }
    body = []
    for kind, label in kinds.items():
        rows = matching("living-readers", {"kind": kind})
        sums = [sum(row[key] for row in rows) for key in ("answers", "errors", "mixtures")]
        most = [max(row[key] for row in rows) for key in ("commits", "descriptors")]
        body.append([label, str(len(rows)), f"{sums[0]:,}", str(most[0]), str(sums[1]), str(sums[2]), str(most[1])])
    heads = ["reader", "processes", "answers checked", "commits seen", "errors", "mixtures", "descriptors"]
    return markdown(heads, body)


_HALVED: dict[str, str] = {
    "block-influence": "layers", "angular": "layers", "loss": "layers", "taylor-layers": "layers",
    "greedy": "layers", "last": "layers", "neurons:taylor": "neurons", "neurons:fisher": "neurons",
    "neurons:integrated-gradients": "neurons", "neurons:aligned": "neurons", "neurons:magnitude": "neurons",
    "heads:taylor": "heads", "heads:fisher": "heads", "heads:integrated-gradients": "heads",
    "heads:aligned": "heads", "heads:magnitude": "heads", "magnitude": "weights", "magnitude:2:4": "weights",
    "wanda": "weights", "wanda:2:4": "weights", "bfloat16": "bits",
}  # fmt: skip
_COMPRESSED = {"group": "all", "calibration": "queries", "healed": 0}
compression = Pivot(
    "compression",
    [
        Column(heading, template, {"model": name})
        for name in ("MiniLM", "mpnet", "splade-tiny", "thresher-mini")
        for heading, template in ((name, "{difference:+.3f}"), ("over random", "{over random:+.3f}"))
    ],
    [
        *(
            (f"half of {what}: {name}", {"method": name, "removed": 0.5, **_COMPRESSED})
            for name, what in _HALVED.items()
        ),
        ("bits: int8", {"method": "int8", **_COMPRESSED}),
        ("bits: int4", {"method": "int4", **_COMPRESSED}),
    ],
    "difference of nDCG@10",
)


_ZEROS = {
    "normal, sd .05": "every topic differs: normal, sd .05",
    "60 % zeros, else normal, sd .1": "60 % equal, else normal, sd .1",
    "85 % zeros, else normal, sd .1": "85 % equal, else normal, sd .1",
    "85 % zeros, else normal, sd .2": "85 % equal, else normal, sd .2",
    "45 % zeros, else losses": "45 % equal, else losses alone",
    "68 % zeros, else losses": "68 % equal, else losses alone",
    "85 % zeros, else losses": "85 % equal, else losses alone",
    "rare losses of .5": "few topics lose .5",
}
"""Distributions of `significance.json`, as pages call them."""


def _claims(template: str) -> Pivot:
    columns = [
        Column(f"{method}, {n}", template, {"test": f"non-inferiority, {method}", "n": n})
        for n in (20, 43, 97, 323)
        for method in ("t", "skew")
    ]
    columns.append(Column("bounded, 323", template, {"test": "non-inferiority, bounded", "n": 323}))
    return Pivot("significance", columns, [(label, {"distribution": name}) for name, label in _ZEROS.items()], "topics")


def sequential_errors() -> str:
    """Shares of runs that ever claim, in 10,000 looks with the mean loss at the margin."""
    tests = ("sequential, proven", "sequential, lost", "t test at every look")
    lines: dict[str, list[str]] = {}
    for row in matching("significance", {"kind": "sequential"}):
        lines.setdefault(row["distribution"], []).append(f"{row['false_positive_rate']:.3f}")
    return markdown(["losses", *tests], [[label, *cells] for label, cells in lines.items()])


def sequential_queries() -> str:
    """Queries until 80 % of simulated runs claim."""
    samples = ("equal rankings", "80 % zeros, else normal, sd .1", "normal, sd .1")
    said = {
        "`proven`, mean loss 0": ("proven, fixed bets", "mean loss 0"),
        "`proven`, mean loss .01": ("proven, fixed bets", "mean loss 0.01"),
        **{
            f"`lost`, mean loss {drift:g} more after {after:,} queries": ("lost", f"then {drift:g} more after {after}")
            for after in (0, 500, 5000)
            for drift in (0.05, 0.1, 0.2)
        },
    }
    lines = []
    for label, (test, what) in said.items():
        rows = [matching("significance", {"test": test, "distribution": f"{name}, {what}"}) for name in samples]
        lines.append([label, *(f"{row['queries']:,}" for (row,) in rows)])
    return markdown(["", *samples], lines)


score_calibration = Listing(
    "score-calibration",
    (
        ("scores of", "{system}"),
        ("collection", "{collection}"),
        ("curve", "{kind}"),
        ("without a judgment", "{unjudged}"),
        ("error, 15 bins of equal mass", "{ece:.3f}"),
        ("95 % interval", "{low:.3f} to {high:.3f}"),
        ("10 of equal width", "{ece_width:.3f}"),
    ),
    {"headline": "yes"},
    left=4,
)
score_precision = Listing(
    "score-calibration",
    (
        ("curve", "{system}"),
        ("expected precision", "{target:.1f}"),
        ("realised, mean of topics", "{realised:.3f}"),
        ("of all kept passages", "{pooled:.3f}"),
        ("passages kept a topic", "{kept:.1f}"),
        ("topics with any", "{topics}"),
    ),
    {"kind": "precision", "collection": "trec-dl-2019"},
)


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "bm25": bm25,
    "compression": compression,
    "drift": drift,
    "distributed-kills": distributed_kills,
    "sharded-answers": sharded_answers,
    "sharded-stalled": sharded_stalled,
    "recall-promises": recall_promises,
    "distributed-throughput": distributed_throughput,
    "scaling-builds": scaling_builds,
    "scaling-latency": scaling_latency,
    "first-stages": first_stages,
    "cascade": cascade,
    "stages": stages,
    "given-list": given_list,
    "folding": folding,
    "costs": costs,
    "served": served,
    "context-pruning": context_pruning,
    "context-levels": context_levels,
    "context-technical": context_technical,
    "context-rank": context_rank,
    "context-cost": context_cost,
    "quality-loss": quality_loss,
    "log-coverage": log_coverage,
    "tiering": tiering,
    "certified": certified,
    "answers": answers,
    "equal-bytes": equal_bytes,
    "slidegar": slidegar,
    "answer-grammar": answer_grammar,
    "false-negatives": false_negatives,
    "hybrank": hybrank,
    "idcm": idcm,
    "score-calibration": score_calibration,
    "score-precision": score_precision,
    "rerank-plans": _studied("dl19-bm25", ("perfect", "noise-1", *_FEW[3:])),
    "study-bm25": _studied("dl19-bm25", tuple(_JUDGED)),
    "study-splade": _studied("dl19-splade-pp-ed", tuple(_JUDGED)),
    "study-chosen": _studied("dl21-bm25", _FEW),
    "study-chosen-splade": _studied("dl21-splade-pp-ed", _FEW),
    "study-rules": study_rules,
    "study-intervals": study_intervals,
    "fitted-judges": fitted_judges,
    "rerank-confidence": rerank_confidence,
    "search-goals": search_goals,
    "search-growth": search_growth,
    "search-scale": search_scale,
    "search-scale-engines": search_scale_engines,
    "search-scale-growth": search_scale_growth,
    "exchange-fuzz": exchange_fuzz,
    "search-parts": search_parts,
    "search-maxima": search_maxima,
    "search-size": search_size,
    "living-search": living_search,
    "living-peers": living_peers,
    "living-kills": living_kills,
    "living-readers": living_readers,
    "false-claims": _claims("{false_positive_rate:.3f}"),
    "true-claims": _claims("{power:.2f}"),
    "sequential-errors": sequential_errors,
    "sequential-queries": sequential_queries,
}


def stale(root: Path = ROOT) -> dict[Path, str]:
    """Pages whose tables or figures differ from the result files, with their text as it should be."""
    found = {}
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        new = rendered(text, TABLES)
        if new != text:
            found[page] = new
    return found


def main(arguments: Sequence[str]) -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(
        prog="python -m eval tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args(arguments)
    found = stale()
    for page, text in found.items():
        print(page.relative_to(ROOT))
        if not given.check:
            write_atomic(page, text)
    if given.check and found:
        raise ThresherError("these pages differ from the result files; run python -m eval tables")
