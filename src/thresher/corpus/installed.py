"""The documentation installed with Python: a corpus that every machine has.

Passages are the topics of `pydoc_data` (the language reference as `help()` shows it) and the docstrings of modules,
classes and functions of the standard library and of the installed packages. Source files are parsed (`ast`), never
imported, so that no code of theirs runs. Text is cut at paragraphs into passages of about `TOKENS` tokens; what is
not prose (tables of constants, long code examples, lists of names) is left out by a rule of shares, and so is a text
that came before (a docstring copied from a base class). What is left out is counted.

docno: the dotted name, as `statistics.median`, or `topics.with`; further passages of one text are
`statistics.median#2`. Order: topics, standard library, packages, each by path, so it is the same at every reading.

`known_items` makes queries from such a corpus, which has none. The first sentence of a docstring says what the thing
does. Taken out of its passage and asked as a query, it must find the passage again by the rest of the text and the
title. A sentence that is the first of several passages would have several answers and is not asked. (Known-item topics
made from documents: Azzopardi, de Rijke and Balog, SIGIR 2007; here the query is a whole sentence of the author's, not
a sample of terms.)
"""

from __future__ import annotations

import ast
import os
import random
import re
import sysconfig
import warnings
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.corpus.base import DocnoSet, Fingerprint
from thresher.errors import InputError
from thresher.records import Passage, Qrels, Query
from thresher.text.analyzer import STOP_WORDS
from thresher.text.sentences import introduces, split_sentences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


TOKENS = 120
"""A passage ends at the paragraph with which it reaches this many words."""
MIN_WORDS = 15

_LEFT_OUT = frozenset(
    {"__pycache__", "_vendor", "_vendored", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}
)
_PARAGRAPH = re.compile(r"\n\s*\n")
_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
Named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class InstalledDocumentation:
    """A corpus of the documentation on this machine.

    Args:
        limit: stop after this many passages; 0 takes all. Topics and the standard library come first.
        packages: the installed packages to read, by the names they are imported by; default all. Those that are not
            installed are ignored; an empty collection means the standard library alone.
    """

    name = "installed"

    def __init__(self, *, limit: int = 0, packages: Collection[str] | None = None) -> None:
        self.skipped: Mapping[str, int] = {}
        self._limit = limit
        self._packages = None if packages is None else frozenset(packages)
        self._fingerprint = ""

    def __iter__(self) -> Iterator[Passage]:
        fingerprint = Fingerprint()
        left_out: Counter[str] = Counter()
        for passage in islice(self._passages(left_out), self._limit or None):
            fingerprint.add(passage)
            yield passage
        self.skipped = dict(left_out)
        self._fingerprint = fingerprint.hexdigest()

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order; reads them unless they have been read."""
        if not self._fingerprint:
            for _ in self:
                pass
        return self._fingerprint

    def _passages(self, left_out: Counter[str]) -> Iterator[Passage]:
        docnos = DocnoSet()
        texts: set[bytes] = set()
        for docno, title, text in self.documents(left_out):
            for part in paragraph_passages(docno, title, text):
                if not is_prose(part.text):
                    left_out["not-prose"] += 1
                    continue
                digest = blake2b(" ".join(part.text.split()).encode(), digest_size=16).digest()
                if digest in texts:
                    left_out["repeated-text"] += 1
                elif not docnos.add(part.docno):
                    left_out["repeated-name"] += 1
                else:
                    texts.add(digest)
                    yield part

    def documents(self, left_out: Counter[str]) -> Iterator[tuple[str, str, str]]:
        """(docno, title, text) of every piece of documentation, whole; what cannot be read is counted in `left_out`."""
        paths = sysconfig.get_paths()
        library = Path(paths["stdlib"])
        yield from _topics(library / "pydoc_data" / "topics.py", left_out)
        places = [(library, file) for file in _sources(library, None)]
        for root in sorted({Path(paths["purelib"]), Path(paths["platlib"])}):
            places += ((root, file) for file in _sources(root, self._packages))
        for root, file in places:
            yield from _docstrings(file, root, left_out)


def paragraph_passages(docno: str, title: str, text: str) -> Iterator[Passage]:
    """Cut a text at paragraphs into passages that end where TOKENS words are reached.

    A paragraph that announces the next is not the last, up to twice as many words.
    """
    parts: list[str] = []
    words = number = 0
    for paragraph in (*_PARAGRAPH.split(text.strip()), None):
        if paragraph is not None:
            parts.append(paragraph.rstrip())
            words += len(paragraph.split())
        full = words >= 2 * TOKENS or (words >= TOKENS and not introduces(parts[-1]))
        if parts and (paragraph is None or full):
            number += 1
            yield Passage(docno if number == 1 else f"{docno}#{number}", "\n\n".join(parts), title)
            parts, words = [], 0


def is_prose(text: str) -> bool:
    """Whether a text reads as sentences: enough words, mostly letters, function words among them."""
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS:
        return False
    visible = sum(map(len, text.split()))
    letters = sum(map(len, words))
    stops = sum(word.lower() in STOP_WORDS for word in words)
    return letters >= 0.7 * visible and stops >= 0.15 * len(words)


def _topics(file: Path, left_out: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """The dictionary `topics` of a `pydoc_data.topics` source file; nothing where there is none."""
    module = _parse(file, left_out) if file.is_file() else None
    for statement in module.body if module is not None else ():
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Dict):
            for key, text in sorted(ast.literal_eval(value).items()):
                heading, _, rest = text.strip().partition("\n")
                rest = rest.lstrip("*=-~^\n")
                yield f"topics.{'.'.join(key.split())}", heading.strip(), rest or heading


def _sources(root: Path, packages: frozenset[str] | None) -> Iterator[Path]:
    """The Python files under `root` (of `packages` alone, if given), by path, without tests and vendored copies."""
    for folder, folders, files in os.walk(root):
        chosen = packages if folder == str(root) else None
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and name.isidentifier())
        if chosen is not None:
            folders[:] = [name for name in folders if name in chosen]
        for file in sorted(files):
            stem = file.removesuffix(".py")
            if stem != file and stem.isidentifier() and not stem.startswith("test_"):
                if chosen is None or stem in chosen:
                    yield Path(folder, file)


def _docstrings(file: Path, root: Path, left_out: Counter[str]) -> Iterator[tuple[str, str, str]]:
    module = _parse(file, left_out)
    if module is None:
        return
    names = file.relative_to(root).with_suffix("").parts
    if names[-1] == "__init__":
        names = names[:-1]
    for qualified, node in _named(module, ()):
        text = ast.get_docstring(node)
        if text:
            dotted = ".".join((*names, *qualified))
            title = f"{'.'.join(qualified)} ({'.'.join(names)})" if qualified else f"{dotted} (module)"
            yield dotted, title, text.encode(errors="replace").decode()


def _named(node: Named, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Named]]:
    """A module and its public classes and functions, at any depth of classes, in the order of the source."""
    yield prefix, node
    if not isinstance(node, ast.Module | ast.ClassDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _named(child, (*prefix, child.name))


def _parse(file: Path, left_out: Counter[str]) -> ast.Module | None:
    """The syntax tree of a source file; None where it cannot be read or is not Python of this version."""
    try:
        source = file.read_bytes()
        if b'"""' not in source and b"'''" not in source and b"topics = {" not in source:
            return None  # no docstring to speak of
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # strangers' invalid escapes are not our warnings
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        left_out["unreadable-file"] += 1
        return None


MIN_SENTENCE, MAX_SENTENCE = 5, 40
MIN_REST = 20
"""Words that a query has, and that its passage must keep."""
_HEAD = 600  # characters in which a first sentence must end


@dataclass(frozen=True, slots=True)
class KnownItems:
    """A test collection for known-item search.

    Attributes:
        passages: all passages in their order, those asked for without their first sentence.
        queries: the sentences.
        qrels: for each query the one passage it came from, with grade 1.
    """

    passages: tuple[Passage, ...]
    queries: tuple[Query, ...]
    qrels: Qrels


def known_items(passages: Iterable[Passage], *, sample: int = 500, seed: int = 0) -> KnownItems:
    """Draw passages and ask for each by its own first sentence.

    Args:
        passages: the corpus; held in memory.
        sample: how many to ask for; fewer where fewer are fit for it.
        seed: of the draw; the same corpus and seed give the same queries.

    Raises:
        InputError: no passage is fit.
    """
    corpus = tuple(passages)
    firsts = {number: found for number, passage in enumerate(corpus) if (found := _first_sentence(passage))}
    uses = Counter(_key(sentence) for sentence, _ in firsts.values())
    fit = [
        number
        for number, (sentence, rest) in firsts.items()
        if MIN_SENTENCE <= len(sentence.split()) <= MAX_SENTENCE
        and len(rest.split()) >= MIN_REST
        and uses[_key(sentence)] == 1
    ]
    if not fit:
        raise InputError("no passage begins with a sentence that could be asked; known-item search needs running text")
    drawn = sorted(random.Random(seed).sample(fit, min(sample, len(fit))))  # noqa: S311  (a sample, not a secret)
    chosen = {number: f"k{at}" for at, number in enumerate(drawn, 1)}
    return KnownItems(
        tuple(_without_first(passage, firsts[n][1]) if n in chosen else passage for n, passage in enumerate(corpus)),
        tuple(Query(qid, " ".join(firsts[number][0].split())) for number, qid in chosen.items()),
        Qrels({qid: {corpus[number].docno: 1} for number, qid in chosen.items()}),
    )


def _first_sentence(passage: Passage) -> tuple[str, str] | None:
    """The first sentence of a text's first passage, and what remains."""
    if passage.docno.startswith("topics.") or "#" in passage.docno:
        return None
    head = passage.text[:_HEAD].partition("\n\n")[0]
    spans = split_sentences(head)
    if not spans or spans[0].end == _HEAD:
        return None
    return head[spans[0].start : spans[0].end], passage.text[spans[0].end :].lstrip()


def _without_first(passage: Passage, rest: str) -> Passage:
    return Passage(passage.docno, rest, passage.title, passage.metadata)


def _key(sentence: str) -> str:
    return " ".join(sentence.lower().split())
