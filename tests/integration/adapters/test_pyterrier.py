"""The PyTerrier adapter against pyterrier: its test case, compiled pipelines, experiments and artifacts."""

import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

pytest.importorskip("pyterrier")
import pandas as pd
import pyterrier as pt

from tests.integration.adapters.conftest import PASSAGES, metadata
from thresher import Index, Query, SparseEncoder
from thresher.errors import InputError
from thresher.integrations.pyterrier import (
    PassageEncoder,
    QualityScorer,
    QueryEncoder,
    TextLoader,
    ThresherIndex,
    ThresherPipeline,
    ThresherPruner,
    ThresherReranker,
    ThresherRetriever,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:INFO. TransfomerTestCase Report"),
    pytest.mark.filterwarnings("ignore:You can hide TransfomerTestCase"),
]
TEXTS = {docno: text for docno, _, text, *_ in PASSAGES}
TOPICS = pd.DataFrame([["1", "grain of wheat"], ["2", "why is the sky blue"]], columns=["qid", "query"])
QRELS = pd.DataFrame([["1", "wheat", 1], ["2", "sky", 1]], columns=["qid", "docno", "label"])


@pytest.fixture(scope="module")
def encoder():
    return SparseEncoder.from_name("bm25", texts=list(TEXTS.values()))


KINDS = {
    "retriever": lambda f: ThresherRetriever(f("index")),
    "pipeline": lambda f: ThresherPipeline(f("pipeline")),
    "pipeline-ranking": lambda f: ThresherPipeline(f("pipeline"), ranking=True),
    "texts": lambda f: TextLoader(f("index")),
    "reranker": lambda f: ThresherReranker(f("reranker")),
    "pruner": lambda f: ThresherPruner(f("pruner")),
    "passage-encoder": lambda f: PassageEncoder(f("encoder")),
    "query-encoder": lambda f: QueryEncoder(f("encoder")),
    "quality": lambda f: QualityScorer("length"),
    "index": lambda f: ThresherIndex(f("path")),
}


@pytest.mark.parametrize("check", ["test_inspect_io", "test_schematic"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "index"])
def test_pyterriers_test_case_passes(kind, check, request):
    class Case(pt.testing.TransformerTestCase):
        get_transformer = staticmethod(lambda: KINDS[kind](request.getfixturevalue))

    Case.setUpClass()
    getattr(Case(check), check)()
    assert check == "test_schematic" or Case.io_configs
    Case.tearDownClass()


def test_a_retriever_finds_what_the_index_finds(index):
    found = ThresherRetriever(index, 3).transform(TOPICS.assign(extra=["a", "b"]))
    assert list(found.columns) == ["qid", "query", "extra", "docno", "score", "rank"]
    for qid, query, extra in (("1", "grain of wheat", "a"), ("2", "why is the sky blue", "b")):
        wanted, rows = index.search(query, 3), found[found.qid == qid]
        assert rows.docno.tolist() == wanted.docnos
        assert rows.score.tolist() == wanted.scores.tolist()
        assert rows["rank"].tolist() == list(range(len(wanted)))
        assert set(rows.extra) == {extra}


def test_a_filter_and_weighted_terms_are_searched(index):
    terms = pd.DataFrame([["1", {"grain": 2.0, "mill": 1.0}]], columns=["qid", "query_toks"])
    found = ThresherRetriever(index, where="place = farm").transform(terms)
    wanted = index.search({"grain": 2.0, "mill": 1.0}, 10, where="place = farm")
    assert found.docno.tolist() == wanted.docnos
    assert found.score.tolist() == wanted.scores.tolist()


def test_a_rank_cut_off_is_taken_into_the_search(index, pipeline):
    whole = ThresherRetriever(index, 100, where="place = farm") % 2
    compiled = whole.compile()
    assert isinstance(compiled, ThresherRetriever)
    assert compiled.num_results == 2
    pd.testing.assert_frame_equal(compiled(TOPICS), whole(TOPICS))
    assert (ThresherRetriever(index, 1) % 5).compile().num_results == 1
    ranked = (ThresherPipeline(pipeline, ranking=True) % 2).compile()
    assert isinstance(ranked, ThresherPipeline)
    pd.testing.assert_frame_equal(ranked(TOPICS), (ThresherPipeline(pipeline, ranking=True) % 2)(TOPICS))
    assert not isinstance((ThresherPipeline(pipeline) % 1).compile(), ThresherPipeline)


def test_reranked_and_pruned_rows_keep_their_columns(index, reranker, pruner):
    chain = (
        ThresherRetriever(index, 4) >> TextLoader(index, "*") >> ThresherReranker(reranker) >> ThresherPruner(pruner)
    )
    found = chain(TOPICS)
    first = found[found.qid == "2"].sort_values("rank").iloc[0]
    assert (first.docno, first.text, first.title, first["rank"]) == ("sky", "The sky is blue.", "Sky", 0)
    assert first.original == TEXTS["sky"]
    assert first.spans == [[0, 16]]
    for _, rows in found.groupby("qid"):
        scores = rows.sort_values("rank").score.tolist()
        assert scores == sorted(scores, reverse=True)
        assert sorted(rows["rank"]) == list(range(len(rows)))
    wanted = reranker.rank(Query("2", "why is the sky blue"), index.search("why is the sky blue", 4))
    assert found[found.qid == "2"].sort_values("rank").docno.tolist() == wanted.docnos


def test_pruned_rows_without_text_are_left_out_where_asked(pruner):
    rows = pd.DataFrame(
        [["1", "rain", "a", "Cats sleep.", 0], ["1", "rain", "b", "Rain falls. Dogs bark.", 1]],
        columns=["qid", "query", "docno", "text", "rank"],
    )
    assert ThresherPruner(pruner)(rows).text.tolist() == ["", "Rain falls."]
    found = ThresherPruner(pruner, keep_empty=False)(rows)
    assert found[["docno", "rank"]].values.tolist() == [["b", 0]]
    assert ThresherPruner(pruner)(ThresherPruner(pruner)(rows)).spans.tolist() == [[], [[0, 11]]]


def test_an_experiment_over_a_pipeline_says_what_it_cost(index, pipeline):
    asked = ThresherPipeline(pipeline, ranking=True)
    table = pt.Experiment(
        [ThresherRetriever(index), asked], TOPICS, QRELS, ["recip_rank", "mrt"], names=["search", "ask"]
    )
    assert table.recip_rank.tolist() == [1.0, 1.0]
    assert (table.mrt > 0).all()
    costs = asked.costs(reset=True).set_index("stage")
    assert set(costs.index) == {"search", "select", "answer"}
    assert (costs.queries == len(TOPICS)).all()
    assert (costs.seconds > 0).all()
    assert costs.loc["search", "postings"] > 0
    assert asked.costs().empty


def test_weighted_terms_are_those_of_the_encoder(encoder):
    (found,) = PassageEncoder(encoder)([{"docno": "a", "text": "grain of wheat"}])
    batch = encoder.encode_passages(["grain of wheat"])
    assert found["toks"] == {encoder.vocabulary[t]: w for t, w in zip(batch.terms, batch.weights.tolist(), strict=True)}
    (asked,) = QueryEncoder(encoder)([{"qid": "1", "query": "grain grain"}])
    assert asked["query_toks"] == {"grain": encoder.encode_queries(["grain grain"]).weights.tolist()[0]}


def test_quality_is_the_estimators():
    found = QualityScorer("length")(pd.DataFrame([["a", "one two"], ["b", "one"]], columns=["docno", "text"]))
    assert found.quality.is_monotonic_decreasing
    assert len(set(found.quality)) == 2


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


def test_an_index_is_built_and_loaded_as_an_artifact(tmp_path, monkeypatch):
    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]
    found = pt.utils.entry_points

    def entry_points(group):
        ours = [EntryPoint(name, value, group) for name, value in declared.get(group, {}).items()]
        return [*(one for one in found(group) if "thresher" not in one.value), *ours]

    monkeypatch.setattr(pt.utils, "entry_points", entry_points)
    monkeypatch.setenv("PYTERRIER_HOME", str(tmp_path / "home"))
    made = ThresherIndex(tmp_path / "made", recipe="bm25")
    assert not made.built()
    rows = [{"docno": d, "title": t, "text": x, **metadata(*more)} for d, t, x, *more in PASSAGES]
    made.index(rows)
    assert made.built()
    assert len(made) == len(PASSAGES)
    loaded = pt.Artifact.load(str(tmp_path / "made"))
    assert isinstance(loaded, ThresherIndex)
    assert loaded.retriever(where={"year": {"gte": 2021}}).search("grain").docno.tolist() == ["mill", "winnow"]
    assert pt.text.get_text(loaded, "text")(pd.DataFrame({"docno": ["sky"]})).text.tolist() == [TEXTS["sky"]]
    made.build_package(str(tmp_path / "made.tar.lz4"), verbose=False)
    monkeypatch.setattr(pt.io, "pyterrier_home", lambda: str(tmp_path / "home"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        again = pt.Artifact.from_url(f"http://127.0.0.1:{server.server_port}/made.tar.lz4")
        server.shutdown()
    assert again.retriever().search("grain of wheat").docno.tolist()[0] == "wheat"
    Index.open(again.path)


def test_what_does_not_fit_is_refused(index, tmp_path):
    with pytest.raises(InputError, match="document 0 has no docno or no text; its columns are docno"):
        ThresherIndex(tmp_path / "new", recipe="bm25").index([{"docno": "a"}])
    with pytest.raises(InputError, match="num_results"):
        ThresherRetriever(index, 0)
    with pytest.raises(InputError, match="'text' and 'title'"):
        TextLoader(index, "url")
    with pytest.raises(KeyError, match="query"):
        ThresherRetriever(index)(pd.DataFrame({"qid": ["1"]}))
    with pytest.raises(InputError, match="terms to weights"):
        ThresherRetriever(index)(pd.DataFrame({"qid": ["1"], "query_toks": ["grain"]}))
