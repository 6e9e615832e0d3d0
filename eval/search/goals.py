"""The panel's rows set against each other: `default` against the best exact peer, approximate rows against Seismic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.bench import Bench, Row

ENOUGH, SMALL = 0.99, 20_000
COLUMNS = {
    "collection": "", "track": "", "k": "", "setting": "", "recall": ".4f", "p50_ms": ".3f", "p99_ms": ".3f",
    "peer_p50": "", "peer_p50_ms": ".3f", "ratio_p50": ".2f", "peer_p99": "", "peer_p99_ms": ".3f",
    "ratio_p99": ".2f", "bytes_ratio": ".2f", "build_ratio": ".3f",
}  # fmt: skip
NOTE = (
    "Milliseconds of thresher and of the quickest peer, at the median and at the 99th percentile, and thresher's over "
    "the peer's. Rows of `default`: against peers that were exact (recall above .9999, which leaves float32 sums their "
    "rounding, and no short result), or against one of them on a small collection. Rows against Seismic: the quickest "
    "setting of thresher that found .99 of the ten best, against the quickest of Seismic that did, or its closest "
    "where none did (seismic_recall in the JSON)."
)


def is_exact(row: Row) -> bool:
    """Exact by its results, up to what float32 sums do to the k-th place."""
    return row["recall"] > 0.9999 and not row["short_results"] and not row["setting"].startswith("approx")


def groups(rows: list[Row]) -> Iterator[tuple[Row, list[Row]]]:
    """Rows of one collection, track and k, with what they share."""
    for key in dict.fromkeys((row["collection"], row["track"], row["k"]) for row in rows):
        about = dict(zip(("collection", "track", "k"), key, strict=True))
        yield about, [row for row in rows if about.items() <= row.items()]


def ratios(own: Row, peers: list[Row]) -> Row:
    """`own` against the quickest of `peers` at each percentile."""
    row = {"setting": own["setting"], "recall": own["recall"]}
    for percentile in ("p50", "p99"):
        column = f"{percentile}_ms"
        peer = min(peers, key=lambda r: r[column])
        row |= {
            column: own[column],
            f"peer_{percentile}": f"{peer['engine']}, {peer['setting']}",
            f"peer_{column}": peer[column],
            f"ratio_{percentile}": own[column] / peer[column],
        }
    return row


def compare(rows: list[Row]) -> list[Row]:
    """A row for each collection, track and k; others for a small collection, and against Seismic at k = 10."""
    found = []
    for about, part in groups(rows):
        default = next(r for r in part if r["engine"] == "thresher" and r["setting"] == "default")
        peers = [r for r in part if r["engine"] != "thresher"]
        if exact := [r for r in peers if is_exact(r)]:
            found.append({**about, **ratios(default, exact)})
        kernel = [r for r in peers if r["engine"] == "splade-index kernel"]
        if default["passages"] <= SMALL and kernel:
            row = ratios(default, kernel)
            found.append({**about, **row, "setting": "default, against the splade-index kernel"})
        seismic = [r for r in peers if r["engine"] == "seismic"]
        if about["k"] == 10 and seismic:
            own = [
                r for r in part if r["engine"] == "thresher" and r["recall"] >= ENOUGH and "order" not in r["setting"]
            ]
            quick = min(own, key=lambda r: r["p50_ms"])
            near = [r for r in seismic if r["recall"] >= ENOUGH] or [max(seismic, key=lambda r: r["recall"])]
            found.append(
                {
                    **about,
                    **ratios(quick, near),
                    "setting": f"{quick['setting']}, against Seismic",
                    "seismic_recall": min(near, key=lambda r: r["p50_ms"])["recall"],
                    "bytes_ratio": quick["bytes_per_posting"] / near[0]["bytes_per_posting"],
                    "build_ratio": quick["build_s"] / near[0]["build_s"],
                }
            )
    return found


def write(rows: list[Row], bench: Bench) -> None:
    """Write eval/results/search-goals.json."""
    found = compare(rows)
    columns = {name: form for name, form in COLUMNS.items() if any(name in row for row in found)}
    bench.write("search-goals", found, columns=columns, note=NOTE)
