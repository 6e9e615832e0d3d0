"""What a living index must hold: documents in order of arrival, the effect of writes on them, and what a search shows.

The reference is a fresh index of the surviving documents under the frozen statistics: an index that was emptied, to
which they are added in one commit. `snapshot` reads from an index everything that its users can see, so that two
indexes are equal where their snapshots are.
"""

import json
import random
import shutil
from dataclasses import dataclass, field, replace

import numpy as np

from tests.word_pairs import NAME
from thresher.build.recipe import CorpusSource, EncodeStep, IndexStep, Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.errors import ThresherError
from thresher.prune import PruneStep
from thresher.records import Passage, SparseBatch
from thresher.search import Index

WORDS = [f"w{i}" for i in range(14)]
TERMS = [f"t{i:02}" for i in range(20)]
NAMES = [f"d{i}" for i in range(12)]
BASE = 9
"""Documents of the first build."""
LANGUAGES = ("en", "de", "fr")


def document(docno, seed, few=False):
    """The document of this name; the seed says what it contains. `few` draws its text from few."""
    rng = random.Random(seed)
    metadata = {"lang": rng.choice(LANGUAGES), "year": rng.randint(2018, 2023), "open": rng.random() < 0.5}
    if seed % 3:
        metadata["price"] = rng.choice([0.5, 1.25, 9.0])
        metadata["groups"] = rng.sample(["a", "b", "c"], rng.randint(1, 3))
    if seed % 4 == 1:
        del metadata["lang"]
    if few:
        rng = random.Random(seed % 5)
    words = ["all", *(rng.choice(WORDS) for _ in range(rng.randint(1, 24)))]
    return Passage(docno, " ".join(words), rng.choice(["", "w0 heading", "w3"]), metadata)


def terms_of(passage):
    """Weighted terms of a document, by term id: learned weights, some above those of the first build."""
    rng = random.Random(passage.contents)
    return {t: 0.1 + rng.random() * rng.choice([1, 1, 1, 4]) for t in sorted(rng.sample(range(len(TERMS)), 8))}


def batch_of(passages):
    """`terms_of` each."""
    rows = [terms_of(passage) for passage in passages]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    terms = np.array([t for row in rows for t in row], np.uint32)
    return SparseBatch(indptr, terms, np.array([w for row in rows for w in row.values()], np.float32))


class CountingWords:
    """A dense encoder: how often each word occurs."""

    name = fingerprint = "counting-words"

    def encode_passages(self, texts):
        rows = [[text.split().count(word) for word in WORDS] for text in texts]
        vectors = np.array(rows, np.float32) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode_passages


@dataclass(frozen=True)
class Variant:
    """A kind of index.

    Attributes:
        recipe: how it is built.
        encoded: passages come with weighted terms.
        dense: passages have vectors.
        few: few different texts, so that there are duplicates.
        whole: every document is one passage that the index holds, which lets filters be checked by definition.
    """

    recipe: Recipe
    encoded: bool = False
    dense: bool = False
    few: bool = False
    whole: bool = True

    def options(self):
        """Keyword arguments of `IndexWriter.open`."""
        return {"dense": CountingWords()} if self.dense else {}

    def build(self, path):
        """The first build."""
        documents = [document(name, i, self.few) for i, name in enumerate(NAMES[:BASE])]
        source = {}
        if self.encoded:
            rows = [{TERMS[t]: w for t, w in terms_of(one).items()} for one in documents]
            assert {term for row in rows for term in row} == set(TERMS)  # what a vocabulary lacks cannot be added
            lines = [
                json.dumps({"id": one.docno, "contents": one.text, "vector": row})
                for one, row in zip(documents, rows, strict=True)
            ]
            file = path.with_suffix(".jsonl")
            file.write_text("\n".join(lines))
            source["encoded"] = file
        if self.dense:
            source["dense"] = CountingWords()
        build_index(path, documents, self.recipe, **source)

    def encodings(self, passages):
        """The keyword arguments with which passages are added."""
        return {"encoded": batch_of(passages)} if self.encoded else {}


VARIANTS = {
    "bm25": Variant(Recipe()),
    "bm25, 8 bits": Variant(Recipe(index=IndexStep(bits=8, order="similarity"), encode=EncodeStep(lengths="lucene"))),
    "encoded": Variant(Recipe(), encoded=True),
    "both signals": Variant(Recipe(encode=EncodeStep(encoder=f"bm25+{NAME}", learned_weight=0.7))),
    "vectors": Variant(Recipe(vectors=VectorsStep(storage="int8", sketch=4)), dense=True),
    "pruned": Variant(
        Recipe(prune=PruneStep(estimator="length", keep=0.7, junk=False, similarity=None)), few=True, whole=False
    ),
    "split": Variant(Recipe(corpus=CorpusSource(split_tokens=8)), whole=False),
}


@dataclass
class Change:
    """What a call of the writer reports, in numbers."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    absent: int = 0


class RefusedError(Exception):
    """A call that the writer must refuse, naming the docno."""


FILTERS = {
    "lang = en": lambda m: m.get("lang") == "en",
    "year >= 2021": lambda m: m["year"] >= 2021,
    "not (lang = en)": lambda m: m.get("lang") != "en",
    "lang != en": lambda m: m.get("lang") not in (None, "en"),
    "price < 1 or year = 2019": lambda m: m.get("price", 9) < 1 or m["year"] == 2019,
    "open = true and year > 2019": lambda m: m["open"] and m["year"] > 2019,
}
MAPPINGS = {
    "groups": ({"groups": {"any": ["a", "b"]}}, lambda m: bool({"a", "b"} & set(m.get("groups", ())))),
    "lang": ({"lang": {"in": ["de", "fr"]}}, lambda m: m.get("lang") in ("de", "fr")),
    "both": ({"lang": "en", "year": {"gte": 2020}}, lambda m: m.get("lang") == "en" and m["year"] >= 2020),
    "not": ({"not": {"open": True}}, lambda m: not m["open"]),
}
"""Filters, and what they mean for a document's metadata."""


@dataclass
class Model:
    """The documents of a collection in order of arrival.

    Attributes:
        documents: by docno.
    """

    documents: dict = field(default_factory=dict)

    @classmethod
    def of(cls, variant, path):
        """After the first build, which chose by score which of several duplicates stays: it counts as the first."""
        with Index.open(path) as index:
            order = sorted(range(BASE), key=lambda i: index.representative(NAMES[i]) != NAMES[i])
        return cls({NAMES[i]: document(NAMES[i], i, variant.few) for i in order})

    def pending(self):
        """A writer of this state."""
        return Pending(self)


class Pending:
    """A writer's pending state."""

    def __init__(self, model):
        self.before, self.now, self.touched = model.documents, dict(model.documents), []

    def call(self, kind, given):
        """Do what a call does; what it reports."""
        return getattr(self, kind)(given)

    def add(self, passages):
        for passage in passages:
            if passage.docno in self.now:
                raise RefusedError(passage.docno)
        for passage in passages:
            self._take(passage)
        return Change(added=len(passages))

    def replace(self, passages):
        change = Change()
        for passage in passages:
            old = self.now.get(passage.docno)
            if old == passage and passage.docno not in self.touched:  # what is pending is not compared with
                change.unchanged += 1
                continue
            change.added += old is None
            change.replaced += old is not None
            self._take(passage)
        return change

    def delete(self, docnos):
        there = [name for name in docnos if name in self.now]
        for name in there:
            del self.now[name]
        return Change(deleted=len(there), absent=len(docnos) - len(there))

    def where(self, text):
        return self.delete([name for name, one in self.now.items() if FILTERS[text](one.metadata)])

    def sync(self, passages):
        self.now, self.touched = dict(self.before), []  # what was pending is forgotten
        names = {one.docno for one in passages}
        gone = [name for name in self.now if name not in names]
        change = self.replace(passages)
        return replace(change, deleted=self.delete(gone).deleted)

    def _take(self, passage):
        self.now.pop(passage.docno, None)
        self.now[passage.docno] = passage
        self.touched = [name for name in self.touched if name != passage.docno] + [passage.docno]

    def commit(self):
        """The state after the commit, with new passages in the order in which a segment holds them.

        That order is replaced representatives of others, duplicates that return because theirs went, the rest.
        """
        first = {}
        for one in self.before.values():
            first.setdefault(one.contents, one.docno)
        written = [name for name in self.touched if name in self.now]
        stays = [name for name in self.before if name in self.now and name not in written]
        folded = {self.before[name].contents for name in stays if first[self.before[name].contents] != name}
        heads = [
            name for name in written
            if name in self.before and first[self.before[name].contents] == name
            and self.before[name].contents in folded
        ]  # fmt: skip
        kept = set(stays)
        back = [name for name in stays if first[self.before[name].contents] not in kept]
        order = [name for name in stays if name not in back] + heads + back
        order += [name for name in written if name not in heads]
        return Model({name: self.now[name] for name in order})


def write(writer, variant, kind, given):
    """Call the writer; what it reports."""
    if kind == "delete":
        change = writer.delete(docnos=given)
    elif kind == "where":
        change = writer.delete(where=given)
    else:
        change = getattr(writer, kind)(given, **variant.encodings(given))
    numbers = {name: getattr(change, name) for name in ("added", "replaced", "unchanged")}
    return Change(**numbers, deleted=len(change.deleted), absent=len(change.absent))


def fresh(model, variant, template, place):
    """A fresh index of the model's documents: a copy of the emptied index `template`, to which they are added."""
    shutil.copytree(template, place)
    if model.documents:
        with IndexWriter.open(place, merge=False, **variant.options()) as writer:
            passages = list(model.documents.values())
            writer.add(passages, **variant.encodings(passages))
    return Index.open(place)


def empty(path, variant):
    """Delete everything in the index at `path`."""
    with Index.open(path) as index, IndexWriter.open(path, merge=False, **variant.options()) as writer:
        writer.delete(docnos=sorted(everything(index)))


def everything(index):
    """The docnos that an index knows: its passages and the ones folded into them."""
    held = list(index.docnos_at(live_numbers(index)))
    return {*held, *(alias for aliases in index.aliases(held) for alias in aliases)}


def live_numbers(index):
    parts = index._now.collection.parts
    kept = [np.arange(p.size) + p.start if p.deleted is None else np.flatnonzero(~p.deleted) + p.start for p in parts]
    return np.concatenate([*kept, np.zeros(0, np.int64)]).astype(np.int64)


QUERIES = ("all", "w1 w2", "w3 w3 w7 absent heading", "nothing")
WEIGHTED = ({"t00": 1.0}, {"t03": 0.25, "t07": 2.0, "t19": 1.5, "absent": 3.0}, dict.fromkeys(TERMS, 0.7))
FACETS = ("lang", "year", "open", "price", "groups")


def snapshot(index, variant, names):
    """What users see of an index: rankings with texts, filters, facets, docnos, duplicates, vectors."""
    queries = WEIGHTED if variant.encoded else QUERIES
    seen = {"passages": len(index)}
    for number, query in enumerate(queries):
        for k in (2, 100):
            seen["search", number, k] = ranking(index.search(query, k))
        seen["block-max", number] = ranking(index.search(query, 3, plan="block-max"))
        if not variant.encoded:
            seen["facets", number] = {name: dict(index.facets(name, query)) for name in FACETS}
    batch = index.search_batch(list(queries), 5)
    seen["batch"] = {name: ranking(found) for name, found in batch.items()}
    widest = queries[-1] if variant.encoded else queries[0]
    if not variant.encoded:
        for name, (where, _) in filters().items():
            seen["where", name] = ranking(index.search(widest, 100, where=where))
            seen["restricted", name] = ranking(index.restricted(where).search(queries[1], 3))
    for name in names:
        seen["docno", name] = said(index, name)
    if variant.dense:
        vector = CountingWords().encode_queries(["w1 w2 w3"])[0]
        seen["dense"] = ranking(index.search("x", 100, by="dense", vector=vector))
        seen["dense where"] = ranking(index.search("x", 3, by="dense", vector=vector, where="lang = en"))
    return seen


def filters():
    """All filters by name: what an index takes, and what it means."""
    return {name: (name, test) for name, test in FILTERS.items()} | MAPPINGS


def ranking(found):
    """Everything about a ranking's hits; aliases in any order."""
    hits = [(h.docno, h.score, h.rank, h.text, h.title, dict(h.metadata), sorted(h.aliases)) for h in found]
    return hits, found.exact


def said(index, name):
    """What an index says of a docno."""
    told = [name in index]
    for call in (index.passage, index.representative, lambda one: sorted(index.aliases([one])[0])):
        try:
            told.append(call(name))
        except ThresherError as err:
            told.append(type(err).__name__)
    return told


def by_definition(model, seen):
    """Check filters and facets of a snapshot against the documents themselves; every document is one passage."""
    documents = model.documents.values()
    for name, (_, test) in filters().items():
        hits, _ = seen["where", name]
        assert {hit[0] for hit in hits} == {one.docno for one in documents if test(one.metadata)}, name
    for name in FACETS:
        values = [one.metadata[name] for one in documents if name in one.metadata]
        values = [value for each in values for value in (each if isinstance(each, list) else [each])]
        assert seen["facets", 0][name] == {value: values.count(value) for value in values}, name
    assert seen["passages"] == len(model.documents)
