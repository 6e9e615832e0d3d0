"""`thresher report`: one self-contained HTML page about runs, an experiment, or an index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import grouped, progress_wanted, refuse_input_as_output, say

if TYPE_CHECKING:
    from contextlib import ExitStack

    from thresher.certify.certificate import Certificate
    from thresher.report.runs import Costs
    from thresher.report.sections import Texts


@dataclass(frozen=True, slots=True)
class Compared:
    """How runs are compared."""

    qrels: Annotated[Path | None, typer.Option(help="TREC judgments of the runs.")] = None
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run to compare with. By default the first.")
    ] = None
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks; topics go by the first.")] = "nDCG@10 AP"
    margin: Annotated[float | None, typer.Option(help="The smallest loss that would matter, such as .02.")] = None
    alpha: Annotated[float, typer.Option(help="Chance of any false claim.")] = 0.05
    seed: Annotated[int, typer.Option(help="Random seed of the randomisation test.")] = 0
    topics: Annotated[int, typer.Option(min=0, help="Topics to show for each run, of those that changed most.")] = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown beside."""

    texts: Annotated[Path | None, typer.Option(help="An index or a corpus, for the texts of passages.")] = None
    queries: Annotated[Path | None, typer.Option(help="Queries: TSV (qid, tab, text) or JSON lines.")] = None
    certificate: Annotated[
        Path | None, typer.Option(help="An index or a certificate file: show its certificate beside the runs.")
    ] = None
    costs: Annotated[Path | None, typer.Option(help="A result file or .csv with costs, drawn against effects.")] = None
    cost: Annotated[str, typer.Option(help="With --costs: column of the cost.")] = "ms_p50"
    effect: Annotated[str, typer.Option(help="With --costs: column of the effectiveness.")] = "nDCG@10"
    name: Annotated[list[str] | None, typer.Option(help="With --costs: column that names a row; repeat.")] = None
    scores: Annotated[
        str | None, typer.Option(help="Of an index: score store or estimator for a histogram of quality.")
    ] = None
    title: Annotated[str, typer.Option(help="Heading of the page.")] = ""


@grouped
def report(
    sources: Annotated[list[str], typer.Argument(metavar="RUN...|EXPERIMENT|INDEX", help="What the page is about.")],
    compared: Compared,
    shown: Shown,
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file to write.")],
) -> None:
    """Write one self-contained HTML page: it loads nothing, works offline, and prints.

    \b
    Of runs (with --qrels): means, differences, claims, topics that changed most with the passages that went missing
    and those that took their place, unjudged passages. Of an index: what it holds, its certificate, what was pruned,
    and with --scores how good its passages are. Of an experiment: it is run, and its figures are shown.

    \b
    Examples:
      thresher report full.run pruned.run --qrels qrels.txt --margin .02 --texts my-index -o report.html
      thresher report my-index --scores embedded -o index.html
      thresher report scifact-bm25 -o scifact.html
    """
    from thresher.durable import write_atomic

    refuse_input_as_output(output, compared.qrels, compared.baseline, shown.queries, shown.costs, *sources)
    write_atomic(output, _page(sources, compared, shown))
    say(f"The report is in {output}.")


def _page(sources: list[str], compared: Compared, shown: Shown) -> str:
    if compared.qrels is not None:
        return _of_runs([Path(one) for one in sources], compared, shown)
    if len(sources) > 1:
        raise typer.BadParameter("runs need --qrels QRELS; otherwise give one index or one experiment")
    (source,) = sources
    if Path(source).is_dir():
        from thresher.cli.info import index_facts
        from thresher.report.about_index import index_report

        return index_report(source, index_facts(Path(source)), scores=shown.scores, title=shown.title)
    if Path(source).is_file() and not source.endswith(".toml"):
        raise typer.BadParameter(f"{source} is neither an index nor an experiment (.toml); runs need --qrels QRELS")
    from thresher.experiment import run_experiment
    from thresher.report.about_index import experiment_report

    return experiment_report(run_experiment(source, progress=progress_wanted()), title=shown.title)


def _of_runs(paths: list[Path], compared: Compared, shown: Shown) -> str:
    from contextlib import ExitStack

    from thresher.cli.compare import named
    from thresher.evaluate import read_qrels, read_queries, read_run
    from thresher.report.runs import Beside, no_text, runs_report

    names = named(paths, compared.baseline)
    first = next((name for name, path in names.items() if path == compared.baseline), next(iter(names)))
    if compared.qrels is None or len(names) < 2:
        raise typer.BadParameter("there is one run; give at least two, or --baseline RUN")
    queries = {} if shown.queries is None else {one.qid: one.text for one in read_queries(shown.queries)}
    runs = {name: read_run(path) for name, path in names.items()}
    wanted = {docno for run in runs.values() for ranking in run.values() for docno in ranking.docnos}
    with ExitStack() as stack:
        texts = no_text if shown.texts is None else _texts(shown.texts, wanted, stack)
        return runs_report(
            runs, read_qrels(compared.qrels), compared.measures, baseline=first, margin=compared.margin,
            alpha=compared.alpha, seed=compared.seed, topics=compared.topics, title=shown.title or "Runs compared",
            beside=Beside(texts, queries, _costs(shown), _certificate(shown.certificate)),
        )  # fmt: skip


def _texts(source: Path, wanted: set[str], stack: ExitStack) -> Texts:
    """Texts from an index, or from a corpus, of which only what the runs name is kept."""
    from thresher.errors import InputError
    from thresher.manifest import load_manifest
    from thresher.search.index import Index

    if source.is_dir() and (source / "manifest.json").is_file() and load_manifest(source).kind == "index":
        index = stack.enter_context(Index.open(source))

        def of_index(docno: str) -> tuple[str, str] | None:
            try:
                passage = index.passage(docno)
            except InputError:
                return None
            return passage.title, passage.text

        return of_index
    from thresher import open_corpus

    kept = {one.docno: (one.title, one.text) for one in open_corpus(source) if one.docno in wanted}
    return kept.get


def _certificate(source: Path | None) -> Certificate | None:
    from thresher.certify.certificate import Certificate

    if source is None:
        return None
    found = Certificate.read(source)
    if found is None:
        raise typer.BadParameter(f"there is no certificate in {source}")
    return found


def _costs(shown: Shown) -> Costs | None:
    from thresher.cli.curves import points_of
    from thresher.report.runs import Costs

    if shown.costs is None:
        return None
    points = points_of(shown.costs, shown.cost, shown.effect, shown.name or [], [])
    return Costs(points, shown.cost, shown.effect)
