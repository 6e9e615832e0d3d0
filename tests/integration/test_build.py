"""From passages to hits: what the README shows, and what happens when a build goes wrong."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

import thresher
from tests.indexes import files_of
from thresher import artifact
from thresher.build.recipe import IndexStep, Recipe
from thresher.build.stream import build_index
from thresher.corpus import fingerprint_of
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.index.collection import verify

PASSAGES = [
    thresher.Passage("wheat", "Threshing separates the grain of wheat from its chaff.", "Wheat", {"field": "north"}),
    thresher.Passage("barley", "Barley grain is malted, then brewed."),
    thresher.Passage("mill", "A mill grinds grain into flour; grain by grain."),
    thresher.Passage("river", "The river drives the mill."),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "index"
    build_index(path, PASSAGES, "bm25")
    return path


def test_passages_are_found_with_their_text(index):
    result = thresher.Index.open(index).search("what separates grain and chaff?", k=3)
    assert result.exact
    assert result[0].docno == "wheat"
    assert result[0].text == PASSAGES[0].text
    assert result[0].title == "Wheat"
    assert result[0].metadata == {"field": "north"}
    assert [hit.rank for hit in result] == [1, 2, 3]
    assert all(better.score >= worse.score for better, worse in pairwise(result))


@pytest.mark.parametrize("query", ["", "  ", "the of and", "zymurgy", "\N{PILE OF POO}"])
def test_a_query_without_known_terms_has_no_hits(index, query):
    assert list(thresher.Index.open(index).search(query, k=5)) == []


def test_the_manifest_says_what_was_built(index):
    manifest = artifact.verify(index)
    assert manifest.fields["counts"]["passages"] == 4
    assert manifest.fields["corpus"]["skipped"] == {}
    assert len(manifest.fields["corpus"]["fingerprint"]) == 64
    assert [stage["stage"] for stage in manifest.fields["usage"]] == ["read", "encode", "store", "index"]


def test_bm25_has_impacts_of_16_bits_and_learned_weights_of_8_unless_told_otherwise(index, tmp_path):
    (tmp_path / "encoded.jsonl").write_text('{"id": "1", "contents": "grain", "vector": {"grain": 3.5}}\n')
    build_index(tmp_path / "learned", encoded=tmp_path / "encoded.jsonl")
    build_index(tmp_path / "told", PASSAGES, Recipe(index=IndexStep(bits=8)))
    widths = [
        thresher.Index.open(path).layouts[0].counts.bits for path in (index, tmp_path / "learned", tmp_path / "told")
    ]
    assert widths == [16, 8, 8]


def test_the_same_corpus_gives_the_same_files(index, tmp_path):
    build_index(tmp_path / "again", iter(PASSAGES), "bm25")
    assert files_of(index) == files_of(tmp_path / "again")


def test_skipped_records_are_counted_in_the_manifest(tmp_path):
    lines = [json.dumps({"docno": "a", "text": "grain"}), "{broken", json.dumps({"docno": "a", "text": "twice"})]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"corpus\.jsonl:2"):
        build_index(tmp_path / "index", corpus, "bm25")
    assert not (tmp_path / "index").exists()
    report = build_index(tmp_path / "index", corpus, Recipe.model_validate({"corpus": {"on_error": "skip"}}))
    assert report.counts["passages"] == 1
    assert sum(report.skipped.values()) == 2
    assert artifact.read_manifest(tmp_path / "index").fields["corpus"]["skipped"] == report.skipped


def test_an_index_is_not_replaced_unasked(index, tmp_path):
    build_index(tmp_path / "index", PASSAGES, "bm25")
    with pytest.raises(ArtifactError, match="exists already"):
        build_index(tmp_path / "index", PASSAGES, "bm25")
    build_index(tmp_path / "index", PASSAGES[:2], "bm25", overwrite=True)
    assert len(thresher.Index.open(tmp_path / "index")) == 2


def test_any_flipped_byte_is_found_and_any_cut_file_refused(index, tmp_path):
    names = [file.relative_to(index).as_posix() for file in index.rglob("*") if file.is_file() and file.stat().st_size]
    for name in names:
        build = tmp_path / name.replace("/", "-")
        copy(index, build)
        file = build / name
        content = bytearray(file.read_bytes())
        content[-1] ^= 0x40
        file.write_bytes(content)
        with pytest.raises(DamagedArtifactError, match=file.name):
            verify(build)
        file.write_bytes(content[:-1])
        with pytest.raises(DamagedArtifactError, match=file.name):
            thresher.Index.open(build)


def copy(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())


KILLED = """
    import sys, time
    from thresher import artifact
    from thresher.build import stream
    from thresher.index import builder

    def stop(point):
        if point == sys.argv[2]:
            print("here", flush=True)
            time.sleep(60)

    def stopping(owner, name, point):
        original = getattr(owner, name)
        def wrapped(*args, **kwargs):
            stop("before " + point)
            result = original(*args, **kwargs)
            stop("after " + point)
            return result
        setattr(owner, name, wrapped)

    stopping(stream._Build, "read", "reading")
    stopping(builder.IndexBuilder, "add", "adding")
    stopping(builder.IndexBuilder, "finish", "finishing")
    stopping(artifact, "publish", "publishing")
    import thresher
    passages = [thresher.Passage(str(i), f"grain number {i}") for i in range(50)]
    stream.build_index(sys.argv[1], passages, "bm25", overwrite=True)
"""


@pytest.mark.parametrize(
    "point", ["after reading", "before adding", "after adding", "after finishing", "before publishing"]
)
def test_a_killed_build_leaves_the_last_good_index(index, tmp_path, point):
    target = tmp_path / "index"
    copy(index, target)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(target), point], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"here\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    artifact.verify(target)
    assert len(thresher.Index.open(target)) == len(PASSAGES)


class ReadOnce:
    """A corpus that counts how often it is read."""

    name, skipped = "once", {}

    def __init__(self, passages):
        self.passages, self.readings = passages, 0

    def __iter__(self):
        self.readings += 1
        return iter(self.passages)

    def fingerprint(self):
        raise AssertionError("the fingerprint is computed while the corpus is read")


def varied(n):
    words = [f"word{i}" for i in range(50)]
    return [thresher.Passage(f"d{i}", " ".join(words[(i * j) % 50] for j in range(1, 20))) for i in range(n)]


@pytest.mark.parametrize("keys", [{}, {"prune": {"estimator": "embedded", "keep": 0.5, "similarity": None}}])
def test_the_corpus_is_read_once_and_its_fingerprint_is_that_of_the_passages(tmp_path, keys):
    corpus = ReadOnce(varied(30))
    build_index(tmp_path / "index", corpus, Recipe.model_validate(keys))
    assert corpus.readings == 1
    fields = artifact.read_manifest(tmp_path / "index").fields
    assert fields["corpus"]["fingerprint"] == fingerprint_of(corpus.passages)


def test_passages_of_an_iterator_are_checked(tmp_path):
    with pytest.raises(InputError, match="memory:2: docno 'a' occurs twice"):
        build_index(tmp_path / "index", iter([thresher.Passage("a", "x"), thresher.Passage("a", "y")]), "bm25")
    with pytest.raises(InputError, match="neither title nor text"):
        build_index(tmp_path / "index", iter([thresher.Passage("a", " ")]), "bm25")


def test_metadata_of_any_json_type_and_any_string_comes_back(tmp_path):
    metadata = {"n": 3, "half": "\ud800", "list": [1, "x"]}
    build_index(tmp_path / "index", [thresher.Passage("a", "grain", metadata=metadata)], "bm25")
    [hit] = thresher.Index.open(tmp_path / "index").search("grain", k=1)
    assert hit.metadata == metadata


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("pruned", [False, True])
def test_a_named_pipe_and_standard_input_give_the_index_of_the_file(tmp_path, pruned):
    lines = "".join(json.dumps({"docno": p.docno, "text": p.text}) + "\n" for p in varied(40))
    (tmp_path / "corpus.jsonl").write_text(lines)
    keys = {"corpus": {"format": "jsonl"}} | (
        {"prune": {"estimator": "kl", "keep": 0.5, "fold": False}} if pruned else {}
    )
    recipe = Recipe.model_validate(keys)
    build_index(tmp_path / "file", tmp_path / "corpus.jsonl", recipe)
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["cp", str(tmp_path / "corpus.jsonl"), str(tmp_path / "pipe")])
    build_index(tmp_path / "piped", tmp_path / "pipe", recipe)
    assert writer.wait() == 0
    script = f"import sys, thresher; thresher.build_index({str(tmp_path / 'stdin')!r}, '-', sys.argv[1])"
    (tmp_path / "recipe.toml").write_text(
        '[corpus]\nformat = "jsonl"\n' + ('[prune]\nestimator = "kl"\nkeep = 0.5\nfold = false\n' if pruned else "")
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "recipe.toml")], input=lines.encode(), check=True, timeout=120
    )
    whole = files_of(tmp_path / "file")
    for name in ("piped", "stdin"):
        files = files_of(tmp_path / name)
        same = [file for file in whole if not file.endswith("manifest.json") and not file.startswith("pruning/")]
        assert {file: files[file] for file in same} == {file: whole[file] for file in same}


def test_a_pipe_is_not_read_a_second_time(tmp_path, monkeypatch):
    import io

    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b'{"id": "a", "text": "grain"}\n')))
    )
    corpus = thresher.open_corpus("-", format="jsonl")
    assert [passage.docno for passage in corpus] == ["a"]
    with pytest.raises(InputError, match="read only once"):
        list(corpus)
