"""Which preset of the pruner `eval/cascade.toml` should name: the share of characters that each drops.

Over the held-out topics of TREC DL 2021, with every stage of the served cascade. How signals are mixed, and whether the
ranker runs, is chosen by `mixture-choice` and `ranker-choice`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.bench import Bench, options
from eval.cascade import Cascade
from eval.collections import held_out
from thresher.evaluate.collections import load

if TYPE_CHECKING:
    from collections.abc import Sequence

READ = 20


def main(arguments: Sequence[str]) -> None:
    """Print the shares."""
    cascade = Cascade(Bench.of(options("cascade-choice", __doc__).parse_args(arguments)))
    collection = load("trec-dl-2021")
    for preset in cascade.scorer.presets:
        cascade.ask = cascade.ask.model_copy(update={"threshold": preset})
        pipeline = cascade.pipeline(collection, ("quality", cascade.best, "interpolate", "rank", "context"), READ)
        handed = [one for query in held_out(collection) for one in pipeline.ask(query.text).passages]
        kept = sum(span.end - span.start for one in handed for span in one.spans)
        print(preset, "drops", round(1 - kept / sum(len(one.original) for one in handed), 3), flush=True)
