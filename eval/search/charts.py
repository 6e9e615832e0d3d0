"""The panel's page: a plot for each collection and track, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from eval.search.goals import is_exact

if TYPE_CHECKING:
    from eval.bench import Bench, Row

COLUMNS = {
    "collection": "", "track": "", "engine": "", "setting": "", "k": "", "p50_ms": ".3f", "p95_ms": ".3f",
    "p99_ms": ".3f", "recall": ".4f", "exact_share": ".3f", "short_results": "", "queries": "", "visited_share": ".2f",
    "bytes_per_posting": ".2f", "build_s": ".1f", "open_ms": ".1f",
}  # fmt: skip
PACKAGES = ("bmp", "pyterrier-pisa", "impact-index", "pyseismic-lsr", "splade-index", "scipy")
NOTE = (
    "Milliseconds and seconds are processor time of the process, one thread pinned to a core; passages and postings of "
    "each collection, version of each engine and mean times are in the JSON. exact_share: queries whose k hits are "
    "exactly the k best scores; short_results: queries with fewer hits than exist; visited_share: blocks that thresher "
    "scored. In the float track bmp and impact-index BMP round query weights to 32 levels, pisa to 255. open_ms of "
    "thresher's default includes loading modules, which search-costs leaves out. "
    "See `python -m eval search-panel --help`."
)


def chart(rows: list[Row]) -> Any:
    """Latency against k of exact engines, and recall against latency at k = 10."""
    data = [{**row, "engine and setting": f"{row['engine']}: {row['setting']}"} for row in rows]
    panels = []
    for name, track in dict.fromkeys((row["collection"], row["track"]) for row in data):
        own = [row for row in data if (row["collection"], row["track"]) == (name, track)]
        exact = [row for row in own if is_exact(row) and "order" not in row["setting"]]
        near = [row for row in own if row["k"] == 10 and row["recall"] > 0.8]
        title = f"{name}, {track} queries"
        a = alt.Chart(alt.Data(values=exact), title=f"{title}: exact engines").mark_line(point=True)
        a = a.encode(
            x=alt.X("k:Q", scale=alt.Scale(type="log")),
            y=alt.Y("p50_ms:Q", scale=alt.Scale(type="log"), title="median ms"),
            color="engine and setting:N",
        )
        b = alt.Chart(alt.Data(values=near), title=f"{title}: k = 10").mark_point(filled=True)
        b = b.encode(
            x=alt.X("p50_ms:Q", scale=alt.Scale(type="log"), title="median ms"),
            y=alt.Y("recall:Q", scale=alt.Scale(zero=False)),
            color="engine and setting:N",
        )
        panels.append(a | b)
    return alt.vconcat(*panels)


def write(rows: list[Row], bench: Bench, seed: int) -> None:
    """Write eval/results/search-panel.json."""
    bench.write("search-panel", rows, seed=seed, plot=chart(rows), columns=COLUMNS, packages=PACKAGES, note=NOTE)
