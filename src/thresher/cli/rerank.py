"""`thresher rerank`: rerank a run with a model, under a budget."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import (
    emit_json,
    grouped,
    is_quiet,
    note,
    progress_wanted,
    refuse_input_as_output,
    table,
)
from thresher.cli.rerank_options import Candidates, Limits, Memory, Model, Output, Planning, Prompting, Scores
from thresher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.llm.cache import ResponseCache
    from thresher.ranking import Ranking, Run
    from thresher.records import Query
    from thresher.rerank.judges import Judge
    from thresher.rerank.order_bias import Watched
    from thresher.rerank.reranker import Reranked, Reranker
    from thresher.search import Index

DEPTH = 100


@grouped
def rerank(
    run: Annotated[Path, typer.Argument(help="TREC run with the candidates, in the order listed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Reranked run to write.")],
    candidates: Candidates,
    planning: Planning,
    model: Model,
    prompting: Prompting,
    limits: Limits,
    memory: Memory,
    scores: Scores,
    shown: Output,
) -> None:
    """Rerank a run with a language model, a decision model, a cross-encoder or a rerank server.

    \b
    Examples:
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run \\
          --model openai:qwen3-8b --base-url http://localhost:8000/v1 --max-calls 860
      thresher rerank bm25.run --queries q.tsv --corpus c.jsonl -o out.run --model cross-encoder:BAAI/bge-reranker-base
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run --model thresher-context --precision 0.8
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run --plan slidegar --neighbours vectors \\
          --model openai:qwen3-8b --base-url http://localhost:8000/v1
      thresher rerank bm25.run --replay recorded.windows.jsonl.gz -o out.run
    """
    from thresher.evaluate.trec import read_run
    from thresher.ranking import Run
    from thresher.rerank.reranker import UnfinishedRunError

    _check(planning, model, memory)
    refuse_input_as_output(output, run, *_inputs(candidates, model, scores, shown))
    listed = read_run(run, as_listed=True)
    with ExitStack() as stack:
        index = _opened(candidates, stack)
        judge, depth = _judge(model, prompting, planning.depth, limits.concurrency, index)
        reranker = stack.enter_context(_reranker(judge, depth, planning, model, limits, memory, scores, index, stack))
        watched = _watched(reranker) if shown.order_bias else None
        queries = _queries(candidates) if model.replay is None else _no_texts(listed)
        given = _of_queries(listed, queries) if model.replay is None else listed
        ready = _with_texts(given, candidates, depth, index) if model.replay is None else listed
        started = time.perf_counter()
        error: UnfinishedRunError | None = None
        try:
            results = reranker.rank_batch(ready, queries)
        except UnfinishedRunError as err:
            error = err
            results = Run({ranking.qid: ranking for ranking in err.finished}, shown.tag)
        seconds = time.perf_counter() - started
    if memory.dry_run:
        _show_estimate(reranker, ready, results, shown)
        return
    made = _made(results, shown.tag, probabilities=scores.wanted)
    if error is None or made:
        _write(made, output, reranker, results, probabilities=scores.wanted)
        _report(given, results, made, seconds, output, shown, planning.k, watched)
    if error is not None:
        kept = f"{output} has the {len(made)} of {len(given)} queries that were reranked" if made else "nothing written"
        raise ModelError(f"{error} ({kept})")


_SERVERS = """

    \b
    Servers, as options of the command above (keys: --key-env NAME or --key-file FILE):
      vLLM, SGLang    --model openai:Qwen/Qwen3-8B --base-url http://localhost:8000 --thinking off
      Ollama          --model openai:qwen3:8b --base-url http://localhost:11434 --thinking off
      LM Studio       --model openai:qwen3-8b --base-url http://localhost:1234 --reasoning-tokens 4096
      OpenAI          --model openai:gpt-5-mini --base-url https://api.openai.com --reasoning-tokens 4096
      TEI             --model tei: --base-url http://localhost:8080
      Cohere          --model cohere:rerank-v3.5 --base-url https://api.cohere.com
      Jina            --model jina:jina-reranker-v2-base-multilingual --base-url https://api.jina.ai
      Decision models --model decisions:gpt-6-luna --base-url https://api.openai.com
                      --model systemone:nimble --base-url http://localhost:11434
"""
rerank.__doc__ = f"{rerank.__doc__}{_SERVERS}"


def _check(planning: Planning, model: Model, memory: Memory) -> None:
    """Refuse options that do not go together, before anything is read."""
    if (model.replay is None) == (not model.model):
        raise typer.BadParameter("give --model, or --replay with recorded windows")
    if memory.on_failure not in ("raise", "skip", "keep"):
        raise typer.BadParameter("choose raise, skip or keep", param_hint="--on-failure")
    if planning.plan.partition(":")[0] == "slidegar" and planning.neighbours is None:
        raise typer.BadParameter(
            "say where slidegar finds neighbours: vectors, postings or journal:FILE", param_hint="--neighbours"
        )


def _judge(
    model: Model, prompting: Prompting, depth: int | None, concurrency: int, index: Index | None
) -> tuple[Judge, int]:
    """The judge, and how many passages of each ranking it reranks."""
    if model.replay is not None:
        from thresher.rerank.replay import RecordedWindows, read_recording

        recording = read_recording(model.replay)
        return RecordedWindows(recording, prompting.parsing or "digits-v1"), depth or recording.depth
    from thresher.rerank.judges import judge_from_name

    options = {**model.options(), **prompting.options()}
    if model.model.startswith("hybrank:"):
        options["index"] = index
    return judge_from_name(model.model, device=model.device, concurrency=concurrency, **options), depth or DEPTH


def _observed(judge: Judge, memory: Memory) -> Judge:
    """The judge, recording its model's answers or sending nothing if that is asked for."""
    from thresher.llm.decisions import DryDecisions
    from thresher.llm.recorded import DryModel, Recorder
    from thresher.rerank.decisions import DecisionJudge
    from thresher.rerank.model_judge import ModelJudge

    if memory.record is None and not memory.dry_run:
        return judge
    if isinstance(judge, DecisionJudge) and memory.record is None:
        judge.model = DryDecisions(judge.model)
        return judge
    if not isinstance(judge, ModelJudge):
        if memory.record is not None:
            raise typer.BadParameter("only language models can be recorded", param_hint="--record")
        raise typer.BadParameter(
            "only language models and decision models have a price to estimate", param_hint="--dry-run"
        )
    judge.model = DryModel(judge.model) if memory.dry_run else Recorder(judge.model, memory.record or "")
    return judge


def _of_queries(listed: Run, queries: Sequence[Query]) -> Run:
    """The rankings of the run that have a query; the others are reported."""
    from thresher.ranking import Run

    known = {query.qid for query in queries}
    given = Run({qid: ranking for qid, ranking in listed.items() if qid in known}, listed.tag)
    if given and len(given) < len(listed):
        note(f"{len(listed) - len(given)} of the run's {len(listed)} queries are not in --queries and are left out")
    return given or listed


def _show_estimate(reranker: Reranker, ready: Run, results: Run, shown: Output) -> None:
    """What the run would take: as counted where the first-stage order is right, and at most."""
    from thresher.rerank.driver import RerankUsage
    from thresher.rerank.reranker import Reranked

    usage = RerankUsage.total((one.usage for one in results.values() if isinstance(one, Reranked)), 0.0)
    sizes = [min(len(ranking), reranker.depth or len(ranking)) for ranking in ready.values()]
    document = {
        "queries": len(results),
        "calls": usage.calls,
        "questions": usage.questions,
        "most_calls": sum(reranker.chosen(n, len(sizes)).plan.bound(n, reranker.k).calls for n in sizes),
        "prompt_tokens": usage.prompt_tokens,
        "answer_tokens": usage.answer_tokens,
        "cost": usage.cost,
    }
    if shown.json:
        emit_json(document)
        return
    rows = [(name.replace("_", " "), value) for name, value in document.items() if value is not None]
    table(["", "value"], rows, numeric=["value"])
    note("nothing was sent; calls and tokens are those of a first-stage order that is right, without repeated requests")


def _reranker(
    judge: Judge,
    depth: int,
    planning: Planning,
    model: Model,
    limits: Limits,
    memory: Memory,
    scores: Scores,
    index: Index | None,
    stack: ExitStack,
) -> Reranker:
    from thresher.llm.budget import Budget
    from thresher.rerank.judges import windowed
    from thresher.rerank.neighbours import neighbours_from_name
    from thresher.rerank.reranker import Reranker

    recorded = model.replay is not None
    cached = memory.cache and not recorded and not memory.dry_run
    return Reranker(
        windowed(_observed(judge, memory), planning.windows),
        planning.plan or None,
        k=planning.k,
        depth=depth,
        seed=planning.seed,
        budget=limits.budget(),
        budget_per_query=Budget(limits.max_calls_per_query),
        concurrency=limits.concurrency,
        price=limits.price(model.model),
        cache=cache_of(memory.cache_file, stack) if cached else None,
        journal=None if memory.dry_run else memory.resume,
        on_failure="keep" if recorded else memory.on_failure,  # type: ignore[arg-type]  # checked by the command
        progress=progress_wanted(),
        neighbours=None if planning.neighbours is None else neighbours_from_name(planning.neighbours, index),
        calibration=scores.calibration,
        min_score=scores.min_score,
        precision=scores.precision,
    )


def _inputs(candidates: Candidates, model: Model, scores: Scores, shown: Output) -> tuple[Path | str | None, ...]:
    """The files that are read."""
    return candidates.queries, candidates.corpus, shown.qrels, model.replay, scores.calibration


def _made(results: Run, tag: str, *, probabilities: bool) -> Run:
    """The run to write."""
    from thresher.ranking import Run

    told = {qid: calibrated(ranking) if probabilities else ranking for qid, ranking in results.items()}
    return Run({qid: ranking for qid, ranking in told.items() if len(ranking)}, tag)


def calibrated(ranking: Ranking) -> Ranking:
    """The ranking with its probabilities as scores, made to strictly decrease; negative for what was not reranked."""
    import numpy as np

    from thresher.rerank.reranker import Reranked, strictly_decreasing

    if not isinstance(ranking, Reranked) or ranking.probabilities is None:
        return ranking
    known = tuple(one for one in ranking.probabilities if one is not None)
    rest = np.arange(-1, len(known) - len(ranking) - 1, -1, dtype=np.float64)
    return ranking.take(
        np.arange(len(ranking)), np.concatenate([strictly_decreasing(known, len(known), len(known)), rest])
    )


def _write(made: Run, output: Path, reranker: Reranker, results: Run, *, probabilities: bool) -> None:
    """Write a run, and beside it what it was made with, where the output is a file."""
    from thresher.evaluate.trec import write_run
    from thresher.rerank.reranker import Reranked
    from thresher.rerank.run_settings import RunSettings

    write_run(made, output)
    if not output.is_file():
        return
    ours = [one for one in results.values() if isinstance(one, Reranked) and len(one)]
    scored = bool(ours) and all(one.scored for one in ours)
    depth = reranker.depth or max((len(one) for one in ours), default=0)
    RunSettings(
        reranker.judge.name,
        reranker.plan.name,
        depth,
        "probability" if probabilities else "score" if scored else "rank",
        str(getattr(reranker.judge, "fingerprint", "")),
    ).save(output)


def cache_of(file: Path | None, stack: ExitStack) -> ResponseCache | None:
    """The cache; without one the run goes on if no file was named and there is no place for one."""
    from thresher.files import cache_folder
    from thresher.llm.cache import ResponseCache

    try:
        if file is None and cache_folder() is None:
            note("there is no home directory for the response cache: answers are not kept (set THRESHER_CACHE)")
            return None
        return stack.enter_context(ResponseCache(file))
    except OSError as err:
        if file is not None:
            raise
        note(f"answers are not kept: {err.filename}: {err.strerror}")
        return None


def _queries(candidates: Candidates) -> Sequence[Query]:
    from thresher.evaluate.trec import read_queries

    if candidates.queries is None or (candidates.corpus is None) == (candidates.index is None):
        raise typer.BadParameter("give --queries, and the passages by --corpus or --index")
    return list(read_queries(candidates.queries))


def _no_texts(listed: Run) -> Sequence[Query]:
    from thresher.records import Query

    return [Query(qid, "") for qid in listed]


def _opened(candidates: Candidates, stack: ExitStack) -> Index | None:
    """The index with the passages, if there is one; it stays open as long as `stack`."""
    if candidates.index is None:
        return None
    from thresher.search import Index

    return stack.enter_context(Index.open(candidates.index))


def _with_texts(listed: Run, candidates: Candidates, depth: int, index: Index | None) -> Run:
    """The run with texts from the index or from the corpus."""
    from thresher.rerank.candidates import texts_of_corpus, with_texts

    if index is None:
        return with_texts(listed, texts_of_corpus(listed, candidates.corpus or "", depth), depth)
    return with_texts(listed, index, depth)


def _watched(reranker: Reranker) -> Watched:
    """The judge of a reranker, which from now on keeps what it is asked and answers."""
    from thresher.rerank.order_bias import Watched

    reranker.judge = watched = Watched(reranker.judge)
    return watched


def _report(
    listed: Run,
    results: Run,
    made: Run,
    seconds: float,
    output: Path,
    shown: Output,
    k: int,
    watched: Watched | None = None,
) -> None:
    """Print what was done and what it cost."""
    from thresher.rerank.driver import RerankUsage
    from thresher.rerank.order_bias import order_bias
    from thresher.rerank.reranker import Reranked

    reranked = [ranking for ranking in results.values() if isinstance(ranking, Reranked)]
    usage = RerankUsage.total((one.usage for one in reranked), seconds).as_dict()
    omitted = [one.qid for one in reranked if not len(one) and one.error is not None]
    empty = sum(not len(one) and one.error is None for one in reranked)
    stopped = sorted({one.stopped for one in reranked} - {""})
    document: dict[str, object] = {
        "run": str(output),
        "queries": len(reranked),
        "omitted": omitted,
        "incomplete": sum(not one.complete for one in reranked),
        "stopped": stopped,
        **({"without_passages": empty} if empty else {}),
        **({} if shown.qrels is None else _measured(listed, made, shown.qrels)),
        **({} if watched is None else {"order_bias": order_bias(watched.answered).as_dict()}),
        "usage": usage,
    }
    if shown.json:
        emit_json({**document, "first": {one.qid: _first(one, k) for one in reranked if len(one)}})
        return
    if is_quiet():
        return
    apart = ("usage", "omitted", "stopped", "order_bias")
    rows = [(name, value) for name, value in document.items() if name not in apart]
    for name, value in {**usage, "order_bias": document.get("order_bias")}.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {kind}", _plain(count)) for kind, count in value.items()]
        elif name != "queries" and value is not None:
            rows.append((name, value))
    table(["", "value"], [(name.replace("_", " "), value) for name, value in rows], numeric=["value"])
    if stopped:
        note(f"the limit on {', '.join(stopped)} was reached: some rankings are incomplete")
    if empty:
        note(f"{empty} queries have no passage that reaches the threshold and are not in {output}")
    if omitted:
        note(f"{len(omitted)} queries could not be reranked and are not in {output}")


def _plain(value: object) -> object:
    """A value as a table shows it."""
    if value is None:
        return "not compared"
    return " ".join(f"{one:.2f}" for one in value) if isinstance(value, list) else value


def _first(ranking: Reranked, k: int) -> list[dict[str, object]]:
    """The first k passages with their scores, and the confidence that each is among the best k."""
    head, sure = ranking.cut(k), ranking.confidence or ()
    return [
        {"docno": docno, "score": score, "confidence": sure[place] if place < len(sure) else None}
        for place, (docno, score) in enumerate(zip(head.docnos, head.scores.tolist(), strict=True))
    ]


def _measured(before: Run, after: Run, qrels: Path) -> dict[str, float]:
    from thresher.evaluate.measures import evaluate
    from thresher.evaluate.trec import read_qrels, untied

    judgments = read_qrels(qrels)
    return {
        "ndcg_cut_10_before": evaluate(untied(before), judgments, "nDCG@10").mean["nDCG@10"],
        "ndcg_cut_10": evaluate(after, judgments, "nDCG@10").mean["nDCG@10"],
    }
