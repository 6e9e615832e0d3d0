"""The topics that no training sees: every choice of weights, mixtures and defaults is made on them.

`held-out.json` lists them. It was drawn once, before anything was trained on the rest:

    python -m training.held_out      # draws the list again, and says whether it is the one that is committed

A topic is put aside by a hash of its collection and number: half of TREC DL 2021, and 30 % of the training queries of
SciFact and NFCorpus. The third of TREC DL 2021 that earlier weights were chosen on is among them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

LIST = Path(__file__).parent / "held-out.json"
SHARES = {"trec-dl-2021": 1 / 2, "scifact": 0.3, "nfcorpus": 0.3}
"""Share of each collection's topics that is put aside."""


def held_out(collection: str) -> frozenset[str]:
    """Topics of `collection` that no training may use, by qid.

    Args:
        collection: `trec-dl-2021`, `scifact` or `nfcorpus`; of the last two, their training split.
    """
    listed: dict[str, list[str]] = json.loads(LIST.read_text(encoding="utf-8"))
    return frozenset(listed[collection])


def drawn(data: Path) -> dict[str, list[str]]:
    """The list, drawn from the topics under `data`."""
    from thresher.files import read_text_lines

    judged = {line.split()[0] for _, line in read_text_lines(data / "trec-dl" / "qrels.dl21.covered.txt")}
    topics = {"trec-dl-2021": judged}
    for name in ("scifact", "nfcorpus"):
        lines = read_text_lines(data / "collections" / name / "queries.train.tsv.gz")
        topics[name] = {line.partition("\t")[0] for _, line in lines}
    listed = {}
    for name, qids in topics.items():
        ordered = sorted(qids, key=lambda qid: _draw(name, qid))
        listed[name] = sorted(ordered[: round(len(ordered) * SHARES[name])])
    return listed


def _draw(collection: str, qid: str) -> str:
    prefix = "thresher-context-2:topic" if collection == "trec-dl-2021" else f"held-out:{collection}"
    return hashlib.sha256(f"{prefix}:{qid}".encode()).hexdigest()


def _main() -> int:
    listed = drawn(Path(os.environ.get("THRESHER_DATA", "data")))
    counts = ", ".join(f"{len(qids)} of {name}" for name, qids in listed.items())
    same = LIST.is_file() and listed == json.loads(LIST.read_text(encoding="utf-8"))
    if not LIST.is_file():
        lines = [f" {json.dumps(name)}: {json.dumps(qids)}" for name, qids in listed.items()]
        LIST.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        print(f"{LIST}: {counts}")
        return 0
    print(f"{LIST}: {counts}; {'the same' if same else 'NOT what the data give'}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(_main())
