"""The sections of a report, each from the values it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.certify.wording import brief, sentences
from thresher.evaluate.front import front
from thresher.evaluate.run_table_text import Mean, blocks
from thresher.report.charts import bars, cost_chart
from thresher.report.markup import Markup, data, folded, section, table, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.certify.certificate import Certificate, Stale
    from thresher.evaluate.front import Point
    from thresher.evaluate.run_table import RunTable
    from thresher.evaluate.run_table_text import Block, Cell
    from thresher.report.changes import Moved, Topic

    Texts = Callable[[str], tuple[str, str] | None]
    """A docno to title and text; None where it has none."""

SHOWN = 400
"""Characters of a passage that are shown."""


def compared(made: RunTable) -> Markup:
    """Means, differences, and claims where a margin was given."""
    return section("Runs", *(_block(one) for one in blocks(made)))


def _block(block: Block) -> Markup:
    def shown(cell: Cell) -> object:
        if isinstance(cell, Mean):
            value = tag("span", f"{cell.value:.4f}", class_="best" if cell.best else None)
            return Markup(value + tag("sup", cell.letters)) if cell.letters else value
        return data(cell) if isinstance(cell, str) else cell

    words = [at for at, one in enumerate(block.columns) if one in block.words]
    heads = [one or tag("span", "letter") for one in block.columns]
    rows = [[shown(cell) for cell in row] for row in block.rows]
    made = table(heads, rows, caption=block.caption, words=words)
    return tag("div", made, tag("p", block.note, class_="note"))


def costs(points: Sequence[Point], *, cost: str, effect: str) -> Markup:
    """Effectiveness against cost, drawn and as a table."""
    best = {id(one) for one in front(points)}
    rows = [
        (
            str(number),
            data(one.name),
            f"{one.cost:,.6g}",
            one.effect,
            tag("span", "yes", class_="flags") if id(one) in best else "no",
        )
        for number, one in enumerate(points, 1)
    ]
    return section(
        "Effectiveness against cost",
        cost_chart(points, cost=cost, effect=effect),
        tag("p", "The dashed line joins the points that no other beats in both.", class_="note"),
        table(("number", "configuration", cost, effect, "not beaten"), rows, caption="The points", words=(0, 1, 4)),
    )


def by_topic(
    run: str, baseline: str, measure: str, rows: Sequence[tuple[str, float, float]], queries: Mapping[str, str]
) -> Markup:
    """The differences of every topic, largest loss first: drawn, and as a table."""
    values = [mine - theirs for _, mine, theirs in rows]
    better, worse = sum(one > 0 for one in values), sum(one < 0 for one in values)
    told = f"{better:,} of {len(values):,} topics became better, {worse:,} worse"
    words = [
        (data(qid), data(queries.get(qid, "")), theirs, mine, mine - theirs) for qid, mine, theirs in rows
    ]  # fmt: skip
    heads = ("topic", "query", baseline, run, "difference")
    label = f"{measure}, {run} minus {baseline}, by topic from the largest loss to the largest gain: {told}"
    return tag(
        "div",
        tag("h3", data(f"{run} against {baseline}")),
        bars(values, label),
        tag(
            "p",
            f"{measure} by topic, largest loss first: from {values[0]:+.4f} to {values[-1]:+.4f}. {told}.",
            class_="note",
        ),
        folded(
            f"The {len(rows):,} topics as a table", table(heads, words, caption=f"{measure} by topic", words=(0, 1))
        ),
    )


def topics(
    run: str, baseline: str, found: Sequence[Topic], texts: Texts, queries: Mapping[str, str], depth: int
) -> Markup:
    """Topics that changed most, with the passages that went missing and those that took their place."""
    return tag(
        "div",
        tag("h3", data(f"{run} against {baseline}")),
        *(_topic(one, baseline, run, texts, queries, depth) for one in found),
        class_="side",
    )


def _topic(
    one: Topic, baseline: str, run: str, texts: Texts, queries: Mapping[str, str], depth: int
) -> Markup:  # fmt: skip
    def side(heading: str, passages: Sequence[Moved], other: str) -> Markup:
        empty = tag("p", "None: the same passages, at other ranks.", class_="note")
        return tag(
            "div", tag("h4", heading), *([_passage(p, other, texts) for p in passages] or [empty]), class_="side"
        )

    query = queries.get(one.qid)
    heading = tag("h4", "Topic ", data(one.qid), *((": ", data(query)) if query else ()))
    told = f"{one.baseline:.4f} became {one.system:.4f} ({one.difference:+.4f})"
    gone, new = side(f"Went out of the top {depth}", one.gone, run), side("Took their place", one.new, baseline)
    return tag("article", heading, tag("p", told, class_="note"), tag("div", gone, new, class_="pair"), class_="topic")


def _passage(one: Moved, other: str, texts: Texts) -> Markup:
    found = texts(one.docno)
    judged = "unjudged" if one.grade is None else f"grade {one.grade}"
    kind = "unjudged" if one.grade is None else "relevant" if one.grade > 0 else "other"
    where = f"rank {one.other:,} in {other}" if one.other else f"not in {other}"
    facts = tag(
        "p", tag("span", f"rank {one.rank}"), tag("span", judged, class_="mark"), tag("span", where),
        tag("span", data(one.docno), class_="docno"), class_="facts",
    )  # fmt: skip
    title, body = found or ("", "")
    return tag(
        "div",
        facts,
        tag("p", tag("strong", title), dir="auto") if title else None,
        tag("p", _cut(body), dir="auto", class_="text") if body else None,
        class_=f"passage {kind}",
    )


def _cut(body: str) -> str:
    """The start of a text, and how much more there is."""
    if len(body) <= SHOWN:
        return body
    return f"{body[:SHOWN].rstrip()} … ({len(body) - SHOWN:,} more characters)"


def certificate(made: Certificate, since: Stale | None = None) -> Markup:
    """A certificate: the verdict, what is proven in words, and every claim."""
    first, *others = brief(made)
    rest = [one for one in sentences(made) if one not in (first, *others)]
    rows = [
        (
            data(one.pipeline), data(one.setting), "" if one.fraction is None else f"{one.fraction:.0%}", one.measure,
            one.system, one.baseline, one.difference, one.low, one.high, one.p_adjusted, one.better, one.worse,
            tag("span", "proven", class_="flags") if one.proven else "no",
        )
        for one in made.claims
    ]  # fmt: skip
    heads = (
        "pipeline", "setting", "left out", "measure", "system", "baseline", "difference", "low", "high", "p", "better",
        "worse", "claim",
    )  # fmt: skip
    kind = "proven" if made.certified else "open"
    stale = tag("p", f"{since}.", class_="verdict open") if since is not None and since.stale else None
    made_by = f"Made by thresher {made.made.get('version', '')}, {made.made.get('date', '')}"
    return section(
        "Certificate",
        tag("p", first, class_=f"verdict {kind}"),
        stale,
        tag("ul", *(tag("li", one) for one in (*others, *rest)), class_="words") if others or rest else None,
        table(heads, rows, caption=f"Claims at a margin of {made.margin:g}, p by Holm", words=(0, 1, 3, 12)),
        tag("p", f"{made_by}, from {made.queries}." if made.queries else f"{made_by}.", class_="note"),
    )


def holes(rows: Sequence[Sequence[object]], said: Mapping[str, Sequence[str]]) -> Markup:
    """Unjudged passages: how many, and what the judgments can support, in words.

    Args:
        rows: run, unjudged passages, passages looked at, share.
        said: sentences by the run that they are about.
    """
    words = [
        tag("div", tag("h3", data(name)), tag("ul", *(tag("li", one) for one in found), class_="words"))
        for name, found in said.items()
    ]
    heads = ("run", "unjudged", "of", "share")
    return section("Unjudged passages", table(heads, rows, caption="Unjudged passages in the top ranks"), *words)
