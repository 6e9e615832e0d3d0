"""`thresher rerank`: put the head of a run in a better order with a model, under a budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, emit_json, is_quiet, note, progress_wanted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.ranking import Run
    from thresher.records import Hit, Query
    from thresher.rerank.judge import Judge
    from thresher.rerank.reranker import Reranked


def rerank(
    run: Annotated[Path, typer.Argument(help="A TREC run: the candidates, in the order listed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The reranked run.")],
    queries: Annotated[Path | None, typer.Option(help="A TSV file of queries: qid, tab, text.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Passages: a file, folder or ir_datasets:ID.")] = None,
    index: Annotated[Path | None, typer.Option(help="An index that stores the passages, instead of --corpus.")] = None,
    plan: Annotated[
        str,
        typer.Option(help="How comparisons are spent: NAME or NAME:KEY=VALUE,...; default: sliding, or pointwise."),
    ] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many first ranks matter.")] = 10,
    depth: Annotated[int | None, typer.Option(min=1, help="Rerank so many candidates; default 100.")] = None,
    tag: Annotated[str, typer.Option(help="The new run's name, its last column.")] = "thresher-rerank",
    qrels: Annotated[Path | None, typer.Option(help="Judgments: show nDCG@10 before and after.")] = None,
    seed: Annotated[int, typer.Option(help="Of plans that shuffle.")] = 0,
    model: Annotated[
        str,
        typer.Option(
            help="openai:NAME, transformers:NAME, cross-encoder:NAME, cohere:NAME, jina:NAME, vllm:NAME, tei: or "
            "recorded:FILE."
        ),
    ] = "",
    replay: Annotated[Path | None, typer.Option(help="Recorded windows, instead of --model.")] = None,
    base_url: Annotated[str, typer.Option(help="The server's address.")] = "",
    key_env: Annotated[str, typer.Option(help="The environment variable that holds the server's key.")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds a call may take.")] = 120.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Connections.")] = 16,
    device: Annotated[str, typer.Option(help="Of a model in this process.")] = "auto",
    download: Annotated[bool, typer.Option(help="Fetch a hub model.")] = False,
    order: Annotated[str, typer.Option(help="Orders: generate or logits.")] = "generate",
    choice: Annotated[str, typer.Option(help="Choices: logits or generate.")] = "logits",
    rating: Annotated[str, typer.Option(help="Ratings: yes-no, graded, likelihood, monot5 or text.")] = "yes-no",
    prompt: Annotated[list[str] | None, typer.Option(help="FAMILY=FILE: a template of your own.")] = None,
    parsing: Annotated[str, typer.Option(help="brackets-v1 or digits-v1; default: digits-v1 with --replay.")] = "",
    instruction: Annotated[str, typer.Option(help="What counts as relevant.")] = "",
    passage_tokens: Annotated[int, typer.Option(min=1, help="Cut passages to this.")] = 400,
    reasoning_tokens: Annotated[int, typer.Option(min=0, help="Room for thought.")] = 0,
    structured: Annotated[str, typer.Option(help="json-schema, vllm-regex or tgi-regex.")] = "none",
    tokenizer: Annotated[str, typer.Option(help="The model's tokenizer, for exact counts.")] = "",
    context: Annotated[int | None, typer.Option(help="Tokens the model can read.")] = None,
    max_calls: Annotated[int | None, typer.Option(min=0, help="Calls, in all.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens, in all.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Money, in all.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Seconds, in all.")] = None,
    max_calls_per_query: Annotated[int | None, typer.Option(min=0, help="Calls for each query.")] = None,
    prices: Annotated[Path | None, typer.Option(help="TOML: price per million tokens by model.")] = None,
    cache: Annotated[bool, typer.Option(help="Keep answers for later runs.")] = True,
    cache_file: Annotated[Path | None, typer.Option(help="Keep them here.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Journal of this run; a killed run goes on from it.")] = None,
    on_failure: Annotated[
        str,
        typer.Option(
            help="When calls fail for good: raise, skip (leave the query out) or keep (its first-stage order)."
        ),
    ] = "raise",
    json: JsonOption = False,
) -> None:
    """Rerank the head of a run with a language model, a cross-encoder or a rerank server.

    \b
    Examples:
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run \\
          --model openai:qwen3-8b --base-url http://localhost:8000/v1 --plan jointrank --max-calls 860
      thresher rerank bm25.run --queries q.tsv --corpus corpus.jsonl -o out.run \\
          --model cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2
      thresher rerank bm25.run --replay recorded.windows.jsonl.gz -o out.run
    """
    from thresher.evaluate.trec import read_run
    from thresher.llm.prices import load_prices
    from thresher.rerank.budget import Budget
    from thresher.rerank.reranker import Reranker
    from thresher.rerank.specs import model_name

    if (replay is None) == (not model):
        raise typer.BadParameter("name a --model, or --replay a recording")
    if on_failure not in ("raise", "skip", "keep"):
        raise typer.BadParameter("--on-failure is raise, skip or keep")
    listed = read_run(run, as_listed=True)
    if replay is not None:
        judge, depth = _recorded(replay, parsing or "digits-v1", depth)
        pairs: Sequence[tuple[Query, Sequence[Hit]]] = _without_text(listed)
        plan, cache, on_failure = plan or "sliding", False, "keep"
    else:
        asking = {
            "order": order, "choice": choice, "rating": rating, "prompts": _prompts(prompt or []),
            "parsing": parsing or "brackets-v1", "instruction": instruction, "passage_tokens": passage_tokens,
            "reasoning_tokens": reasoning_tokens,
        }  # fmt: skip
        judge, plan = _judge(
            model, plan, base_url=base_url, key=key_env, timeout=timeout, connections=concurrency, device=device,
            download=download, structured=structured, tokenizer=tokenizer, context=context, asking=asking,
        )  # fmt: skip
        depth = depth or 100
        pairs = _with_text(listed, queries, corpus, index, depth)
    price = None if prices is None else load_prices(prices).get(model_name(model))
    if prices is not None and price is None:
        raise typer.BadParameter(f"{prices} has no price for {model_name(model)}")
    with _opened_cache(cache, cache_file) as opened:
        reranker = Reranker(
            judge,
            plan,
            k=k,
            depth=depth,
            budget=Budget(max_calls, max_tokens, max_cost, max_seconds),
            budget_per_query=Budget(max_calls_per_query),
            concurrency=concurrency,
            price=price,
            cache=opened,
            journal=resume,
            on_failure=on_failure,  # type: ignore[arg-type]
            seed=seed,
            progress=progress_wanted(),
        )
        started = time.perf_counter()
        results = reranker.rank_batch(pairs)
        seconds = time.perf_counter() - started
    _close(judge)
    _report(listed, results, seconds, out, tag, qrels, json)


def _recorded(replay: Path, parsing: str, depth: int | None) -> tuple[Judge, int]:
    from thresher.rerank.replay import RecordedWindows, read_recording

    recording = read_recording(replay)
    return RecordedWindows(recording, parsing), depth or recording.depth


def _without_text(listed: Run) -> list[tuple[Query, Sequence[Hit]]]:
    from thresher.records import Hit, Query

    return [
        (Query(qid, ""), [Hit(row.docno, row.score, rank) for rank, row in enumerate(rows, 1)])
        for qid, rows in listed.rankings.items()
    ]


def _with_text(
    listed: Run, queries: Path | None, corpus: str | None, index: Path | None, depth: int
) -> Sequence[tuple[Query, Sequence[Hit]]]:
    from thresher.evaluate.trec import read_queries
    from thresher.rerank.candidates import candidates, passages_of_corpus, passages_of_index

    if queries is None or (corpus is None) == (index is None):
        raise typer.BadParameter("give --queries, and the passages by --corpus or --index")
    wanted = {row.docno for rows in listed.rankings.values() for row in rows[:depth]}
    passages = passages_of_index(index, wanted) if index is not None else passages_of_corpus(corpus or "", wanted)
    return candidates(listed, read_queries(queries), passages, depth)


def _judge(model: str, plan: str, **options: Any) -> tuple[Judge, str]:
    from thresher.rerank.specs import JudgeOptions, make_judge

    judge, rates_only = make_judge(model, JudgeOptions(**options))
    return judge, plan or ("pointwise" if rates_only else "sliding")


def _prompts(given: Sequence[str]) -> dict[str, Path]:
    prompts = {}
    for entry in given:
        family, separator, file = entry.partition("=")
        if not separator:
            raise typer.BadParameter(f"--prompt {entry}: write FAMILY=FILE")
        prompts[family] = Path(file)
    return prompts


def _opened_cache(wanted: bool, file: Path | None) -> Any:
    from contextlib import nullcontext

    from thresher.llm.cache import ResponseCache

    return ResponseCache(file) if wanted else nullcontext()


def _close(judge: Any) -> None:
    for owner in (judge, getattr(judge, "model", None)):
        close = getattr(owner, "close", None)
        if close is not None:
            close()


def _report(
    listed: Run, results: Sequence[Reranked], seconds: float, out: Path, tag: str, qrels: Path | None, json: bool
) -> None:
    """Write the run, then say what it took."""
    from thresher.evaluate.trec import write_run
    from thresher.ranking import Ranking, Run
    from thresher.rerank.record import Record

    ranked = [result for result in results if result.hits]
    made = Run({r.qid: Ranking.from_hits(r.hits) for r in ranked}, tag)
    write_run(made, out)
    record = Record.total((result.record for result in results), seconds)
    document: dict[str, Any] = {
        "run": str(out),
        "queries": len(results),
        "left_out": [result.qid for result in results if not result.hits],
        "incomplete": sum(not result.complete for result in results),
        "stopped": sorted({result.stopped for result in results} - {""}),
        **({} if qrels is None else _measured(listed, made, qrels)),
        "record": record.as_dict(),
    }
    if json:
        emit_json(document)
        return
    if is_quiet():
        return
    rows = [(name, value) for name, value in document.items() if name not in ("record", "left_out", "stopped")]
    for name, value in record.as_dict().items():
        if name == "repaired":
            rows += [(f"repaired: {kind}", count) for kind, count in value.items()]
        elif name != "queries" and value is not None:
            rows.append((name, value))
    table(["", "value"], [(name.replace("_", " "), value) for name, value in rows], numeric=["value"])
    if document["stopped"]:
        note(f"the budget of {', '.join(document['stopped'])} ran out: the rankings are the best so far")
    if document["left_out"]:
        note(f"{len(document['left_out'])} questions could not be reranked and are not in {out}")


def _measured(before: Run, after: Run, qrels: Path) -> dict[str, float]:
    from thresher.evaluate.measures import evaluate
    from thresher.evaluate.trec import read_qrels, untied

    judgments = read_qrels(qrels)
    return {
        "ndcg_cut_10_before": evaluate(untied(before), judgments, "nDCG@10").mean["nDCG@10"],
        "ndcg_cut_10": evaluate(after, judgments, "nDCG@10").mean["nDCG@10"],
    }
