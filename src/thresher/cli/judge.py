"""`thresher judge`: have a model judge what people did not, marked and apart."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import (
    JsonOption,
    echo,
    emit_json,
    grouped,
    note,
    progress_wanted,
    refuse_input_as_output,
    table,
)
from thresher.cli.rerank import cache_of
from thresher.cli.rerank_options import Candidates, Limits, Server, Stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.records import Passage, Qrels, Query
    from thresher.rerank.grading import Grader, Grades
    from thresher.rerank.judges import Judge


@dataclass(frozen=True)
class Asking:
    """What the judge is asked, and about what."""

    k: Annotated[int, typer.Option("-k", min=1, help="Documents of each ranking that are to be judged.")] = 10
    sample: Annotated[
        int, typer.Option(min=0, help="Judged documents that are judged again, to measure the agreement with people.")
    ] = 200
    seed: Annotated[int, typer.Option(help="Random seed of the sample.")] = 0
    prompt: Annotated[Path | None, typer.Option(help="Prompt template to use instead of `umbrela`.")] = None
    instruction: Annotated[str | None, typer.Option(help="Sentence that says what counts as relevant.")] = None
    passage_tokens: Annotated[int | None, typer.Option(min=1, help="Cut passages to this length; default 400.")] = None
    reasoning_tokens: Annotated[
        int | None, typer.Option(min=0, help="Extra completion tokens allowed for reasoning.")
    ] = None


@grouped
def judge(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="TREC runs whose unjudged documents are judged.")],
    qrels: Annotated[Path, typer.Option(help="TREC judgments by people.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File for the filled judgments.")],
    candidates: Candidates,
    asking: Asking,
    model: Server,
    limits: Limits,
    stored: Stored,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many documents would be judged.")] = False,
    json: JsonOption = False,
) -> None:
    """Have a model judge the unjudged documents in the top of runs.

    \b
    A language model grades from 0 to 3, as UMBRELA does. Scores of a ranker (thresher-context, cross-encoder:NAME, ...)
    become grades by thresholds that are fitted on a sample of the judged documents. The sample also shows how far the
    model agrees with people (Cohen's kappa): look at it before you use the rest.

    \b
    The file is in the format of qrels, with the judge's name in the second column. `eval`, `compare` and `certify` take
    it as --filled, and show every figure without and with it.

    \b
    Examples:
      thresher judge pruned.run full.run --qrels qrels.txt --queries queries.tsv --index full \\
          --model openai:qwen3-8b --base-url http://localhost:8000 --resume judge.journal -o filled.qrels
      thresher judge pruned.run full.run --qrels qrels.txt --queries queries.tsv --index full \\
          --model thresher-context -o filled.qrels
      thresher eval --run pruned.run --run full.run --qrels qrels.txt --filled filled.qrels
    """
    from thresher.evaluate import read_qrels, read_queries, read_run
    from thresher.evaluate.filled import Filled, write_filled
    from thresher.evaluate.holes import find_holes
    from thresher.records import Qrels

    if not model.model:
        raise typer.BadParameter("give --model")
    if candidates.queries is None or (candidates.corpus is None) == (candidates.index is None):
        raise typer.BadParameter("give --queries, and the passages by --corpus or --index")
    refuse_input_as_output(output, qrels, candidates.queries, candidates.corpus, *run)
    judgments = read_qrels(qrels)
    holes = [(hole.qid, hole.docno) for one in run for hole in find_holes(read_run(one), judgments, asking.k).found]
    holes = list(dict.fromkeys(sorted(holes)))
    queries = list(read_queries(candidates.queries))
    if not holes and not dry_run:
        write_filled(Filled("", Qrels({})), output)
    if dry_run or not holes:
        _say_what_is_there(holes, judgments, queries, asking, json=json)
        return
    with ExitStack() as stack:
        made_by = _judge(model, asking, limits.concurrency)
        if (close := getattr(made_by, "close", None)) is not None:
            stack.callback(close)
        passages = _passages(candidates, holes, judgments, asking.k, stack)
        made = _grader(made_by, model, limits, stored, stack).fill(
            holes, queries, passages, judgments, sample=asking.sample, seed=asking.seed
        )
    write_filled(made.filled, output)
    _report(made, output, json=json)


def _judge(model: Server, asking: Asking, concurrency: int) -> Judge:
    from thresher.rerank.judges import judge_from_name

    options = model.options()
    if model.model.partition(":")[0] in ("openai", "transformers", "recorded"):
        own = {
            "prompts": {"umbrela": str(asking.prompt.absolute())} if asking.prompt else None,
            "instruction": asking.instruction,
            "passage_tokens": asking.passage_tokens,
            "reasoning_tokens": asking.reasoning_tokens,
        }
        options |= {"rating": "umbrela"} | {name: value for name, value in own.items() if value is not None}
    return judge_from_name(model.model, device=model.device, concurrency=concurrency, **options)


def _grader(judge: Judge, model: Server, limits: Limits, stored: Stored, stack: ExitStack) -> Grader:
    from thresher.rerank.grading import Grader

    return Grader(
        judge,
        limits.budget(),
        concurrency=limits.concurrency,
        price=limits.price(model.model),
        cache=cache_of(stored.cache_file, stack) if stored.cache else None,
        journal=stored.resume,
        progress=progress_wanted(),
    )


def _passages(
    candidates: Candidates, holes: Sequence[tuple[str, str]], qrels: Qrels, k: int, stack: ExitStack
) -> Mapping[str, Passage]:
    """The passages of the holes, and of the judged documents that are there."""
    wanted = list(dict.fromkeys([*(docno for _, docno in holes), *(d for t in qrels.judgments.values() for d in t)]))
    if candidates.index is not None:
        from thresher.search import Index

        index = stack.enter_context(Index.open(candidates.index))
        there = [docno for docno in wanted if docno in index]
        return dict(zip(there, index.passages(there), strict=True))
    from thresher.corpus import open_corpus

    missing, found = set(wanted), {}
    for passage in open_corpus(candidates.corpus or ""):
        if passage.docno in missing:
            missing.remove(passage.docno)
            found[passage.docno] = passage
    return found


def _say_what_is_there(
    holes: Sequence[tuple[str, str]], qrels: Qrels, queries: Sequence[Query], asking: Asking, *, json: bool
) -> None:
    known = {query.qid for query in queries}
    judged = sum(len(topic) for qid, topic in qrels.judgments.items() if qid in known)
    document = {"unjudged": len(holes), "k": asking.k, "sample": min(asking.sample, judged)}
    if json:
        emit_json(document)
    elif not holes:
        echo(f"Every document in the top {asking.k:,} is judged; there is nothing to fill.")
    else:
        echo(
            f"{len(holes):,} unjudged documents in the top {asking.k:,} would be judged, and a sample of "
            f"{document['sample']:,} judged ones"
        )


def _report(made: Grades, output: Path, *, json: bool) -> None:
    counts = made.counts
    grades: dict[int, int] = {}
    for topic in made.filled.qrels.judgments.values():
        for grade in topic.values():
            grades[grade] = grades.get(grade, 0) + 1
    document = {
        "filled": str(output),
        "judge": made.filled.judge,
        "unjudged": made.asked,
        "judged": len(made.filled),
        "grades": {str(grade): grades[grade] for grade in sorted(grades)},
        "thresholds": {str(grade): least for grade, least in made.thresholds.items()},
        "agreement": None if made.agreement is None else made.agreement.as_json(),
        "stopped": made.stopped,
        "usage": {
            "calls": counts.cost.calls,
            "cache_hits": counts.cache_hits,
            "resumed": counts.resumed,
            "prompt_tokens": counts.cost.prompt_tokens,
            "answer_tokens": counts.cost.answer_tokens,
            "cost": counts.cost.money,
        },
    }
    if json:
        emit_json(document)
    else:
        _show(made, document)
    if made.stopped:
        note(f"the limit on {made.stopped} was reached: run it again with --resume or the cache to go on")


def _show(made: Grades, document: Mapping[str, object]) -> None:
    echo(f"{len(made.filled):,} of {made.asked:,} unjudged documents were judged by {made.filled.judge}")
    if made.agreement is not None:
        none = "-"
        rows = [
            (one.grade, one.people, one.judge, one.both, none if one.kappa is None else f"{one.kappa:.3f}")
            for one in made.agreement.grades
        ]
        table(
            ["grade", "people", "judge", "both", "kappa"], rows, numeric=["grade", "people", "judge", "both", "kappa"]
        )
        kappa = none if made.agreement.kappa is None else f"{made.agreement.kappa:.3f}"
        echo(
            f"agreement with people on {made.agreement.n:,} judged documents: Cohen's kappa {kappa}, the same grade "
            f"for {made.agreement.same:.0%}; kappa of a grade: of at least this grade"
        )
        if made.agreement.weak:
            echo("This agreement is weak: figures with these judgments are a hint at most.")
    echo(f"The filled judgments are in {document['filled']}; use them as --filled.")
