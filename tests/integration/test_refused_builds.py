"""What cannot be built is refused before the work, and the index that was there stays."""

import gzip
from pathlib import Path

import numpy as np
import pytest

import thresher
from thresher import artifact
from thresher.build import stream
from thresher.build.recipe import load_recipe
from thresher.build.stream import build_index
from thresher.cli import main
from thresher.corpus import open_corpus
from thresher.encode import encode_corpus
from thresher.errors import ThresherError
from thresher.prune.decision import Decision, write_decision

PASSAGES = [thresher.Passage(str(n), f"grain number {n} of wheat") for n in range(12)]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    place = tmp_path_factory.mktemp("good")
    (place / "corpus.jsonl").write_text("".join(f'{{"id": "{p.docno}", "text": "{p.text}"}}\n' for p in PASSAGES))
    build_index(place / "index", place / "corpus.jsonl", "bm25")
    return place


@pytest.fixture(autouse=True)
def stays(good):
    before = (good / "index" / "manifest.json").read_bytes()
    names = sorted(p.name for p in good.iterdir())
    yield
    artifact.verify(good / "index")
    assert (good / "index" / "manifest.json").read_bytes() == before
    assert sorted(p.name for p in good.iterdir()) == names


def empty_gzip(place: Path) -> Path:
    (place / "c.jsonl.gz").write_bytes(b"")
    return place / "c.jsonl.gz"


def gzip_of_nothing(place: Path) -> Path:
    (place / "c.jsonl.gz").write_bytes(gzip.compress(b""))
    return place / "c.jsonl.gz"


def blank_lines(place: Path) -> Path:
    (place / "c.jsonl").write_bytes(b"\xef\xbb\xbf\n\r\n\n")
    return place / "c.jsonl"


def only_a_header(place: Path) -> Path:
    (place / "c.csv").write_text("id,text\n")
    return place / "c.csv"


def wrong_folder(place: Path) -> Path:
    (place / "folder").mkdir()
    (place / "folder" / "notes.odt").write_text("x")
    return place / "folder"


def all_skipped(place: Path) -> Path:
    (place / "c.jsonl").write_text('{"id": "1"}\nnot json\n')
    return place / "c.jsonl"


def stop_words(place: Path) -> Path:
    (place / "c.jsonl").write_text('{"id": "1", "text": "the of and"}\n{"id": "2", "text": "... !!"}\n')
    return place / "c.jsonl"


@pytest.mark.parametrize(
    "corpus",
    [empty_gzip, gzip_of_nothing, blank_lines, only_a_header, wrong_folder, all_skipped, stop_words, None],
)
def test_a_corpus_that_holds_nothing_replaces_no_index(good, tmp_path, corpus):
    recipe = thresher.build.Recipe.model_validate({"corpus": {"on_error": "skip"}} if corpus else {})
    source = corpus(tmp_path) if corpus else []
    with pytest.raises(ThresherError, match=r"no passages|no corpus\.jsonl|none of 2 passages has a term") as caught:
        build_index(good / "index", source, recipe, overwrite=True)
    if corpus:
        assert str(source) in str(caught.value)
    if corpus is all_skipped:
        assert "left out were: 1" in str(caught.value)


NAMED = "[{table}]\n{key} = '{value}'\n"


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("corpus", "source", "{place}/missing.jsonl"),
        ("corpus", "format", "docx"),
        ("encode", "source", "{place}/missing"),
        ("encode", "source", "{place}/damaged"),
        ("encode", "source", "{place}/index"),
        ("encode", "encoder", "{place}/missing"),
        ("encode", "query_encoder", "thresher-mini"),
        ("vectors", "source", "{place}/missing"),
        ("vectors", "source", "{place}/index"),
        ("vectors", "source", "{place}/damaged"),
        ("vectors", "encoder", "{place}/missing"),
        ("vectors", "storage", "int4"),
        ("prune", "decision", "{place}/missing"),
        ("prune", "decision", "{place}/damaged"),
        ("prune", "decision", "{place}/index"),
        ("prune", "scores", "{place}/missing"),
        ("prune", "scores", "{place}/damaged"),
        ("prune", "scores", "{place}/index"),
        ("prune", "estimator", "goodness"),
        ("prune", "estimator", "{place}/missing"),
        ("prune", "estimator", "kl+goodness"),
        ("prune", "budget", "2 sacks"),
        ("ask", "first", "dense"),
    ],
)
def test_what_a_recipe_names_is_checked_before_any_passage_is_read(good, tmp_path, monkeypatch, table, key, value):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    value = value.format(place=good if value.endswith("index") else tmp_path)
    (tmp_path / "r.toml").write_text(NAMED.format(table=table, key=key, value=value))
    monkeypatch.setattr(stream.Spool, "fill", lambda *a, **k: pytest.fail("the corpus was read"))
    source = None if key == "source" and table == "corpus" else good / "corpus.jsonl"
    with pytest.raises(ThresherError):
        build_index(good / "index", source, tmp_path / "r.toml", overwrite=True)


@pytest.mark.parametrize(
    "text",
    [
        "[prune]\nfloor = 2",
        "[prune]\nkeep = 0.5\nthreshold = 1.0",
        "[corpus]\nsplit_overlap = 3",
        "[corpus]\nsplit_tokens = 3\nsplit_overlap = 3",
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_any_passage_is_read(good, tmp_path, monkeypatch, text):
    (tmp_path / "r.toml").write_text(text)
    monkeypatch.setattr(stream.Spool, "fill", lambda *a, **k: pytest.fail("the corpus was read"))
    with pytest.raises(ThresherError):
        build_index(good / "index", good / "corpus.jsonl", tmp_path / "r.toml", overwrite=True)


def test_other_artifacts_are_not_made_of_nothing(tmp_path):
    encoder = thresher.encode.bm25.TermCounts(tmp_path / "counts", "english").encoder()
    with pytest.raises(ThresherError, match="no passages"):
        encode_corpus([], encoder, tmp_path / "encoded")
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".encoded")] == ["counts"]


@pytest.mark.parametrize("split", [0, 3])
def test_passages_in_memory_are_split_as_the_recipe_says(good, tmp_path, split):
    recipe = thresher.build.Recipe.model_validate({"corpus": {"split_tokens": split}})
    text = "one two three four. five six. seven eight nine ten eleven."
    passages = [thresher.Passage("d", text), thresher.Passage("e", "short")]
    (tmp_path / "c.jsonl").write_text(f'{{"id": "d", "text": "{text}"}}\n{{"id": "e", "text": "short"}}\n')
    fingerprints = set()
    for n, source in enumerate([passages, iter(passages), tmp_path / "c.jsonl"]):
        build_index(tmp_path / f"{n}", source, recipe)
        fingerprints.add(artifact.read_manifest(tmp_path / f"{n}").fields["corpus"]["fingerprint"])
    assert len(fingerprints) == 1
    with thresher.Index.open(tmp_path / "0") as index:
        assert (len(index) > 2) == bool(split)
        places = [index.passage(docno).metadata for docno in ("d", "e")] if split else []
        assert [place["document"] for place in places] == ["d", "e"][: len(places)]
        assert [place["start"] for place in places] == ["0", "0"][: len(places)]


def test_a_corpus_that_was_opened_unsplit_is_not_taken_for_split(good, tmp_path):
    recipe = thresher.build.Recipe.model_validate({"corpus": {"split_tokens": 3}})
    with pytest.raises(ThresherError, match=r"corpus\.split_tokens.*open_corpus"):
        build_index(tmp_path / "i", open_corpus(good / "corpus.jsonl"), recipe)
    build_index(tmp_path / "i", open_corpus(good / "corpus.jsonl", split_tokens=3), recipe)


@pytest.mark.parametrize(
    "content", [b"[" * 3000, b'{"1": ' * 3000, b"\xff", b"[]", b'{"x": "rule"}', b'{"1": 3', b'{"99": "rule"}', b"NaN"]
)
def test_a_hostile_decision_is_damage(tmp_path, content):
    n = 3
    zeros = np.zeros(n, np.uint8)
    decision = Decision(zeros + 1, zeros, np.arange(n), {})
    write_decision(tmp_path / "d", decision, list("abc"), corpus_fingerprint="", estimator="", policy={})
    with artifact.writing(tmp_path / "e", kind="pruning", format=1) as draft:
        for file in (tmp_path / "d").iterdir():
            (draft.path / file.name).write_bytes(content if file.name == "junk.json" else file.read_bytes())
        (draft.path / "manifest.json").unlink()
        draft.fields["corpus_fingerprint"] = ""
    (tmp_path / "r.toml").write_text(f"[prune]\ndecision = '{tmp_path / 'e'}'")
    with pytest.raises(ThresherError, match=r"junk\.json"):
        load_recipe(tmp_path / "r.toml").check()


@pytest.mark.parametrize(
    "command",
    [
        ["build", "-o", "out"],
        ["prune", "--keep", "0.5", "-o", "out"],
        ["quality", "score", "--estimator", "length", "-o", "out"],
    ],
)
def test_no_command_makes_anything_of_an_empty_corpus(tmp_path, monkeypatch, command):
    (tmp_path / "c.jsonl.gz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["thresher", *command[:1], *command[1:], "c.jsonl.gz"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.jsonl.gz"]


def test_encoded_passages_that_are_read_as_texts_are_said_to_be_so(tmp_path, caplog):
    row = '{"id": "%d", "contents": "some wheat", "vector": {"wheat": 3}}\n'
    (tmp_path / "c.jsonl").write_text("".join(row % n for n in range(5000)))
    build_index(tmp_path / "i", tmp_path / "c.jsonl", "bm25")
    assert caplog.text.count("--encoded") == 1
    caplog.clear()
    build_index(tmp_path / "e", encoded=tmp_path / "c.jsonl")
    assert "--encoded" not in caplog.text
