"""The file in the index: written, stale after changes, kept by builds and writers, and harmless where it is damaged."""

import json
import shutil

import pytest

from tests.unit.certify.conftest import QRELS, QUERIES, passages, recipe
from thresher import artifact
from thresher.build.stream import build_index
from thresher.certify import Certificate, certify
from thresher.certify.certificate import LARGEST, certified_since, staleness
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError
from thresher.index.collection import verify
from thresher.records import Passage
from thresher.search import Index


@pytest.fixture(scope="module")
def made(whole):
    return certify(whole, whole, QUERIES, QRELS, margin=0.02, pipelines=["sparse"])


@pytest.fixture
def path(whole, made, tmp_path):
    """A copy of the index with its certificate."""
    shutil.copytree(whole, tmp_path / "index")
    made.write(tmp_path / "index")
    return tmp_path / "index"


def counts(path, made):
    since = staleness(path, made)
    return since.commits, since.added, since.replaced, since.deleted


def test_it_is_read_as_it_was_written_and_belongs_to_the_index(path, made):
    assert Certificate.read(path) == made
    assert not certified_since(path).stale
    verify(path)
    artifact.verify(path)


def test_it_is_stale_after_commits_by_the_passages_that_they_changed(path, made):
    with Index.open(path) as index, index.writer(merge=False) as writer:
        writer.add([Passage("n1", "new grain"), Passage("n2", "new mill")])
        writer.commit()
        assert counts(path, made) == (1, 2, 0, 0)
        writer.delete(docnos=["x00", "x01", "x02"])
        writer.replace([Passage("r05", "other words")])
        writer.commit()
        assert counts(path, made) == (2, 2, 1, 3)
        writer.sync([*passages()[:60], Passage("n3", "flour")])
        writer.commit()
        left = staleness(path, made)
        assert left.commits == 3
        assert (left.added, left.replaced) == (2 + 1 + 3, 1 + 1), "sync brings back three and replaces r05 again"
        assert left.deleted == 3 + 62
        assert str(left) == "stale: 3 commits since the certificate, passages 6 added, 2 replaced, 65 deleted"
        before = counts(path, made)
        writer.merge(all=True)
    assert counts(path, made)[1:] == before[1:], "a merge changes no passage"
    assert Certificate.read(path) == made, "no commit, merge or cleaning removes it"
    assert certified_since(path).changed == 73
    again = certify(path, path, QUERIES, QRELS, margin=0.02, pipelines=["sparse"])
    again.write(path)
    assert not certified_since(path).stale


def test_a_build_over_the_index_keeps_it_and_it_is_then_of_another(path, made):
    build_index(path, passages()[:30], recipe(), overwrite=True)
    assert Certificate.read(path) == made
    assert staleness(path, made).other
    with pytest.raises(ArtifactError, match="is not of this index, or of an earlier build of it"):
        certified_since(path)


def test_an_index_without_one_has_none(whole, made, tmp_path):
    assert Certificate.read(whole) is None
    assert certified_since(whole) is None
    with pytest.raises(ArtifactError):
        made.write(tmp_path)


DAMAGES = {
    "empty": "",
    "cut": '{"format": 1, "kind": "jud',
    "list": "[]",
    "deep": "[" * 100_000,
    "not text": b"\xff\xfe\x00",
    "no format": "{}",
    "strange format": '{"format": "1"}',
}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_an_error_that_names_the_file_and_harms_nothing_else(path, content):
    (path / "certificate.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedArtifactError, match=r"certificate\.json"):
        Certificate.read(path)
    with Index.open(path) as index:
        assert len(index.search("topic1 grain"))
        with index.writer() as writer:
            writer.add([Passage("n1", "new grain")])


def test_each_field_is_checked(made):
    document = json.loads(json.dumps(made.as_json()))
    Certificate.from_json({**document, "unknown": 1})
    (claim,) = document["claims"]
    wrong = {
        "kind": "oracle", "claim": 1, "margin": "wide", "alpha": float("nan"), "measures": "nDCG", "n": 1.5,
        "system": None, "baseline": {"path": "x"}, "claims": {}, "holes": {"a": "b"}, "made": [], "settings": 1,
    }  # fmt: skip
    for name, value in wrong.items():
        for changed in ({**document, name: value}, {k: v for k, v in document.items() if k != name}):
            with pytest.raises(DamagedArtifactError, match="not a certificate"):
                Certificate.from_json(changed)
    for name in claim:
        with pytest.raises(DamagedArtifactError, match=name):
            Certificate.from_json({**document, "claims": [{**claim, name: ["x"]}]})


def test_one_of_a_later_release_and_one_that_is_too_large_are_refused(path, made):
    (path / "certificate.json").write_text(json.dumps({**made.as_json(), "format": 2}))
    with pytest.raises(ArtifactVersionError, match="has format 2, and this release reads 1"):
        Certificate.read(path)
    with (path / "certificate.json").open("wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(DamagedArtifactError, match="bytes are too many"):
        Certificate.read(path)
    (path / "certificate.json").unlink()
    (path / "certificate.json").mkdir()
    with pytest.raises(DamagedArtifactError, match="cannot be read"):
        Certificate.read(path)
