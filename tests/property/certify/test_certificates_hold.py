"""A mask finds what an index without those passages finds, and a certificate of any claims survives being written."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.word_pairs import NAME, WORDS, registered
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.certify.certificate import Certificate, Subject
from thresher.certify.claims import AS_IT_IS, Claim
from thresher.certify.pipelines import runs_of
from thresher.records import Passage, Query
from thresher.search import Index

PASSAGES = [Passage(f"d{i:02}", " ".join(WORDS[(i * k) % 10] for k in range(1, 3 + i % 7))) for i in range(40)]
QUERIES = [Query("1", "grain wind"), Query("2", "mill oat"), Query("3", "absent"), Query("4", "zebra river stone")]
PIPELINES = ["sparse", "reranked", "context"]


@pytest.fixture(scope="module", autouse=True)
def installed():
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory, installed):
    """An index of learned weights alone: no statistics change when passages are deleted."""
    made = tmp_path_factory.mktemp("masks") / "index"
    ask = {"context": "lexical", "rerank": "lexical", "read": 5, "k": 3, "depth": 12}
    build_index(made, PASSAGES, Recipe.model_validate({"encode": {"encoder": NAME}, "ask": ask}))
    return made


def told(run):
    return {qid: list(run[qid].pairs()) for qid in run}


@settings(max_examples=max(settings.default.max_examples // 5, 1))
@given(st.sets(st.integers(0, 39), max_size=39), st.sampled_from([1, 5, 30]))
def test_a_mask_gives_the_runs_of_the_index_without_those_passages(path, gone, k):
    with tempfile.TemporaryDirectory() as folder:
        pruned = Path(folder) / "pruned"
        shutil.copytree(path, pruned)
        with Index.open(pruned) as index, index.writer(merge=False) as writer:
            writer.delete(docnos=[PASSAGES[number].docno for number in gone])
        with Index.open(path) as whole, Index.open(pruned) as left:
            allow = np.ones(len(whole.live), bool)
            allow[whole.numbers([PASSAGES[number].docno for number in gone])] = False
            assert left.live.sum() == allow.sum() == 40 - len(gone)
            masked, fresh = runs_of(whole, QUERIES, PIPELINES, k, allow=allow), runs_of(left, QUERIES, PIPELINES, k)
        for name in PIPELINES:
            assert told(masked[name]) == told(fresh[name]), name


numbers = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | numbers
texts = st.text('aé\u2028"\\\\0', max_size=8)
claims = st.builds(
    Claim, st.sampled_from(["sparse", "context"]), st.sampled_from(["", AS_IT_IS, "blocks=.9"]),
    st.none() | st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from(["nDCG@10", "RBO"]), st.integers(2, 999),
    *[numbers] * 9, st.booleans(), st.none() | st.integers(2, 10**9), numbers, maybe, st.integers(0, 99),
    st.integers(0, 99), maybe, maybe, maybe,
)  # fmt: skip
subjects = st.builds(
    Subject, texts, st.integers(0, 9), texts, st.integers(0, 10**12), texts,
    st.dictionaries(st.sampled_from(["added", "deleted"]), st.integers(0, 9)),
)  # fmt: skip
certificates = st.builds(
    Certificate, kind=st.sampled_from(["judged", "reference"]), margin=numbers, alpha=numbers,
    claim=st.sampled_from(["non-inferiority", "equivalence"]), measures=st.lists(texts, max_size=2).map(tuple),
    queries=texts, n=st.integers(0, 999), system=subjects, baseline=subjects,
    claims=st.lists(claims, max_size=4).map(tuple), holes=st.dictionaries(texts, numbers, max_size=2), note=texts,
    made=st.dictionaries(texts, texts, max_size=2),
    settings=st.dictionaries(texts, texts | st.lists(texts), max_size=2),
)  # fmt: skip


@given(certificates)
def test_a_certificate_is_read_as_it_was_written(made):
    with tempfile.TemporaryDirectory() as folder:
        assert Certificate.read(made.save(Path(folder) / "certificate.json")) == made
    proven = {one.fraction for one in made.claims if one.pipeline == "sparse" and one.proven}
    largest = made.largest("sparse")
    assert largest is None or largest in proven
    if any(one.setting == AS_IT_IS and not one.proven for one in made.claims):
        assert not made.certified
