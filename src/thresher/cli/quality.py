"""`thresher quality`: score passages, fit an estimator on judgments or a query log, exchange scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, note, say, table

quality = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Passage quality: score a corpus, fit an estimator, exchange scores.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@quality.command()
def score(
    corpus: Annotated[str, typer.Argument(help="A corpus: .jsonl[.gz|.zst], .tsv, .csv, a BEIR folder, ...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write the score store to.")],
    estimator: Annotated[str, typer.Option(help="Quality estimator; see `thresher quality list`.")] = "embedded",
    device: Annotated[str, typer.Option(help="Device for models: auto, cpu, cuda, mps.")] = "auto",
    download: Annotated[bool, typer.Option("--download", help="Fetch a hub model that is not in the cache.")] = False,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Score only passages added since the store was written."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing score store.")] = False,
    json: JsonOption = False,
) -> None:
    """Score every passage of a corpus and write the scores to a store.

    \b
    Examples:
      thresher quality score corpus.jsonl -o scores
      thresher quality score corpus.jsonl -o scores --estimator kl --overwrite
      thresher quality score corpus.jsonl -o scores --extend
      thresher quality score corpus.jsonl -o scores --estimator qualt5:pyterrier-quality/qt5-tiny --download
    """
    from thresher.corpus import open_corpus
    from thresher.errors import InputError
    from thresher.quality.estimator import Contents, QualityEstimator
    from thresher.quality.store import extend_scores, score_corpus, write_scores

    opened = open_corpus(corpus)
    if extend:
        store = extend_scores(output, opened)
        seconds = None
    else:
        made = QualityEstimator.from_name(estimator, texts=Contents(opened), device=device, download=download)
        scored = score_corpus(opened, made)
        if not scored.docnos:
            raise InputError("there are no passages in it", opened.name)
        seconds = scored.usage.seconds
        store = write_scores(
            output,
            scored.docnos,
            scored.scores,
            estimator=made,
            corpus_fingerprint=opened.fingerprint(),
            overwrite=overwrite,
        )
    if json:
        emit_json({"path": str(output), "passages": len(store), "estimator": store.estimator, "seconds": seconds})
    else:
        say(f"{output}: {len(store):,} scores by {store.estimator}")


@quality.command("list")
def list_(json: JsonOption = False) -> None:
    """List the estimators.

    Example: thresher quality list
    """
    from thresher.quality.estimator import ESTIMATORS

    names = ESTIMATORS.forms()
    if json:
        emit_json(list(names))
    else:
        for name in names:
            echo(name)


@quality.command("export")
def export_(
    store: Annotated[Path, typer.Argument(help="A score store.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write the cache to.")],
) -> None:
    """Write scores in the layout of published QualT5 caches.

    Example: thresher quality export scores -o scores-cache
    """
    from thresher.quality.qt5cache import export_cache
    from thresher.quality.store import ScoreStore

    scores = ScoreStore.open(store)
    export_cache(scores, output)
    say(f"{output}: {len(scores):,} scores in the layout of QualT5 caches")


@quality.command("import")
def import_(
    cache: Annotated[Path, typer.Argument(help="A QualT5 cache: quality.f4, docno.npids, pt_meta.json.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write the score store to.")],
    corpus: Annotated[str, typer.Option(help="The corpus of the scores, to check docnos against.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing score store.")] = False,
) -> None:
    """Import scores from a published QualT5 cache.

    Example: thresher quality import qt5-tiny-cache -o scores --corpus corpus.jsonl
    """
    from thresher.corpus import open_corpus
    from thresher.quality.qt5cache import import_cache
    from thresher.quality.store import ScoreStore

    fingerprint = ""
    if corpus:
        opened = open_corpus(corpus)
        fingerprint = opened.fingerprint()
    store: ScoreStore = import_cache(cache, output, corpus_fingerprint=fingerprint, overwrite=overwrite)
    if corpus:
        for _ in store.stream(opened):
            pass
    say(f"{output}: {len(store):,} scores")


@quality.command()
def fit(
    corpus: Annotated[str, typer.Argument(help="The corpus of the judgments or queries.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write the fitted estimator to.")],
    qrels: Annotated[Path | None, typer.Option(help="Relevance judgments, in TREC format.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Query log: TSV (qid, tab, text) or JSON lines.")] = None,
    relevant: Annotated[int, typer.Option(help="Lowest grade that counts as relevant.")] = 1,
    head: Annotated[str, typer.Option(help="Kind of model: linear or mlp.")] = "linear",
    folds: Annotated[int, typer.Option(help="Number of cross-validation folds.")] = 5,
    seed: Annotated[int, typer.Option(help="Random seed for folds and training.")] = 0,
    unseen: Annotated[str, typer.Option(help="Another collection to evaluate on, such as scifact.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing estimator.")] = False,
    json: JsonOption = False,
) -> None:
    """Fit an estimator on your own judgments, or on a query log.

    Cross-validation folds keep a query, its passages and their near-duplicates together if possible; the report says
    when it is not. AUC is reported overall, within queries, and with --unseen on another collection, next to the AUC of
    the `kl` estimator: an estimator that does not beat `kl` is not worth using.

    \b
    Examples:
      thresher quality fit corpus.jsonl --qrels qrels.txt -o my-estimator
      thresher quality fit corpus.jsonl --queries log.tsv -o my-estimator --unseen scifact
    """
    from thresher.corpus import open_corpus
    from thresher.errors import ConfigError
    from thresher.evaluate.trec import read_qrels, read_queries
    from thresher.quality.fit import fit_on_judgments, fit_on_log, write_fitted

    if (qrels is None) == (queries is None):
        raise ConfigError("give either --qrels or --queries to fit the estimator on")
    passages = list(open_corpus(corpus))
    if qrels is not None:
        fitted = fit_on_judgments(passages, read_qrels(qrels), relevant=relevant, head=head, folds=folds, seed=seed)
    elif queries is not None:
        fitted = fit_on_log(passages, read_queries(queries), head=head, folds=folds, seed=seed)
    if unseen:
        from thresher.evaluate.collections import load

        other = load(unseen)
        fitted = fitted.measured_on(unseen, list(other.corpus), other.qrels, other.relevant)
    write_fitted(output, fitted, overwrite=overwrite)
    if json:
        emit_json({"path": str(output), **fitted.report})
        return
    rows = [(k, v if isinstance(v, float) else str(v)) for k, v in fitted.report.items()]
    table(["", "value"], rows, numeric=["value"])
    if not fitted.report.get("split_by_query", True):
        note("queries share too many passages to be split by query; folds are random over passages and over queries")
