"""`thresher certify` as a person uses it: verdicts and exit codes, the certificate in `info` and `verify`, renewal."""

import json

import pytest

from tests.unit.certify.conftest import QRELS, QUERIES, passages, recipe
from tests.word_pairs import registered
from thresher.build.stream import build_index
from thresher.evaluate import write_qrels, write_run
from thresher.evaluate.trec import untied
from thresher.search import Index


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certify-cli")
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        build_index(folder / "full", passages(), recipe())
        build_index(folder / "pruned", [one for one in passages() if one.docno not in ("x01", "x09")], recipe())
        with Index.open(folder / "full") as index:
            write_run(untied(index.search_batch(QUERIES, 10)), folder / "full.run")
    (folder / "queries.tsv").write_text("".join(f"{query.qid}\t{query.text}\n" for query in QUERIES))
    write_qrels(QRELS, folder / "qrels.txt")
    return folder


@pytest.fixture
def thresher(place, monkeypatch, capsys):
    """Runs a command line in the folder; its exit code and what it printed."""
    import sys

    from thresher.cli import main

    registered(monkeypatch)
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["thresher", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


JUDGED = ("--queries", "queries.tsv", "--qrels", "qrels.txt")


def test_a_pruned_index_is_certified_shown_and_renewed(thresher, place):
    code, out, _ = thresher(
        "certify", "--index", "pruned", "--baseline", "full", *JUDGED, "--pipelines", "sparse,context"
    )
    assert code == 0
    assert (
        "Certified: pruned (as it is) is not worse by 0.02 or more compared with full, on nDCG@10, over 40 topics"
        in out
    )
    assert out.endswith("The certificate is in pruned/certificate.json.\n")
    assert "Certified: pruned" in thresher("info", "pruned")[1]
    assert "the certificate is of the index as it is" in thresher("verify", "pruned")[1]
    assert thresher("delete", "pruned", "--docno", "x02", "--docno", "x03")[0] == 0
    said = "stale: 1 commit since the certificate, passages 2 deleted"
    assert f"{said}; renew it with `thresher certify --index pruned --renew`" in thresher("info", "pruned")[1]
    assert said in thresher("verify", "pruned")[1]
    since = json.loads(thresher("info", "pruned", "--json")[1])["certificate"]["since"]
    assert since == {"stale": True, "commits": 1, "added": 0, "replaced": 0, "deleted": 2, "other": False}
    assert thresher("certify", "--index", "pruned", "--renew")[0] == 0
    assert "of the index as it is" in thresher("verify", "pruned")[1]


def test_what_is_not_shown_ends_with_3_and_says_what_would_decide_it(thresher, place):
    code, out, _ = thresher(
        "certify", "--index", "full", "--baseline", "full", *JUDGED, "--pipelines", "sparse", "--fractions", ".4,.1",
        "--scores", "random", "--json", "-o", "certificate.json", "--margin", ".01",
    )  # fmt: skip
    document = json.loads(out)
    assert (code, document["certified"], document["margin"]) == (3, False, 0.01)
    assert [one["fraction"] for one in document["claims"]] == [0.1, 0.4]
    assert json.loads((place / "certificate.json").read_text()) == document
    assert not (place / "full" / "certificate.json").exists()


def test_runs_are_certified_without_an_index(thresher):
    code, out, _ = thresher("certify", "--run", "full.run", "--baseline-run", "full.run", "--qrels", "qrels.txt")
    assert code == 0
    assert "The certificate is in" not in out
    code, out, _ = thresher("certify", "--run", "full.run", "--baseline-run", "full.run")
    assert code == 0
    assert "It is weaker than a certificate from judgments" in out


def test_mistakes_are_errors_and_a_damaged_certificate_hides_nothing_else(thresher, place):
    assert thresher("certify")[0] == 2
    assert thresher("certify", "--index", "full")[0] == 2
    assert thresher("certify", "--run", "full.run", "--index", "full")[0] == 2
    assert thresher("certify", "--index", "full", "--queries", "queries.tsv", "--fractions", "a")[0] == 2
    code, _, err = thresher("certify", "--index", "pruned", "--baseline", "full", *JUDGED, "-o", "qrels.txt")
    assert (code, "qrels.txt is read by this command" in err) == (2, True)
    code, _, err = thresher("certify", "--index", "full", "--renew")
    assert (code, "has no certificate to renew" in err) == (1, True)
    code, _, err = thresher("certify", "--index", "full", *JUDGED)
    assert (code, "has no second tier to compare with" in err) == (2, True)
    code, _, err = thresher("certify", "--index", "nowhere", *JUDGED)
    assert (code, "nowhere" in err) == (1, True)
    (place / "full" / "certificate.json").write_text("{")
    code, _, err = thresher("info", "full")
    assert (code, "the certificate of full cannot be read" in err) == (0, True)
    code, _, err = thresher("verify", "full")
    assert (code, "full/certificate.json" in err) == (1, True)
    assert thresher("search", "full", "grain")[0] == 0
    (place / "full" / "certificate.json").unlink()


RECIPE = """
[encode]
encoder = "bm25"
[prune]
estimator = "length"
keep = 0.8
junk = false
fold = false
rest = "{rest}"
[ask]
context = ""
"""


def test_an_index_that_was_its_own_baseline_is_renewed_where_it_was_moved_to(thresher, place):
    thresher("certify", "--index", "full", "--baseline", "full", *JUDGED, "--pipelines", "sparse")
    (place / "full").rename(place / "moved")
    assert thresher("certify", "--index", "moved", "--renew")[0] == 0
    assert json.loads((place / "moved" / "certificate.json").read_text())["baseline"]["path"] == "moved"
    (place / "moved" / "certificate.json").unlink()
    (place / "moved").rename(place / "full")


def test_a_build_is_certified_by_its_first_tier_or_against_a_baseline(thresher, place):
    (place / "tiers.toml").write_text(RECIPE.format(rest="tier-2"))
    (place / "drop.toml").write_text(RECIPE.format(rest="drop"))
    lines = [json.dumps({"docno": one.docno, "text": one.text}) for one in passages()]
    (place / "corpus.jsonl").write_text("\n".join(lines))
    judged = ("--certify", "queries.tsv", "--qrels", "qrels.txt", "--pipelines", "sparse")
    code, out, err = thresher("build", "drop.toml", "--corpus", "corpus.jsonl", "-o", "dropped", *judged)
    assert (code, "there is nothing to compare the index with" in err) == (1, True)
    assert not (place / "dropped").exists(), "it is refused before the build"
    for recipe_file, more in (("tiers.toml", ()), ("drop.toml", ("--baseline", "full"))):
        code, out, _ = thresher(
            "build", recipe_file, "--corpus", "corpus.jsonl", "-o", "built", "--overwrite", *judged, *more
        )
        document = json.loads((place / "built" / "certificate.json").read_text())
        assert code == (0 if document["certified"] else 3)
        assert {one["setting"] for one in document["claims"]} == {"as it is" if more else "first tier"}
        assert "120 passages" in out or "96 passages" in out
    code, _, err = thresher("build", "corpus.jsonl", "-o", "other", "--qrels", "qrels.txt")
    assert (code, "name the queries with --certify" in err) == (1, True)
