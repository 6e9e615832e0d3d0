"""The options of `thresher rerank`, in groups, and what they mean for judges and rerankers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption

if TYPE_CHECKING:
    from thresher.llm.budget import Budget, Price


@dataclass(frozen=True)
class Candidates:
    """Where the texts of the run come from."""

    queries: Annotated[Path | None, typer.Option(help="Queries: TSV (qid, tab, text) or JSON lines.")] = None
    corpus: Annotated[str | None, typer.Option(help="Passages: a file, folder or ir_datasets:ID.")] = None
    index: Annotated[Path | None, typer.Option(help="Index with the passages, instead of --corpus.")] = None


@dataclass(frozen=True)
class Planning:
    """Which comparisons are made."""

    plan: Annotated[
        str,
        typer.Option(
            help="Plan, as NAME or NAME:KEY=VALUE,...; auto; by default pointwise or funnel, as the model allows."
        ),
    ] = ""
    k: Annotated[int, typer.Option("-k", min=1, help="Number of top ranks to get right.")] = 10
    depth: Annotated[int | None, typer.Option(min=1, help="Passages reranked per query; default 100.")] = None
    seed: Annotated[int, typer.Option(help="Random seed, used only by plans that shuffle.")] = 0
    windows: Annotated[
        int, typer.Option(min=0, help="Read only the best windows of long passages: at most this many; 0 reads all.")
    ] = 0
    neighbours: Annotated[
        str | None,
        typer.Option(
            help="Where slidegar finds candidates in --index: by vectors, postings or journal:FILE (a reranked run)."
        ),
    ] = None


@dataclass(frozen=True)
class Server:
    """What rates or compares passages."""

    model: Annotated[
        str,
        typer.Option(
            help="openai:NAME, transformers:NAME, cross-encoder:NAME, thresher-context, cohere:NAME, jina:NAME, "
            "vllm:NAME, tei:, decisions:NAME, systemone:NAME or recorded:FILE."
        ),
    ] = ""
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
    questions_per_call: Annotated[
        int | None,
        typer.Option(min=1, help="Questions in one request to a decision model; default 400, systemone: 64."),
    ] = None
    most_options: Annotated[
        int | None, typer.Option(min=2, help="Maximum options of a choice of a decision model; default 255; vLLM: 26.")
    ] = None
    state_counted: Annotated[
        str | None,
        typer.Option(
            help="Whether a decision model's usage counts the passages once a request, or for each question: once or "
            "each (vLLM)."
        ),
    ] = None

    def options(self) -> dict[str, object]:
        """The options given, by the names that judges know them by."""
        given = {
            "base_url": self.base_url, "key": self.key_file or self.key_env, "timeout": self.timeout,
            "download": self.download or None, "structured": self.structured, "tokens": self.tokenizer,
            "context": self.context, "thinking": self.thinking, "limit_field": self.limit_field,
            "extra": self.extra_body, "passages_per_call": self.passages_per_call,
            "questions_per_call": self.questions_per_call, "most_options": self.most_options,
            "state_counted": self.state_counted,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Model(Server):
    """What answers comparisons."""

    replay: Annotated[Path | None, typer.Option(help="Recorded windows, instead of --model.")] = None


@dataclass(frozen=True)
class Prompting:
    """Prompts, and how answers are read."""

    order: Annotated[str | None, typer.Option(help="How to order passages: generate or logits.")] = None
    choice: Annotated[str | None, typer.Option(help="How to choose a passage: logits or generate.")] = None
    rating: Annotated[
        str | None,
        typer.Option(
            help="How to rate: yes-no, graded, graded-plain, graded-hard, answerable, likelihood, monot5, text, "
            "umbrela, rank1; decision models: predicate or score."
        ),
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
    max_questions: Annotated[
        int | None, typer.Option(min=0, help="Maximum total comparisons asked for; one request may hold many.")
    ] = None
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Maximum total tokens.")] = None
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Maximum total cost, in the price table's currency.")
    ] = None
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Maximum total seconds.")] = None
    max_calls_per_query: Annotated[int | None, typer.Option(min=0, help="Maximum requests per query.")] = None
    prices: Annotated[Path | None, typer.Option(help="Price table (TOML): price per million tokens by model.")] = None

    def budget(self) -> Budget:
        """The limits of the whole run."""
        from thresher.llm.budget import Budget

        return Budget(self.max_calls, self.max_tokens, self.max_cost, self.max_seconds, self.max_questions)

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
class Stored:
    """What is kept between runs."""

    cache: Annotated[bool, typer.Option(help="Keep answers for later runs.")] = True
    cache_file: Annotated[Path | None, typer.Option(help="File of the cache; by default in the cache folder.")] = None
    resume: Annotated[Path | None, typer.Option(help="Journal of this run; a killed run resumes from it.")] = None


@dataclass(frozen=True)
class Memory(Stored):
    """What is kept, and what failures do."""

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
class Scores:
    """What scores mean, and what they must reach."""

    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration of this model and plan (`thresher calibrate scores`); the scores written are then "
            "probabilities."
        ),
    ] = None
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Keep passages that are relevant with at least this probability.")
    ] = None
    precision: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keep as many first passages as have this expected precision; may be none."),
    ] = None

    @property
    def wanted(self) -> bool:
        """Whether the run is written with probabilities."""
        return any(one is not None for one in (self.calibration, self.min_score, self.precision))


@dataclass(frozen=True)
class Output:
    """What is written and printed."""

    tag: Annotated[str, typer.Option(help="Name of the new run, its last column.")] = "thresher-rerank"
    qrels: Annotated[Path | None, typer.Option(help="Judgments, to show nDCG@10 before and after.")] = None
    order_bias: Annotated[
        bool,
        typer.Option(
            "--order-bias", help="Show how much the order shown changes answers, with plans that ask again in another."
        ),
    ] = False
    json: JsonOption = False
