"""Any sequence of changes leaves what a model of a few lines says: which passages live, and which stand for others."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.word_pairs import NAME, registered
from thresher.artifact import verify
from thresher.build.recipe import EncodeStep, Recipe
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.index.collection import open_collection
from thresher.prune import PruneStep
from thresher.prune.dropped import decisions_of
from thresher.records import Passage

BOTH = Recipe(encode=EncodeStep(encoder=f"bm25+{NAME}"))
FOLDING = Recipe(prune=PruneStep(estimator="length", junk=False, similarity=None))
TEXTS = ["grain and chaff", "Grain, and chaff!", "a mill grinds", "A MILL grinds", "bread", "yeast raises bread"]
FIRST = [("d0", 0), ("d1", 2), ("d2", 5), ("d3", 4)]
docnos = st.sampled_from([f"d{i}" for i in range(8)])
passages = st.lists(st.tuples(docnos, st.integers(0, 5)), min_size=1, max_size=4, unique_by=lambda one: one[0])
steps = st.one_of(
    st.tuples(st.just("replace"), passages),
    st.tuples(st.just("delete"), st.lists(docnos, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("sync"), passages),
    st.tuples(st.just("merge"), st.none()),
)


def passage(docno, text):
    return Passage(docno, TEXTS[text], metadata={"text": text})


def key(text):
    return "".join(filter(str.isalpha, TEXTS[text])).lower()


class Model:
    """Live passages in the order they came, and the folded ones with their representatives."""

    def __init__(self, folds):
        self.folds, self.live, self.folded = folds, {}, {}
        self.commit([], [(docno, text) for docno, text in FIRST])

    @property
    def texts(self):
        return self.live | {docno: text for docno, (text, _) in self.folded.items()}

    def commit(self, removed, incoming):
        for docno in removed:
            self.live.pop(docno, None)
            self.folded.pop(docno, None)
        stood_for = {rep for _, rep in self.folded.values()}
        back = [(docno, text) for docno, (text, rep) in self.folded.items() if rep in removed]
        for docno, _ in back:
            del self.folded[docno]
        first = [one for one in incoming if one[0] in removed and one[0] in stood_for]
        for docno, text in [*first, *back, *(one for one in incoming if one not in first)]:
            rep = next((d for d, t in self.live.items() if key(t) == key(text)), None) if self.folds else None
            if rep is None:
                self.live[docno] = text
            else:
                self.folded[docno] = text, rep

    def replace(self, given):
        texts = self.texts
        changed = [(docno, text) for docno, text in given if texts.get(docno) != text]
        self.commit({docno for docno, _ in changed if docno in texts}, changed)

    def sync(self, given):
        texts, wanted = self.texts, dict(given)
        changed = [(docno, text) for docno, text in given if texts.get(docno) != text]
        self.commit({d for d in texts if texts[d] != wanted.get(d)}, changed)


def check(path, model):
    collection, found = open_collection(path), {}
    for part in collection.parts:
        dead = part.deleted if part.deleted is not None else np.zeros(part.size, bool)
        found |= {p.docno: p for n in np.flatnonzero(~dead).tolist() for p in [part.layout.passage(n)]}
    assert found == {docno: passage(docno, text) for docno, text in model.live.items()}
    decisions = decisions_of(collection)
    for docno in (f"d{i}" for i in range(8)):
        rep = model.folded.get(docno, (0, ""))[1]
        assert (decisions.representative(docno) if decisions else "") == rep
        aliases = sorted(d for d, (_, r) in model.folded.items() if r == docno)
        assert sorted(decisions.aliases(docno) if decisions else ()) == aliases


@pytest.fixture(scope="module", params=[FOLDING, Recipe(), BOTH], ids=["folding", "plain", "both signals"])
def built(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("living") / "index"
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        build_index(path, [passage(*one) for one in FIRST], request.param)
        yield path, request.param is FOLDING


@settings(max_examples=12)
@given(st.data())
def test_any_sequence_of_changes_leaves_what_the_model_says(built, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("case") / "index"
    shutil.copytree(built[0], path)
    model = Model(built[1])
    check(path, model)
    for kind, what in data.draw(st.lists(steps, min_size=1, max_size=6)):
        before = len(model.texts)
        with IndexWriter.open(path, merge=False) as writer:
            if kind == "merge":
                writer.merge(all=True)
            elif kind == "delete":
                gone = [docno for docno in what if docno in model.texts]
                model.commit(gone, [])
                assert set(writer.delete(docnos=what).deleted) == set(gone)
            else:
                getattr(model, kind)(what)
                change = getattr(writer, kind)([passage(*one) for one in what])
                assert change.added - len(change.deleted) == len(model.texts) - before
        check(path, model)
    verify(path)
