"""Make the collections that `panel.py` measures on, where they are not there yet.

    python eval/search/make.py real-learned synthetic-1m --data "$THRESHER_DATA" --work /tmp/panel

Needs thresher[models,embedded]. Writes NAME.npz into `--work`; vectors that had to be computed are kept in `vectors/`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from matrices import Matrix, load, save


def make(name: str, data: Path, work: Path, encoder: str) -> Matrix:
    """The collection, from `work` or made now."""
    file = work / f"{name}.npz"
    if file.is_file():
        return load(file)
    if name == "synthetic-1m":
        import synthetic

        matrix = synthetic.matrix()
    else:
        import passages

        if name == "real-20k":
            matrix = passages.sample(make("real-learned", data, work, encoder), 20_000, name)
        elif name == "real-lexical":
            matrix = passages.real_lexical(data)
        else:
            matrix = passages.real_learned(data, work / "vectors", encoder, name)
    save(matrix, file)
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", default="thresher-mini", help="or the directory of a learned sparse encoder")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        matrix = make(name, args.data, args.work, args.encoder)
        print(name, len(matrix.documents), "passages", int(matrix.documents.indptr[-1]), "postings", matrix.about)


if __name__ == "__main__":
    main()
