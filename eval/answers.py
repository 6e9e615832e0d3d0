"""Answers over documentation, for a judge who was not there when the queries were written.

With `--verdicts` writes eval/results/answers.json; without, answers in the work directory, which the judge reads.

`answers.toml` holds two sets of forty queries with what an answer must say; its head tells how they were drawn. Each
corpus gets the recipe that `thresher quickstart` builds with, and each query is asked with the default settings:

    python -m eval answers --docs DIR --set first               # writes WORK/answers-first.json
    python -m eval answers --verdicts first.toml                # writes eval/results/answers.json

The corpus `installed` is that of `thresher quickstart`: the language reference, the standard library and numpy, as they
are on this machine. The corpus `debian` is read from DIR, which holds a folder for each of these packages, unpacked
(`apt-get download NAME; dpkg -x NAME_*.deb DIR/NAME`):

    npm nodejs-doc python3.11-doc cmake-data git-doc postgresql-doc-15 sqlite3-doc     (Debian 12)

Markdown (.md) and reStructuredText (.rst) are read as they are, HTML becomes Markdown without menus and links. The
documents that queries point to and others, in a fixed random order, up to `--documents` in all, are cut into passages
of at most 200 tokens; a manual that is one page of more than a megabyte is left out. An index, and the documents as
JSON lines, are made once and reused while what they are made from is the same; a change of the code that builds them is
not noticed, so use another work directory after one.

The judge reads, for each query, the passages in their order with what is kept of each, and writes a verdict on every
query of a set, in TOML (`[[verdict]]` tables) or JSON (a list under "verdict"): `id`, `verdict`, and `reason`, one
sentence. The verdict is `kept` where the facts are in the text that is kept, `dropped` where they are in a passage
returned but not in what is kept of it, and `not-found` where no passage returned has them.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from eval.bench import Bench, by_hash, key_of, options
from thresher.build.recipe import load_recipe, load_toml
from thresher.corpus import open_corpus
from thresher.durable import write_atomic
from thresher.errors import ConfigError, DataNotFoundError, InputError, require
from thresher.evaluate.results import commit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from eval.bench import Row
    from thresher.corpus import Corpus
    from thresher.pipeline import Answer, Pipeline

QUERIES = Path(__file__).with_suffix(".toml")
SETS = ("first", "second")
RECIPE = "cascade"
"""What `thresher quickstart` builds with."""
INSTALLED = "installed:numpy"
"""The corpus of `thresher quickstart`."""
TOKENS = 200
DOCUMENTS = 1000
"""With these, an index is built in some ten minutes on two cores."""
LARGEST = 1_000_000
"""Bytes of a document; larger ones are copies of a whole manual on one page, and are left out."""

_MENUS = "script, style, nav, svg, .navheader, .navfooter, .headerlink, .mark, .menu, .searchmenu, .nosearch, #toc"
_BODIES = "[role=main], main, #apicontent, body"
_TITLE = re.compile(r"^title: *(.+)$|^# +(.+)$|^(\S.*)\n[-=*]{3,}$", re.MULTILINE)


class Asked(BaseModel):
    """A query, and what its answer must say.

    Attributes:
        id: unique in both sets.
        corpus: which corpus it is asked.
        kind: what is asked for, as `how-to` or `list`.
        query: in the words of a user.
        file: the document that has the answer: its path under DIR, or its docno in the corpus `installed`.
        answer: the facts, for the judge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    corpus: Literal["debian", "installed"]
    kind: str
    query: str
    file: str
    answer: str


class Queries(BaseModel):
    """The two sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: list[Asked]
    second: list[Asked]

    def of(self, name: str) -> list[Asked]:
        """The queries of the set `first` or `second`."""
        return {"first": self.first, "second": self.second}[name]


class Verdict(BaseModel):
    """What the judge says of one query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    verdict: Literal["kept", "dropped", "not-found"]
    reason: str


def load_queries() -> Queries:
    """Both sets of `answers.toml`."""
    return load_toml(QUERIES, Queries, folder="eval")


def document(name: str, raw: bytes) -> tuple[str, str]:
    """The title and the text of a document whose name ends in .md, .rst or .html."""
    if not name.endswith(".html"):
        text = raw.decode("utf-8", errors="replace")
        return _title(text, name), text
    soup = require("bs4", extra="eval", purpose="reading HTML").BeautifulSoup(raw, "html.parser")
    named = soup.title.get_text() if soup.title is not None else ""
    body = next((found for place in _BODIES.split(", ") if (found := soup.select_one(place)) is not None), soup)
    for menu in body.select(_MENUS):
        menu.decompose()
    convert = require("markdownify", extra="eval", purpose="reading HTML").markdownify
    text = convert(
        str(body), heading_style="ATX", strip=["a", "img"], escape_underscores=False, escape_asterisks=False,
        escape_misc=False,
    )  # fmt: skip
    text = re.sub(r"\n\s*\n", "\n\n", text).strip()
    return " ".join(named.split()) or _title(text, name), text


def _title(text: str, name: str) -> str:
    """The title that a text gives itself, else the name of its file."""
    found = _TITLE.search(text[:2000])
    return next(filter(None, found.groups()), "").strip() if found else Path(name).stem


def documents(folder: Path, wanted: Collection[str], most: int) -> Iterator[Row]:
    """The documents under `folder`, as records of JSON lines: those `wanted`, and others up to `most` in all.

    Raises:
        DataNotFoundError: a document that is wanted is not there.
    """
    names = {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.suffix in (".md", ".rst", ".html") and not file.is_symlink() and file.stat().st_size <= LARGEST
    }
    missing = sorted(set(wanted) - names)
    if missing:
        raise DataNotFoundError(f"{folder} does not hold {missing[0]}, and {len(missing) - 1} more that queries need")
    others = by_hash([name for name in names if name not in wanted and " " not in name], str)
    for name in sorted({*wanted, *others[: max(0, most - len(wanted))]}):
        title, text = document(name, (folder / name).read_bytes())
        if text.strip():
            yield {"docno": name, "title": title, "text": text}


def open_debian(bench: Bench, folder: Path, wanted: Collection[str], most: int) -> Corpus:
    """The corpus of documents under `folder`, cut into passages; the documents are kept in the work directory."""
    file = bench.work / f"debian-{key_of(str(folder.resolve()), sorted(wanted), most)}.jsonl"
    if not file.is_file():
        records = documents(folder, wanted, most)
        write_atomic(file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        print(f"read the documents of {folder}", flush=True)
    return open_corpus(file, split_tokens=TOKENS)


def index_of(bench: Bench, name: str, corpus: Corpus) -> Path:
    """The index of a corpus, built if it is not in the work directory."""
    from thresher.build.stream import build_index

    recipe = load_recipe(RECIPE)
    key = key_of(recipe.model_dump(mode="json", exclude={"ask", "recall"}), corpus.fingerprint())
    target = bench.work / f"index-{name}-{key}"
    if not target.is_dir():
        report = build_index(target, corpus, recipe)
        print(f"built {target} of {report.counts['passages']} passages", flush=True)
    return target


def open_pipeline(index: Path) -> Pipeline:
    """The pipeline with the settings that the recipe has today, whenever the index was built."""
    from thresher.pipeline import Pipeline

    return Pipeline.open(index, settings=load_recipe(RECIPE))


def shown(query: Asked, answer: Answer) -> Row:
    """What the judge reads of an answer."""
    return {
        **query.model_dump(),
        "kept_characters": sum(len(one.text) for one in answer.passages),
        "returned_characters": sum(len(one.original) for one in answer.passages),
        "skipped": list(answer.skipped),
        "errors": answer.errors,
        "passages": [
            {"rank": one.rank, "docno": one.docno, "title": one.title, "kept": one.text, "whole": one.original}
            for one in answer.passages
        ],
    }


def ask(bench: Bench, name: str, queries: Iterable[Asked], corpora: Iterator[tuple[str, Corpus]]) -> Path:
    """Ask each corpus its queries, and write the answers for the judge; the file."""
    queries = list(queries)
    answers: dict[str, Row] = {}
    for corpus, passages in corpora:
        pipeline = open_pipeline(index_of(bench, corpus, passages))
        for query in queries:
            if query.corpus == corpus:
                answers[query.id] = shown(query, pipeline.ask(query.query))
        print(f"asked {corpus}", flush=True)
    file = answers_file(bench, name)
    found = [answers[query.id] for query in queries if query.id in answers]
    text = json.dumps({"set": name, "commit": commit(), "answers": found}, indent=1, ensure_ascii=False)
    write_atomic(file, text + "\n")
    return file


def answers_file(bench: Bench, name: str) -> Path:
    """Where the answers to a set lie."""
    return bench.work / f"answers-{name}.json"


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts of a file, .json or TOML.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it does not hold verdicts.
    """
    try:
        text = path.read_text(encoding="utf-8")
        held = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return TypeAdapter(list[Verdict]).validate_python(held["verdict"])
    except FileNotFoundError as err:
        raise DataNotFoundError(f"{path}: no such file") from err
    except (ValidationError, ValueError, KeyError, TypeError) as err:
        raise InputError(f"no verdicts could be read: {err}", str(path)) from err


def judged(bench: Bench, queries: Queries, verdicts: Sequence[Verdict]) -> list[Row]:
    """The rows of the result file: every query of the sets that the verdicts are on.

    Raises:
        InputError: a set is judged in part, a query twice, or one that there is not.
        DataNotFoundError: the answers to a set are not in the work directory.
    """
    said = {verdict.id: verdict for verdict in verdicts}
    twice = [name for name, count in Counter(verdict.id for verdict in verdicts).items() if count > 1]
    if twice:
        raise InputError(f"{len(twice)} queries have two verdicts, the first of them {twice[0]}")
    rows: list[Row] = []
    for name in SETS:
        asked = queries.of(name)
        lacking = [query.id for query in asked if query.id not in said]
        if len(lacking) == len(asked):
            continue
        if lacking:
            raise InputError(
                f"{len(lacking)} queries of the set {name} have no verdict, the first of them {lacking[0]}"
            )
        file = answers_file(bench, name)
        if not file.is_file():
            raise DataNotFoundError(f"{file} does not exist; ask the set {name} with this work directory")
        given = json.loads(file.read_text(encoding="utf-8"))
        answers = {answer["id"]: answer for answer in given["answers"]}
        rows += [
            {
                "set": name, "id": one.id, "corpus": one.corpus, "kind": one.kind, "query": one.query,
                "verdict": said[one.id].verdict, "reason": said[one.id].reason,
                "kept_characters": answers[one.id]["kept_characters"],
                "returned_characters": answers[one.id]["returned_characters"],
                "asked_at": given["commit"],
            }
            for one in asked
        ]  # fmt: skip
    unknown = sorted(said.keys() - {row["id"] for row in rows})
    if unknown or not rows:
        raise InputError(f"no query has the id {unknown[0]}" if unknown else "there are no verdicts")
    return rows


def main(arguments: Sequence[str]) -> None:
    """Ask a set, or write what the judge said of it."""
    parser = options("answers", __doc__)
    parser.add_argument("--set", choices=SETS, default="first", help="which queries to ask")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the unpacked packages")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="maximum documents of DIR (default: 1000)")
    parser.add_argument("--verdicts", type=Path, nargs="+", metavar="FILE", help="write what these verdicts say")
    given = parser.parse_args(arguments)
    bench, queries = Bench.of(given), load_queries()
    if given.verdicts is not None:
        rows = judged(bench, queries, [one for file in given.verdicts for one in read_verdicts(file)])
        counts = Counter((row["set"], row["corpus"], row["verdict"]) for row in rows)
        bench.write(
            "answers", rows, packages=["torch", "transformers", "beautifulsoup4", "markdownify"],
            title="Answers over documentation, judged blind",
            columns=["set", "id", "corpus", "kind", "query", "verdict", "reason", "kept_characters",
                     "returned_characters"],
            note="Queries were committed before the first answer was read. " + "; ".join(
                f"{name}, {corpus}: {count} {verdict}" for (name, corpus, verdict), count in sorted(counts.items())
            ) + ". asked_at in the JSON is the commit that answered.",
        )  # fmt: skip
        return
    if given.docs is None:
        raise ConfigError("--docs is not given; name the folder that holds the unpacked Debian packages")
    wanted = {query.file for name in SETS for query in queries.of(name) if query.corpus == "debian"}

    def corpora() -> Iterator[tuple[str, Corpus]]:
        yield "debian", open_debian(bench, given.docs, wanted, given.documents)
        yield "installed", open_corpus(INSTALLED)

    print(ask(bench, given.set, queries.of(given.set), corpora()))
