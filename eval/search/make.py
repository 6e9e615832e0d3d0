"""Make the collections that `search-panel` measures on, where they are not in the work directory yet.

    python -m eval search-make real-learned synthetic-1m --data "$THRESHER_DATA" --work panel

Needs thresher[models,embedded]. Writes NAME.npz into `--work`; vectors that had to be computed are kept in `vectors/`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench import Bench, options
from eval.search import passages, synthetic
from eval.search.matrices import Matrix, load, save

if TYPE_CHECKING:
    from collections.abc import Sequence


def make(name: str, data: Path, work: Path, encoder: str) -> Matrix:
    """The collection, from `work` or made now."""
    file = work / f"{name}.npz"
    if file.is_file():
        return load(file)
    if name == "synthetic-1m":
        matrix = synthetic.matrix()
    elif name == "real-20k":
        matrix = passages.sample(make("real-learned", data, work, encoder), 20_000, name)
    elif name == "real-lexical":
        matrix = passages.real_lexical(data)
    else:
        matrix = passages.real_learned(data, encoder, name)
    save(matrix, file)
    return matrix


def main(arguments: Sequence[str]) -> None:
    """Make what is missing."""
    parser = options("search-make", __doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--encoder", default="thresher-mini", help="or the directory of a learned sparse encoder")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    for name in given.names:
        matrix = make(name, given.data, bench.work, given.encoder)
        print(name, len(matrix.documents), "passages", int(matrix.documents.indptr[-1]), "postings", matrix.about)
