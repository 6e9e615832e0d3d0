"""Where the bytes of an index go, by file.

Takes the collections that `search-make` left in `--work`, and builds the indexes that `search-panel` did not leave
there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from eval.search.engines import Thresher
from eval.search.matrices import load

if TYPE_CHECKING:
    from collections.abc import Sequence

COLLECTIONS = ("real-20k", "real-learned", "real-lexical", "synthetic-1m")


def sizes(engine: Thresher, postings: int) -> dict[str, float]:
    """Bytes a posting by file."""
    found = {"all": engine.bytes() / postings}
    for file in sorted(engine.segment.iterdir()):
        if file.is_file() and not file.name.startswith("passages."):
            name = file.name.split(".")[0] if file.suffix in (".bytes", ".offsets") else file.name
            name = "json" if file.suffix == ".json" else name
            found[name] = found.get(name, 0.0) + file.stat().st_size / postings
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("search-size", __doc__)
    parser.add_argument("--collections", nargs="*", default=list(COLLECTIONS))
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows: list[Row] = []
    for name in given.collections:
        engine = Thresher(bench.work / "indexes" / name / "thresher--default", "default")
        if not engine.folder.is_dir():
            engine.folder.parent.mkdir(parents=True, exist_ok=True)
            engine.build(load(bench.work / f"{name}.npz"))
        engine.open()
        n = engine.index.layouts[0].counts
        about = {
            "collection": name,
            "terms": n.terms,
            "dense_terms": n.dense,
            "common_terms": n.common,
            "numbered_terms": n.numbered,
        }
        rows.append(about | sizes(engine, n.postings))
    columns = dict.fromkeys(about, "") | {key: ".3f" for row in rows for key in row if key not in about}
    bench.write("search-size", rows, columns=columns, note=NOTE)


NOTE = (
    "Bytes a posting of a `default` index by file, everything but passages. dense_terms, common_terms, numbered_terms: "
    "how many have a row of `dense`, of `tiles` and `maxima`, of `kth`."
)
