"""`thresher rerank`: rerank a run with a model, under a budget."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import (
    JsonOption,
    emit_json,
    grouped,
    is_quiet,
    note,
    progress_wanted,
    refuse_input_as_output,
    table,
)
from thresher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.llm.budget import Price
    from thresher.llm.cache import ResponseCache
    from thresher.ranking import Run
    from thresher.records import Query
    from thresher.rerank.judges import Judge
    from thresher.rerank.reranker import Reranker

DEPTH = 100


@dataclass(frozen=True)
class Candidates:
    """Where the texts of the run come from."""

    queries: Annotated[Path | None, typer.Option(help="TSV file of queries: qid, tab, text.")] = None
    corpus: Annotated[str | None, typer.Option(help="Passages: a file, folder or ir_datasets:ID.")] = None
    index: Annotated[Path | None, typer.Option(help="Index with the passages, instead of --corpus.")] = None


@dataclass(frozen=True)
class Planning:
    """Which comparisons are made."""

    plan: Annotated[
        str,
        typer.Option(help="Plan, as NAME or NAME:KEY=VALUE,...; by default pointwise or sliding, as the model allows."),
    ] = ""
    k: Annotated[int, typer.Option("-k", min=1, help="Number of top ranks to get right.")] = 10
    depth: Annotated[int | None, typer.Option(min=1, help="Passages reranked per query; default 100.")] = None
    seed: Annotated[int, typer.Option(help="Random seed, used only by plans that shuffle.")] = 0


@dataclass(frozen=True)
class Model:
    """What answers comparisons."""

    model: Annotated[
        str,
        typer.Option(
            help="openai:NAME, transformers:NAME, cross-encoder:NAME, thresher-context, cohere:NAME, jina:NAME, "
            "vllm:NAME, tei: or recorded:FILE."
        ),
    ] = ""
    replay: Annotated[Path | None, typer.Option(help="Recorded windows, instead of --model.")] = None
    base_url: Annotated[str | None, typer.Option(help="Address of the server, with or without /v1.")] = None
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the server's key.")] = None
    key_file: Annotated[Path | None, typer.Option(help="File that holds the server's key.")] = None
    timeout: Annotated[float | None, typer.Option(help="Maximum seconds per request; default 120, or 60.")] = None
    device: Annotated[str, typer.Option(help="Device of a local model: auto, cpu, cuda, ...")] = "auto"
    download: Annotated[bool, typer.Option("--download", help="Download the model if it is not cached.")] = False
    structured: Annotated[
        str | None, typer.Option(help="Constrained output: json-schema, vllm-regex or tgi-regex.")
    ] = None
    tokenizer: Annotated[str | None, typer.Option(help="The model's tokenizer.json, for exact token counts.")] = None
    context: Annotated[int | None, typer.Option(help="Context length of the model in tokens.")] = None
    thinking: Annotated[
        str | None, typer.Option(help="Whether a thinking model thinks: on, off or auto (as the server does).")
    ] = None
    limit_field: Annotated[
        str | None, typer.Option(help="Field of the longest answer: max_tokens or max_completion_tokens.")
    ] = None
    extra_body: Annotated[
        str | None, typer.Option(help="Further fields of every request, as a JSON object.", metavar="JSON")
    ] = None
    passages_per_call: Annotated[
        int | None, typer.Option(min=1, help="Passages in one request to a rerank server; default 100, tei: 32.")
    ] = None

    def options(self) -> dict[str, object]:
        """The options given, by the names that judges know them by."""
        given = {
            "base_url": self.base_url, "key": self.key_file or self.key_env, "timeout": self.timeout,
            "download": self.download or None, "structured": self.structured, "tokens": self.tokenizer,
            "context": self.context, "thinking": self.thinking, "limit_field": self.limit_field,
            "extra": self.extra_body, "passages_per_call": self.passages_per_call,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Prompting:
    """Prompts, and how answers are read."""

    order: Annotated[str | None, typer.Option(help="How to order passages: generate or logits.")] = None
    choice: Annotated[str | None, typer.Option(help="How to choose a passage: logits or generate.")] = None
    rating: Annotated[
        str | None, typer.Option(help="How to rate a passage: yes-no, graded, likelihood, monot5 or text.")
    ] = None
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Prompt template, as FAMILY=FILE or FAMILY=NAME (rankgpt, prp, ...); repeatable."),
    ] = None
    parsing: Annotated[
        str | None, typer.Option(help="Answer parser: brackets-v1 or digits-v1 (the default with --replay).")
    ] = None
    instruction: Annotated[str | None, typer.Option(help="Sentence that says what counts as relevant.")] = None
    passage_tokens: Annotated[int | None, typer.Option(min=1, help="Cut passages to this length; default 400.")] = None
    reasoning_tokens: Annotated[
        int | None, typer.Option(min=0, help="Extra completion tokens allowed for reasoning.")
    ] = None

    def options(self) -> dict[str, object]:
        """The options given, by the names that `ModelJudge` knows them by."""
        given = {
            "order": self.order, "choice": self.choice, "rating": self.rating, "prompts": self._prompts() or None,
            "parsing": self.parsing, "instruction": self.instruction, "passage_tokens": self.passage_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def _prompts(self) -> dict[str, str]:
        prompts = {}
        for entry in self.prompt or ():
            family, separator, file = entry.partition("=")
            if not separator:
                raise typer.BadParameter(f"write FAMILY=FILE, got {entry!r}", param_hint="--prompt")
            prompts[family] = str(Path(file).absolute()) if Path(file).is_file() else file
        return prompts


@dataclass(frozen=True)
class Limits:
    """What may be spent."""

    concurrency: Annotated[int, typer.Option(min=1, help="Maximum concurrent requests.")] = 16
    max_calls: Annotated[int | None, typer.Option(min=0, help="Maximum total requests.")] = None
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Maximum total tokens.")] = None
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Maximum total cost, in the price table's currency.")
    ] = None
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Maximum total seconds.")] = None
    max_calls_per_query: Annotated[int | None, typer.Option(min=0, help="Maximum requests per query.")] = None
    prices: Annotated[Path | None, typer.Option(help="Price table (TOML): price per million tokens by model.")] = None

    def price(self, model: str) -> Price | None:
        """The price of the model, None without a table."""
        if self.prices is None:
            return None
        from thresher.llm.budget import load_prices

        name = model.partition(":")[2]
        table = load_prices(self.prices)
        if name not in table:
            raise typer.BadParameter(f"{self.prices} has no price for {name!r}", param_hint="--prices")
        return table[name]


@dataclass(frozen=True)
class Memory:
    """What is kept, and what failures do."""

    cache: Annotated[bool, typer.Option(help="Keep answers for later runs.")] = True
    cache_file: Annotated[Path | None, typer.Option(help="File of the cache; by default in the cache folder.")] = None
    resume: Annotated[Path | None, typer.Option(help="Journal of this run; a killed run resumes from it.")] = None
    record: Annotated[Path | None, typer.Option(help="Write requests and answers here, for --model recorded:FILE.")] = (
        None
    )
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Send nothing; show how many calls and tokens it would take, and the price."),
    ] = False
    on_failure: Annotated[
        str, typer.Option(help="If calls fail: raise, skip (omit the query) or keep (its first-stage order).")
    ] = "raise"


@dataclass(frozen=True)
class Output:
    """What is written and printed."""

    tag: Annotated[str, typer.Option(help="Name of the new run, its last column.")] = "thresher-rerank"
    qrels: Annotated[Path | None, typer.Option(help="Judgments, to show nDCG@10 before and after.")] = None
    json: JsonOption = False


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
    shown: Output,
) -> None:
    """Rerank a run with a language model, a cross-encoder or a rerank server.

    \b
    Examples:
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run \\
          --model openai:qwen3-8b --base-url http://localhost:8000/v1 --plan jointrank --max-calls 860
      thresher rerank bm25.run --queries q.tsv --corpus corpus.jsonl -o out.run \\
          --model cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2
      thresher rerank bm25.run --queries q.tsv --index my-index -o out.run --model thresher-context
      thresher rerank bm25.run --replay recorded.windows.jsonl.gz -o out.run
    """
    from thresher.evaluate.trec import read_run, write_run
    from thresher.ranking import Run
    from thresher.rerank.reranker import UnfinishedRunError

    if (model.replay is None) == (not model.model):
        raise typer.BadParameter("give --model, or --replay with recorded windows")
    if memory.on_failure not in ("raise", "skip", "keep"):
        raise typer.BadParameter("choose raise, skip or keep", param_hint="--on-failure")
    refuse_input_as_output(output, run, candidates.queries, candidates.corpus, shown.qrels, model.replay)
    listed = read_run(run, as_listed=True)
    with ExitStack() as stack:
        judge, depth = _judge(model, prompting, planning.depth, limits.concurrency)
        judge = _observed(judge, memory)
        reranker = stack.enter_context(_reranker(judge, depth, planning, model, limits, memory, stack))
        if model.replay is None:
            queries = _queries(candidates)
            given = _of_queries(listed, queries)
            ready = _with_texts(given, candidates, depth, stack)
        else:
            queries, given = _no_texts(listed), listed
            ready = listed
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
    made = Run({qid: ranking for qid, ranking in results.items() if len(ranking)}, shown.tag)
    if error is None or made:
        write_run(made, output)
        _report(given, results, made, seconds, output, shown)
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
"""
rerank.__doc__ = f"{rerank.__doc__}{_SERVERS}"


def _judge(model: Model, prompting: Prompting, depth: int | None, concurrency: int) -> tuple[Judge, int]:
    """The judge, and how many passages of each ranking it reranks."""
    if model.replay is not None:
        from thresher.rerank.replay import RecordedWindows, read_recording

        recording = read_recording(model.replay)
        return RecordedWindows(recording, prompting.parsing or "digits-v1"), depth or recording.depth
    from thresher.rerank.judges import judge_from_name

    options = {**model.options(), **prompting.options()}
    return judge_from_name(model.model, device=model.device, concurrency=concurrency, **options), depth or DEPTH


def _observed(judge: Judge, memory: Memory) -> Judge:
    """The judge, recording its model's answers or sending nothing if that is asked for."""
    from thresher.llm.recorded import DryModel, Recorder
    from thresher.rerank.model_judge import ModelJudge

    if memory.record is None and not memory.dry_run:
        return judge
    if not isinstance(judge, ModelJudge):
        if memory.record is not None:
            raise typer.BadParameter("only language models can be recorded", param_hint="--record")
        raise typer.BadParameter("only language models have a price to estimate", param_hint="--dry-run")
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
        "most_calls": sum(reranker.plan.max_calls(n, reranker.k) for n in sizes),
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
    stack: ExitStack,
) -> Reranker:
    from thresher.llm.budget import Budget
    from thresher.rerank.reranker import Reranker

    recorded = model.replay is not None
    cached = memory.cache and not recorded and not memory.dry_run
    return Reranker(
        judge,
        planning.plan or None,
        k=planning.k,
        depth=depth,
        seed=planning.seed,
        budget=Budget(limits.max_calls, limits.max_tokens, limits.max_cost, limits.max_seconds),
        budget_per_query=Budget(limits.max_calls_per_query),
        concurrency=limits.concurrency,
        price=limits.price(model.model),
        cache=_cache(memory.cache_file, stack) if cached else None,
        journal=None if memory.dry_run else memory.resume,
        on_failure="keep" if recorded else memory.on_failure,  # type: ignore[arg-type]  # checked by the command
        progress=progress_wanted(),
    )


def _cache(file: Path | None, stack: ExitStack) -> ResponseCache | None:
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


def _with_texts(listed: Run, candidates: Candidates, depth: int, stack: ExitStack) -> Run:
    """The run with texts from the index, which stays open as long as `stack`, or from the corpus."""
    from thresher.rerank.reranker import texts_of_corpus, with_texts

    if candidates.index is None:
        return with_texts(listed, texts_of_corpus(listed, candidates.corpus or "", depth), depth)
    from thresher.search import Index

    return with_texts(listed, stack.enter_context(Index.open(candidates.index)), depth)


def _report(listed: Run, results: Run, made: Run, seconds: float, output: Path, shown: Output) -> None:
    """Print what was done and what it cost."""
    from thresher.rerank.driver import RerankUsage
    from thresher.rerank.reranker import Reranked

    reranked = [ranking for ranking in results.values() if isinstance(ranking, Reranked)]
    usage = RerankUsage.total((one.usage for one in reranked), seconds).as_dict()
    omitted = [one.qid for one in reranked if not len(one)]
    stopped = sorted({one.stopped for one in reranked} - {""})
    document: dict[str, object] = {
        "run": str(output),
        "queries": len(reranked),
        "omitted": omitted,
        "incomplete": sum(not one.complete for one in reranked),
        "stopped": stopped,
        **({} if shown.qrels is None else _measured(listed, made, shown.qrels)),
        "usage": usage,
    }
    if shown.json:
        emit_json(document)
        return
    if is_quiet():
        return
    rows = [(name, value) for name, value in document.items() if name not in ("usage", "omitted", "stopped")]
    for name, value in usage.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {kind}", count) for kind, count in value.items()]
        elif name != "queries" and value is not None:
            rows.append((name, value))
    table(["", "value"], [(name.replace("_", " "), value) for name, value in rows], numeric=["value"])
    if stopped:
        note(f"the limit on {', '.join(stopped)} was reached: some rankings are incomplete")
    if omitted:
        note(f"{len(omitted)} queries could not be reranked and are not in {output}")


def _measured(before: Run, after: Run, qrels: Path) -> dict[str, float]:
    from thresher.evaluate.measures import evaluate
    from thresher.evaluate.trec import read_qrels, untied

    judgments = read_qrels(qrels)
    return {
        "ndcg_cut_10_before": evaluate(untied(before), judgments, "nDCG@10").mean["nDCG@10"],
        "ndcg_cut_10": evaluate(after, judgments, "nDCG@10").mean["nDCG@10"],
    }
