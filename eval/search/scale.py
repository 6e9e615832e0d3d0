"""Search from half a million to 8.8 million passages: time, recall, build and bytes, beside the peers that hold them.

    peers/bin/python -m eval search-scale --work scale --model SPLADE-tiny --maker .venv/bin/python

`--phase make` writes the passages (the synthetic collection, streamed; and all real text here under SPLADE-tiny),
`build` builds every index in a process of its own, `time` asks the queries: about 15 minutes; all three by default.
Each phase leaves out what `--work` holds already; `--again` times anew. Needs the environment of `requirements.txt`.

Engines get the same whole impacts and the same queries, whose whole weights are at most 32, drawn by a seed that
nothing else uses. One engine at a time is in memory, as several do not fit together at the largest size; thresher is
measured before and after the others. Peers that gain by an order of documents get thresher's bisected one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options
from eval.search.building import ROOT, build_apart
from eval.search.large import ENTRANTS, ScaledThresher
from eval.search.scaled import REAL, SEED, SIZES, Scaled
from thresher.durable import write_atomic

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from eval.search.large import Entrant

PHASES = ("make", "build", "time")
ROUNDS = 3


def make(collection: Scaled, given: argparse.Namespace) -> None:
    """Write the passages; the real ones by another Python where this one has no models."""
    if collection.name != REAL or given.maker == sys.executable:
        collection.make()
        return
    command = [given.maker, "-m", "eval", "search-scale", "--phase", "make", "--sizes", REAL, "--work", collection.work]
    subprocess.run([*command, "--data", str(collection.data), "--model", collection.model], check=True, cwd=ROOT)


def build(collection: Scaled, minutes: float, engines: Sequence[str]) -> None:
    """Build what is neither built nor known not to be, of some engines or all; calibrate recall in thresher's."""
    for entrant in collection.entrants():
        if not collection.built(entrant) and (not engines or entrant.made.name in engines):
            print(f"{collection.name}: building {entrant.slug}", flush=True)
            took = build_apart(collection, entrant, minutes)
            collection.keep(entrant, took)
            print("  ", took, flush=True)
        took = collection.built(entrant)
        if issubclass(entrant.made, ScaledThresher) and took and not took.keys() & {"calibration_s", "not_measured"}:
            print(f"{collection.name}: calibrating {entrant.slug}", flush=True)
            found = build_apart(collection, entrant, minutes, "calibrate")
            collection.keep(entrant, took | {"calibration_s": found.get("calibration_s")})


def measure_apart(arguments: list[str]) -> int:
    """Measure one engine in a process of its own; its exit code."""
    command = [sys.executable, "-m", "eval.search.measuring", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def time_one(collection: Scaled, entrant: Entrant, turn: int, rounds: int, again: bool) -> list[Row]:
    """Rows of one engine, measured now or, unless `again`, in an earlier run."""
    name = f"{entrant.slug}-{turn}" if turn else entrant.slug
    file = collection.work / f"timed-{collection.name}" / f"{name}.json"
    if again or not file.is_file():
        file.parent.mkdir(exist_ok=True)
        partial = file.with_suffix(".partial")
        arguments = [str(collection.work), collection.name, entrant.slug, str(rounds), str(partial)]
        if code := measure_apart(arguments):
            write_atomic(partial, json.dumps([{"not_measured": f"searching ended with exit code {code}"}]))
        partial.rename(file)
    rows: list[Row] = json.loads(file.read_text())
    return rows


def time_all(collection: Scaled, again: bool) -> list[Row]:
    """Rows of every engine; thresher's are the better ones of its two turns, setting by setting."""
    rows: list[Row] = []
    known = [(entrant, collection.built(entrant)) for entrant in collection.entrants()]
    ready = [entrant for entrant, took in known if took and "not_measured" not in took]
    collection.asked()
    own = [entrant for entrant in ready if entrant.made.name == "thresher"]
    first = {entrant.slug: time_one(collection, entrant, 1, 2, again) for entrant in own}
    for entrant in ready:
        if entrant not in own:
            rows += described(collection, entrant, time_one(collection, entrant, 0, ROUNDS, again))
    for entrant in own:
        second = time_one(collection, entrant, 2, ROUNDS - 2, again)
        rows += described(
            collection, entrant, [better(*pair) for pair in zip(first[entrant.slug], second, strict=True)]
        )
    for entrant in ENTRANTS:
        reason = entrant.reason if not entrant.takes(len(collection.rows)) else ""
        reason = reason or collection.built(entrant).get("not_measured", "")
        if reason:
            rows += described(collection, entrant, [{"not_measured": reason}])
    return sorted(rows, key=lambda row: [e.made.name for e in ENTRANTS].index(row["engine"]))


def better(a: Row, b: Row) -> Row:
    """The quicker of two measurements of the same thing at the median, or the mean where there is none."""
    key = "p50_ms" if "p50_ms" in a else "mean_ms"
    return min(a, b, key=lambda row: row.get(key, np.inf))


def described(collection: Scaled, entrant: Entrant, rows: list[Row]) -> list[Row]:
    """Rows with what they are of."""
    postings = int(collection.rows.indptr[-1])
    about = {
        "collection": collection.title, "passages": len(collection.rows), "postings": postings,
        "engine": entrant.made.name, "order": entrant.order,
    }  # fmt: skip
    took = {key: value for key, value in collection.built(entrant).items() if key != "not_measured"}
    if entrant.builder:
        took["builder"] = entrant.builder
    found = []
    for row in rows:
        size = row.pop("bytes", None)
        each = {"bytes_per_posting": size / postings} if size else {}
        found.append({**about, "setting": entrant.kind, **row, **took, **each})
    return found


def growth(rows: list[Row]) -> list[Row]:
    """How time grows with the collection: slope of log p50 against log passages, by engine, setting, order and k."""

    def key(row: Row) -> tuple[Any, ...]:
        return row["engine"], row["setting"], row["order"], row["k"]

    timed = [row for row in rows if row["collection"] == "synthetic" and "p50_ms" in row]
    found = []
    for (engine, setting, order, k), group in groupby(sorted(timed, key=key), key):
        points = np.array([(row["passages"], row["p50_ms"]) for row in group])
        if len(points) > 2:
            slope = float(np.polyfit(np.log(points[:, 0]), np.log(points[:, 1]), 1)[0])
            found.append({
                "collection": "synthetic", "engine": engine, "setting": setting, "order": order, "k": k,
                "threads": 1, "exponent": slope, "sizes": len(points),
            })  # fmt: skip
    return found


COLUMNS = {
    "collection": "", "passages": "", "engine": "", "setting": "", "order": "", "threads": "", "k": "",
    "p50_ms": ".3f", "p99_ms": ".3f", "mean_ms": ".3f", "recall": ".4f", "exact_share": ".3f", "build_s": ".0f",
    "peak_rss_gb": ".1f", "search_rss_gb": ".1f", "bytes_per_posting": ".2f", "exponent": ".2f", "not_measured": "",
}  # fmt: skip
PACKAGES = ("bmp", "pyterrier-pisa", "impact-index", "pyseismic-lsr", "splade-index", "scipy")
NOTE = (
    "Milliseconds of processor time of the process for a query, one thread pinned to a core, the least of 3 rounds "
    "(settings over 30 ms: one round of 40 queries). Rows of thresher's `batch`: mean milliseconds a query by the "
    "clock, all queries in one call. recall and exact_share: against the exact list by scores. order: `source`, "
    "shuffled, or thresher's bisected one (`bp`). build_s is processor time, of what `builder` in the JSON says; that "
    "of an index in the order bp of another engine leaves out the bisection. peak_rss_gb includes mapped files "
    "(peak_private_gb in the JSON does not). exponent: slope of log p50 against log passages over the synthetic sizes."
)


def chart(rows: list[Row]) -> Any:
    """p50 against passages of exact settings, at each k; recall against p50 at the largest size."""
    import altair as alt

    timed = [row for row in rows if "p50_ms" in row and row["collection"] == "synthetic"]
    data = [{**row, "what": f"{row['engine']}: {row['setting']} ({row['order']})"} for row in timed]
    scale = alt.Scale(type="log")
    panels = []
    for k in sorted({row["k"] for row in data}):
        exact = [row for row in data if row["k"] == k and row["recall"] > 0.9999]
        panels.append(
            alt.Chart(alt.Data(values=exact), title=f"exact, k = {k}")
            .mark_line(point=True)
            .encode(
                x=alt.X("passages:Q", scale=scale),
                y=alt.Y("p50_ms:Q", scale=scale, title="median ms"),
                color="what:N",
            )
        )
    most = max((row["passages"] for row in data), default=0)
    near = [row for row in data if row["k"] == 10 and row["passages"] == most and row["recall"] > 0.8]
    panels.append(
        alt.Chart(alt.Data(values=near), title=f"{most:,} passages, k = 10")
        .mark_point(filled=True)
        .encode(
            x=alt.X("p50_ms:Q", scale=scale, title="median ms"),
            y=alt.Y("recall:Q", scale=alt.Scale(zero=False)),
            color="what:N",
        )
    )
    return alt.hconcat(*panels)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = options("search-scale", __doc__)
    parser.add_argument("--phase", choices=PHASES, help="do this phase only")
    parser.add_argument("--sizes", default=",".join([*SIZES, REAL]), help="which collections, comma-separated")
    parser.add_argument("--again", action="store_true", help="time again what was timed before")
    parser.add_argument("--engines", default="", help="build those of these names only, comma-separated")
    parser.add_argument("--minutes", type=float, default=30, help="a build that takes longer is stopped")
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--maker", default=sys.executable, help="python with thresher[models], for the real collection")
    parser.add_argument("--model", default="", help="directory of SPLADE-tiny, for the real collection")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Make, build, time, and write."""
    given = parse(arguments)
    bench = Bench.of(given)
    work = bench.work.resolve()
    collections = [Scaled(work, name, given.data, given.model) for name in given.sizes.split(",")]
    for collection in collections:
        if given.phase in (None, "make"):
            make(collection, given)
        if given.phase in (None, "build"):
            build(collection, given.minutes, given.engines.split(",") if given.engines else ())
    if given.phase in (None, "time"):
        rows = [row for collection in collections for row in time_all(collection, given.again)]
        every = rows + growth(rows)
        columns = {name: form for name, form in COLUMNS.items() if any(name in row for row in every)}
        bench.write("search-scale", every, seed=SEED, plot=chart(rows), columns=columns, packages=PACKAGES, note=NOTE)
