"""The cost of pruning and reranking 20 passages, against a cross-encoder's forward passes alone.

Writes eval/results/context-cost.json.

Passages are made of words of Python's own documentation strings, 60 words in about four sentences each; the query
has eight words. Timed in turn, so that all see the same machine, and reported as medians:

- `cross-encoder`: the same six layers as an ordinary cross-encoder, query and passage in one sequence, the 20 pairs
  in one padded batch, tokenisation included, and a linear rank head: what a reranker of this size costs;
- `two heads`: the shipped model's forward passes with rank scores alone, tokenisation included;
- `prune`: `ContextPruner.prune`, everything included: splitting, tokenising, one forward pass for each passage, both
  heads, the sentence head, spans and token counts.
"""

from __future__ import annotations

import builtins
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, options
from thresher.context import ContextPruner, SplitPassage
from thresher.context.model import TwoHeadedScorer
from thresher.models.minilm import MiniLM
from thresher.models.two_headed import SHIPPED, pad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUERY = "how do I return the items of a sequence"


def passages(count: int = 20, words: int = 60) -> list[str]:
    """Texts of exactly so many words, in sentences of fifteen."""
    chooser = random.Random(3)  # noqa: S311
    vocabulary = sorted(
        {w for name in dir(builtins) for w in re.findall(r"[a-z]{2,}", getattr(builtins, name).__doc__ or "")}
    )
    out = []
    for _ in range(count):
        picked = [chooser.choice(vocabulary) for _ in range(words)]
        sentences = [picked[i : i + 15] for i in range(0, words, 15)]
        out.append(" ".join(" ".join(s).capitalize() + "." for s in sentences))
    return out


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("context-cost", __doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    import torch

    scorer = TwoHeadedScorer(given.model)
    pruner, texts = ContextPruner(scorer), passages()
    minilm = MiniLM(device="cpu")
    head = torch.nn.Linear(384, 1)
    pairs = [(QUERY, SplitPassage(text, ())) for text in texts]

    def cross_encoder() -> None:
        ids = [minilm.tokenizer.encode(QUERY, text).ids for text in texts]
        padded, lengths = pad(ids)
        with torch.inference_mode():
            head(minilm.body.read(padded, lengths)[:, 0])

    work: dict[str, Callable[[], object]] = {
        "cross-encoder": cross_encoder,
        "two heads": lambda: scorer.relevance(pairs),
        "prune": lambda: pruner.prune(QUERY, texts, threshold=0.5),
    }
    rows: list[Row] = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(given.repeats + 2):
            for name, run in work.items():
                start = time.perf_counter() if threads > 1 else time.process_time()
                run()
                end = time.perf_counter() if threads > 1 else time.process_time()
                if turn >= 2:
                    seconds[name].append(end - start)
        base = float(np.median(seconds["cross-encoder"]))
        ratios = {
            name: float(np.median(np.array(s) / np.array(seconds["cross-encoder"]))) for name, s in seconds.items()
        }
        for name, taken in seconds.items():
            median = float(np.median(taken))
            clock = "wall" if threads > 1 else "processor"
            rows.append({"threads": threads, "clock": clock, "what": name, "passages": len(texts),
                         "milliseconds": round(1000 * median, 1), "passages_per_second": round(len(texts) / median, 1),
                         "ratio": round(median / base, 3), "ratio_paired": round(ratios[name], 3)})  # fmt: skip
            print(rows[-1])
    note = "`ratio` is of medians, `ratio_paired` the median of ratios within a turn; both are to the cross-encoder."
    bench.write(
        "context-cost",
        rows,
        seed=3,
        packages=("torch",),
        title="Cost of context pruning",
        note=note,
    )
