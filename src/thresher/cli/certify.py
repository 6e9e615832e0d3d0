"""`thresher certify`: whether an index, or a run, is not worse than its baseline by a margin."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from thresher.cli.output import (
    JsonOption,
    counted,
    echo,
    emit_json,
    grouped,
    note,
    progress_wanted,
    refuse_input_as_output,
    say,
    table,
)

if TYPE_CHECKING:
    from thresher.certify.certificate import Certificate
    from thresher.cli.build import Certified
    from thresher.cli.eval import Added
    from thresher.records import Qrels

NOT_SHOWN = 3
"""Exit code where nothing went wrong and the claim is not proven."""
MARGIN = 0.02
_SCORES = (
    "What --fractions goes by: a score store, an estimator or its name. By default the estimator that the baseline was "
    "pruned by, else `embedded`."
)
_SETTING = "Test the index with this changed: blocks=.9, terms=8, threshold=strong, read=5, ...; repeat for several."


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be shown."""

    margin: Annotated[float, typer.Option(help="The smallest loss that would matter. Choose it before looking.")] = (
        MARGIN
    )
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks.")] = "nDCG@10"
    claim: Annotated[
        Literal["non-inferiority", "equivalence"],
        typer.Option(help="non-inferiority: not worse by the margin; equivalence: within it either way."),
    ] = "non-inferiority"
    alpha: Annotated[float, typer.Option(help="Chance of any false claim, over all that is tested.")] = 0.05
    judged: Annotated[
        int, typer.Option(metavar="N", min=0, help="Leave out topics with fewer than N relevant passages.")
    ] = 1


@dataclass(frozen=True, slots=True)
class Tested:
    """What is asked, and how."""

    pipelines: Annotated[
        str, typer.Option(help="Of lexical, sparse, interpolated, reranked, context. By default all that are there.")
    ] = ""
    fractions: Annotated[str, typer.Option(help="Shares of the baseline to leave out, such as .1,.2,.3.")] = ""
    scores: Annotated[str, typer.Option(help=_SCORES)] = ""
    setting: Annotated[list[str] | None, typer.Option(help=_SETTING)] = None
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Results a query. By default what the measures look at.")
    ] = None
    work: Annotated[
        Path | None, typer.Option(help="Folder to keep finished runs in; an interrupted call goes on from there.")
    ] = None
    device: Annotated[str, typer.Option(help="Device for models: auto, cpu, cuda, mps.")] = "auto"


@grouped
def certify(
    terms: Terms,
    tested: Tested,
    index: Annotated[Path | None, typer.Option(help="The index to certify; its certificate is kept in it.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="The unpruned index. By default INDEX: its first tier against both.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="Queries: TSV (qid, tab, text) or JSON lines.")] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="TREC judgments. Without them the baseline's own rankings count: weaker.")
    ] = None,
    filled: Annotated[
        Path | None, typer.Option(help="Judgments by `thresher judge`: shown beside, not certified.")
    ] = None,
    run: Annotated[list[Path] | None, typer.Option(help="A TREC run in place of an index; repeat for several.")] = None,
    baseline_run: Annotated[Path | None, typer.Option(help="With --run: the run to compare with.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Certify INDEX again as its certificate says.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the certificate here, and not into the index.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Test whether an index is not worse than its unpruned baseline by a margin, and keep the certificate in it.

    \b
    Every pipeline is asked on both: the index as it is, its first tier alone where it has two, the baseline without
    the share of passages that score lowest (--fractions; statistics of terms stay those of the whole baseline), and the
    index with a setting changed (--setting). All claims are one family (Holm), so the chance that any is false is
    --alpha. Whatever makes a run can be tested with --run.

    \b
    Exit code 0: certified. 3: not shown, and how many topics would decide it. 1: an error.

    \b
    Examples:
      thresher certify --index pruned --baseline full --queries queries.tsv --qrels qrels.txt --margin .02
      thresher certify --index pruned --baseline full --queries queries.tsv --qrels qrels.txt --fractions .1,.2,.3
      thresher certify --index tiered --queries queries.tsv --qrels qrels.txt --measures "nDCG@10 R@100"
      thresher certify --index full --queries queries.tsv --setting blocks=.9 --setting terms=8
      thresher certify --run pruned.run --baseline-run full.run --qrels qrels.txt --margin .02 -o certificate.json
      thresher certify --index pruned --renew
    """
    _check(index, run, baseline_run, filled, qrels, renew=renew)
    refuse_input_as_output(output, queries, qrels, filled, baseline_run, *(run or ()))
    added = _added(filled, qrels)
    with ExitStack() as stack:
        if added is not None and tested.work is None:  # so that nothing is searched twice
            tested = replace(tested, work=Path(stack.enter_context(TemporaryDirectory())))

        def test(judgments: Path | Qrels | None) -> Certificate:
            if run and baseline_run:
                return _of_runs(run, baseline_run, judgments, terms)
            own = cast("Path", index)
            return _renewed(own, tested) if renew else _of_index(own, baseline, queries, judgments, terms, tested)

        made = test(qrels)
        also = None if added is None else test(added.qrels)
    where = _written(made, index, output)
    _beside(made, added, also, json=json)
    finish(made, where, json=json)


def _check(
    index: Path | None,
    run: list[Path] | None,
    baseline_run: Path | None,
    filled: Path | None,
    qrels: Path | None,
    *,
    renew: bool,
) -> None:
    """Refuse options that do not go together."""
    if run or baseline_run is not None:
        if not run or baseline_run is None or index is not None or renew:
            raise typer.BadParameter("give --run RUN with --baseline-run RUN and no index, or --index INDEX")
    elif index is None:
        raise typer.BadParameter("give --index INDEX, or --run RUN with --baseline-run RUN")
    if filled is not None and (qrels is None or renew):
        raise typer.BadParameter("--filled needs --qrels, and says nothing with --renew")


def _added(filled: Path | None, qrels: Path | None) -> Added | None:
    from thresher.cli.eval import Added
    from thresher.evaluate import read_qrels

    return None if filled is None or qrels is None else Added.of(filled, read_qrels(qrels))


def _beside(made: Certificate, added: Added | None, also: Certificate | None, *, json: bool) -> None:
    """Print a certificate as JSON, and what filled judgments would make of it."""
    if added is None or also is None:
        if json:
            emit_json(made.as_json())
        return
    if json:
        emit_json(made.as_json() | {"filled": added.as_json() | {"certificate": also.as_json()}})
        return
    echo(f"Not part of the certificate, {added}:")
    show(also)
    echo("\nThe certificate, by the judgments of people alone:")


def finish(made: Certificate, where: Path | None = None, *, json: bool = False) -> None:
    """Print a certificate for people, and end with the exit code of its verdict."""
    if not json:
        show(made)
        if where is not None:
            say(f"The certificate is in {where}.")
    if not made.certified:
        raise typer.Exit(NOT_SHOWN)


def certify_built(index: Path, by: Certified, device: str) -> Certificate:
    """Certify a new index by what `thresher build` was told, and keep the certificate in it."""
    tested = Tested(pipelines=by.pipelines, device=device)
    terms = Terms(margin=by.margin, measures=by.measures)
    made = _of_index(index, by.baseline, by.certify, by.qrels, terms, tested)
    made.write(index)
    return made


def _of_runs(runs: list[Path], baseline: Path, qrels: Path | Qrels | None, terms: Terms) -> Certificate:
    from thresher.certify.certifying import certify_runs

    short = [path.name.removesuffix(".gz").removesuffix(".run") for path in runs]
    names = short if len(set(short)) == len(short) else list(map(str, runs))
    return certify_runs(
        dict(zip(names, runs, strict=True)), baseline, qrels, margin=terms.margin, measures=terms.measures,
        claim=terms.claim, alpha=terms.alpha, judged=terms.judged,
    )  # fmt: skip


def _of_index(
    index: Path,
    baseline: Path | None,
    queries: Path | None,
    qrels: Path | Qrels | None,
    terms: Terms,
    tested: Tested,
) -> Certificate:
    from thresher.certify import certify as make

    if queries is None:
        raise typer.BadParameter("give --queries QUERIES, a TSV file of qid and text")
    if baseline is None and not (tested.fractions or tested.setting) and not _is_tiered(index):
        raise typer.BadParameter(f"{index} has no second tier to compare with: name the unpruned index with --baseline")
    return make(
        index, index if baseline is None else baseline, queries, qrels, margin=terms.margin, measures=terms.measures,
        claim=terms.claim, alpha=terms.alpha, judged=terms.judged,
        pipelines=_listed(tested.pipelines) or None, fractions=fractions_of(tested.fractions),
        scores=tested.scores or None, settings=tested.setting or (), k=tested.k, work=tested.work,
        device=tested.device, progress=progress_wanted(),
    )  # fmt: skip


def _is_tiered(index: Path) -> bool:
    from thresher.search.index import Index

    with Index.open(index) as opened:
        return opened.tiered


def _renewed(index: Path, tested: Tested) -> Certificate:
    from thresher.certify.certifying import renew

    return renew(index, work=tested.work, device=tested.device, progress=progress_wanted())


def _listed(text: str) -> list[str]:
    return text.replace(",", " ").split()


def fractions_of(text: str) -> list[float]:
    """Shares, separated by commas or blanks.

    Raises:
        BadParameter: one is not a number.
    """
    try:
        return [float(part) for part in _listed(text)]
    except ValueError as err:
        raise typer.BadParameter(f"--fractions takes numbers such as .1,.2,.3; got {text!r}") from err


def _written(made: Certificate, index: Path | None, output: Path | None) -> Path | None:
    """Where the certificate was written; None for one of runs that was to go nowhere."""
    if output is not None:
        made.save(output)
        return output
    return None if index is None else made.write(index)


def show(made: Certificate) -> None:
    """Print a certificate: every claim, and what it comes to in sentences."""
    from thresher.certify.wording import name_of, sentences

    rows = [
        (
            name_of(one), one.measure, one.baseline, one.difference, one.low, one.high, f"{one.p_adjusted:.3f}",
            one.better, one.worse, "yes" if one.proven else "no",
        )
        for one in made.claims
    ]  # fmt: skip
    numeric = ["baseline", "diff", "low", "high", "p", "+", "-"]
    table(["system", "measure", *numeric, "proven"], rows, numeric=numeric)
    echo(
        f"diff: system minus baseline, with its {1 - made.alpha:.0%} t interval; p at the margin {made.margin:g}, "
        f"corrected for skewness, by Holm over {counted(len(rows), 'claim', 'claims')}; +, -: topics that became "
        "better and worse"
    )
    echo()
    for sentence in sentences(made):
        echo(sentence)


def facts(directory: Path) -> tuple[dict[str, object], list[str]]:
    """What `thresher info` says of an index's certificate: as JSON, and in lines; nothing where there is none.

    A certificate that cannot be read is a note on standard error: the index is as good as before.
    """
    from thresher.certify.certificate import Certificate, staleness
    from thresher.certify.wording import brief
    from thresher.errors import ArtifactError

    with suppress(ArtifactError):
        try:
            made = Certificate.read(directory)
        except ArtifactError as err:
            note(f"the certificate of {directory} cannot be read: {err}")
            raise
        if made is None:
            return {}, []
        since = staleness(directory, made)
        lines = brief(made)
        if since.stale:
            lines.append(f"{since}; renew it with `thresher certify --index {directory} --renew`")
        return {**made.as_json(), "since": since.as_json()}, lines
    return {}, []
