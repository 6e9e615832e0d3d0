"""`thresher quickstart`: every stage on a corpus that each machine has, the documentation installed with Python."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from thresher.cli.output import JsonOption, emit_json, progress_wanted, say, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.build.report import BuildReport
    from thresher.encode import DenseEncoder, SparseEncoder
    from thresher.pipeline import Answer, Pipeline
    from thresher.records import Passage, SparseBatch

Row = dict[str, "str | float"]
QUERIES = (
    "how do I ignore NaN when taking a median?",
    "how do I measure the time a small piece of code takes?",
    "how do I find files whose names match a pattern?",
    "how do I generate a random token that is safe for passwords?",
    "what does the with statement do?",
)
PACKAGES = ("numpy",)
"""Indexed with the language reference and the standard library; thresher requires it, so all machines have it."""
SAMPLE, SEED = 200, 0
MEASURES = "RR@10 Success@10"


def quickstart(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the index.")] = Path(
        "thresher-quickstart"
    ),
    limit: Annotated[int, typer.Option(min=0, help="Maximum passages to index; 0 for all.")] = 0,
    recipe: Annotated[str, typer.Option(help="Recipe, by name or path.")] = "cascade",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even if the index exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Index the documentation installed with Python, ask it some queries, and measure what pruning saves and costs.

    The corpus is the language reference, the standard library and numpy; `thresher build installed` takes every
    installed package. Sources are parsed, never imported. Passages of low quality go to a second tier; all are encoded
    once, by thresher-mini for sparse search with BM25 and by the embedded MiniLM for vectors; a query is searched,
    interpolated, and answered with the sentences to read. The measure is known-item search, with and without
    pruning: the first sentence of a docstring, removed from its passage, must find the passage again. Without the extra
    `embedded`, BM25 does all of this. A second run opens the index that the first one built.

    \b
    Examples:
      thresher quickstart
      thresher quickstart --limit 1000 -o /tmp/quickstart
      thresher quickstart --recipe bm25
    """
    from thresher.pipeline import Pipeline

    progress = progress_wanted() and not json
    document: dict[str, object] = {"index": str(output)}
    if rebuild or not output.exists():
        document |= _build_and_measure(output, limit, recipe, progress, json)
    elif not json:
        say(f"opening {output}, which exists; --rebuild builds and measures it again\n")
    started = time.perf_counter()
    pipeline = Pipeline.open(output)
    pipeline.warm_up(QUERIES[0])
    opening = time.perf_counter() - started
    answers = map(pipeline.ask, QUERIES)
    if json:
        emit_json({**document, "open_seconds": opening, "answers": [answer.as_json() for answer in answers]})
        return
    _show(answers, pipeline, output, opening)


def _build_and_measure(output: Path, limit: int, named: str, progress: bool, json: bool) -> dict[str, object]:
    """Collect the corpus, build the index, and measure known-item search; print each step."""
    from thresher.build.stream import build_index
    from thresher.corpus import MemoryCorpus
    from thresher.corpus.installed import InstalledDocumentation

    started = time.perf_counter()
    if not json:
        say("collecting the documentation installed with Python ...")
    passages = MemoryCorpus(InstalledDocumentation(limit=limit, packages=PACKAGES), "installed")
    collecting = time.perf_counter() - started
    recipe, models, lacking = _recipe(named)
    if not json:
        how = lacking or ("encoding with torch" if models else "indexing")
        say(f"collected {sum(1 for _ in passages):,} passages in {collecting:.1f} s; {how}\n")
    report = build_index(output, passages, recipe, overwrite=True, progress=progress, **models)
    rows, asked = _known_item(tuple(passages), recipe, models, progress)
    if not json:
        _show_build(report)
        _show_known_item(rows, asked)
    return {
        "collect_seconds": collecting,
        "counts": report.counts,
        "usage": [stage.as_json() for stage in report.usage.stages],
        "known_item": {"sample": asked, "seed": SEED, "rows": rows},
    }


class _Models(TypedDict, total=False):
    """Encoders that encode no text twice, so that indexes after the first cost little."""

    dense: _Remembering
    learned: SparseEncoder


def _recipe(name: str) -> tuple[Recipe, _Models, str]:
    """The recipe, the encoders that it names, and what of it is left out because an extra is not installed."""
    from importlib.util import find_spec

    from thresher.build.recipe import load_recipe
    from thresher.build.weights import open_learned
    from thresher.encode import DenseEncoder
    from thresher.encode.hybrid import learned_part
    from thresher.errors import MissingExtraError

    recipe, lacking = load_recipe(name), []
    if recipe.prune is not None and recipe.prune.similarity is not None and find_spec("rensa") is None:
        lacking.append("only exact duplicates are folded; for near ones: pip install 'thresher[dedup]'")
        recipe = recipe.model_copy(update={"prune": recipe.prune.model_copy(update={"similarity": None})})
    models = _Models()
    try:
        if recipe.vectors is not None:
            models["dense"] = _Remembering(DenseEncoder.from_name(recipe.vectors.encoder))
        if learned_part(recipe.encode.encoder):
            models["learned"] = _remembering(open_learned(recipe.encode))
    except MissingExtraError:
        models = _Models()
        lacking.append("BM25 only, since models are not installed: pip install 'thresher[embedded]'")
        lexical = recipe.ask.model_copy(update={"rerank": "", "context": "lexical"})
        recipe = load_recipe("bm25").model_copy(update={"prune": recipe.prune, "ask": lexical})
    return recipe, models, "; ".join(lacking)


def _remembering(encoder: SparseEncoder) -> SparseEncoder:
    """The encoder, which from now on encodes no text twice."""
    from thresher.encode.encoder import concatenate, row_slice

    known: dict[str, SparseBatch] = {}
    encode = encoder.encode_passages

    def encoded(texts: Sequence[str]) -> SparseBatch:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            batch = encode(new)
            known.update((text, row_slice(batch, row, row + 1)) for row, text in enumerate(new))
        return concatenate([known[text] for text in texts])

    encoder.encode_passages = encoded  # type: ignore[method-assign]
    return encoder


class _Remembering:
    """A dense encoder that encodes no text twice, so that indexes after the first cost little."""

    def __init__(self, encoder: DenseEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, NDArray[np.floating]] = {}
        self.fingerprint: str = encoder.fingerprint

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.floating]:
        import numpy as np

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_passages(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def _known_item(passages: Sequence[Passage], recipe: Recipe, models: _Models, progress: bool) -> tuple[list[Row], int]:
    """Means of `MEASURES`, with and without pruning; the first sentence of each sampled passage is its query."""
    from thresher.build.stream import build_index
    from thresher.corpus.installed import known_items
    from thresher.evaluate import evaluate
    from thresher.pipeline import Pipeline
    from thresher.ranking import Run

    items = known_items(passages, sample=min(SAMPLE, max(10, len(passages) // 8)), seed=SEED)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, how in {"everything": recipe.model_copy(update={"prune": None}), "pruned": recipe}.items():
            if name == "pruned" and recipe.prune is None:
                continue
            path = Path(folder) / name
            report = build_index(path, items.passages, how, progress=progress, **models)
            stages = {"search": None, **({"search, interpolate": "auto"} if "dense" in models else {})}
            for stage, vectors in stages.items():
                pipeline = Pipeline.open(path, vectors=vectors, rerank=None, context=None)
                answers = pipeline.ask_batch(items.queries, 10)
                run = Run({answer.qid: answer.ranking.cut(10) for answer in answers})
                found = evaluate(run, items.qrels, MEASURES).mean
                milliseconds = sorted(answer.milliseconds for answer in answers)[len(answers) // 2]
                rows.append(
                    {"index": name, "passages": report.counts["passages"], "bytes": _size(path), "stages": stage}
                    | {measure: found[measure] for measure in MEASURES.split()}
                    | {"median_ms": milliseconds}
                )
    return rows, len(items.queries)


def _size(path: Path) -> int:
    """Bytes of the first tier and its vectors."""
    aside = {"tier-2", "pruning"}
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and aside.isdisjoint(f.parts))


def _show_build(report: BuildReport) -> None:
    from thresher.cli.build import show_build

    show_build(report)
    say("")


def _show_known_item(rows: Sequence[Row], asked: int) -> None:
    say(f"known-item search: {asked} docstrings, each queried by its first sentence, which was removed from it:\n")
    columns = ["index", "passages", "bytes", "stages", "RR@10", "Success@10", "median_ms"]
    table(
        columns,
        [_cells(row, columns) for row in rows],
        numeric=["passages", "bytes", "RR@10", "Success@10", "median_ms"],
    )
    say("")


def _cells(row: Row, columns: Sequence[str]) -> list[str | float]:
    formats = {"passages": ",", "bytes": ",", "median_ms": ".1f"}
    return [format(row[column], formats[column]) if column in formats else row[column] for column in columns]


def _show(answers: Iterable[Answer], pipeline: Pipeline, output: Path, opening: float) -> None:
    """Print each answer as it comes, and the stages of the last one."""
    from rich.text import Text

    from thresher.cli.ask import show_answer, show_missing, show_stages
    from thresher.cli.output import console

    for answer in answers:
        console().print(Text(f"{answer.query}   ({answer.milliseconds:.0f} ms)", style="bold"))
        show_answer(answer, passages=1)
    say(f"stages of the last query (loading models and compiling kernels took {opening:.1f} s before it):\n")
    show_stages(answer)
    show_missing(pipeline)
    program = "thresher" if which("thresher") else f"{sys.executable} -m thresher"
    say(f'\nask your own query:            {program} ask {output} "your query"')
    say(f"index your own passages:       {program} build passages.jsonl -o my-index")
    say('                               a line is {"docno": "...", "title": "...", "text": "..."}')
