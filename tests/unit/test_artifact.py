"""An artifact is whole or not there, and damage is named."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from thresher import artifact
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError


def write(target: Path, content: bytes = b"postings", **options) -> None:
    with artifact.writing(target, kind="index", format=3, **options) as draft:
        (draft.path / "postings.bin").write_bytes(content)
        (draft.path / "encoder").mkdir()
        (draft.path / "encoder" / "terms.txt").write_text("wheat\n")
        draft.fields["counts"] = {"passages": 2}


def siblings(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if p != target)


def test_what_is_written_is_read_back(tmp_path):
    write(tmp_path / "a")
    manifest = artifact.verify(tmp_path / "a")
    assert manifest.kind == "index"
    assert manifest.format == 3
    assert manifest.fields == {"counts": {"passages": 2}}
    assert set(manifest.files) == {"postings.bin", "encoder/terms.txt"}
    assert siblings(tmp_path / "a") == []


def test_a_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), artifact.writing(tmp_path / "a", kind="index", format=1) as draft:
        (draft.path / "half").write_bytes(b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failing_rewrite_leaves_the_last_good_one(tmp_path):
    write(tmp_path / "a", b"good")
    with pytest.raises(RuntimeError), artifact.writing(tmp_path / "a", kind="index", format=3, overwrite=True) as draft:
        (draft.path / "postings.bin").write_bytes(b"bad")
        raise RuntimeError
    artifact.verify(tmp_path / "a")
    assert (tmp_path / "a" / "postings.bin").read_bytes() == b"good"


def test_nothing_is_replaced_unasked_or_of_another_kind(tmp_path):
    write(tmp_path / "a", b"first")
    with pytest.raises(ArtifactError, match="exists already"):
        write(tmp_path / "a", b"second")
    with (
        pytest.raises(ArtifactError, match="not replaced by 'scores'"),
        artifact.writing(tmp_path / "a", kind="scores", format=1, overwrite=True),
    ):
        pass
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="not an artifact"):
        write(tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").exists()
    write(tmp_path / "a", b"second", overwrite=True)
    assert (tmp_path / "a" / "postings.bin").read_bytes() == b"second"


def test_replacing_works_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "_exchange", lambda a, b: False)
    write(tmp_path / "a", b"first")
    write(tmp_path / "a", b"second", overwrite=True)
    assert (tmp_path / "a" / "postings.bin").read_bytes() == b"second"
    assert siblings(tmp_path / "a") == []


def test_a_replacement_killed_half_way_says_where_the_last_good_one_is(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / ".a.previous")
    with pytest.raises(ArtifactError, match=r"last good one is .*\.a\.previous"):
        artifact.read_manifest(tmp_path / "a")


@pytest.mark.parametrize("name", ["postings.bin", "encoder/terms.txt", "manifest.json"])
def test_a_flipped_byte_is_reported_with_the_files_name(tmp_path, name):
    write(tmp_path / "a")
    file = tmp_path / "a" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedArtifactError) as caught:
        artifact.verify(tmp_path / "a")
    assert caught.value.file == str(file)


def test_truncated_and_missing_files_are_refused_on_opening(tmp_path):
    write(tmp_path / "a")
    file = tmp_path / "a" / "postings.bin"
    file.write_bytes(b"post")
    with pytest.raises(DamagedArtifactError, match="4 bytes where 8 were written"):
        artifact.read_manifest(tmp_path / "a")
    file.unlink()
    with pytest.raises(DamagedArtifactError, match="missing"):
        artifact.read_manifest(tmp_path / "a")


def test_newer_formats_and_other_kinds_are_refused_by_name(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(ArtifactVersionError, match=r"format 3.*reads formats up to 2"):
        artifact.read_manifest(tmp_path / "a", format=2)
    with pytest.raises(ArtifactError, match="'index' artifact, not 'scores'"):
        artifact.read_manifest(tmp_path / "a", kind="scores")
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        artifact.read_manifest(tmp_path)


def test_a_manifest_cannot_point_outside(tmp_path):
    write(tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"
    document = json.loads(file.read_bytes())
    document.pop("manifest_sha256")
    document["files"]["../secret"] = {"bytes": 1, "sha256": ""}
    document["manifest_sha256"] = artifact._document_sha256(document)
    file.write_text(json.dumps(document))
    with pytest.raises(DamagedArtifactError, match="leaves the directory"):
        artifact.read_manifest(tmp_path / "a")


WRITER = """
    import sys, time
    from pathlib import Path
    from thresher import artifact

    def stop(point):
        if point == sys.argv[2]:
            print("here", flush=True)
            time.sleep(60)

    seal, publish = artifact._seal, artifact._publish
    artifact._seal = lambda *a: (stop("before sealing"), seal(*a), stop("after sealing"))
    artifact._publish = lambda *a: (stop("before publishing"), publish(*a))
    with artifact.writing(sys.argv[1], kind="index", format=3, overwrite=True) as draft:
        (draft.path / "postings.bin").write_bytes(b"new")
        stop("half written")
"""


@pytest.mark.parametrize("point", ["half written", "before sealing", "after sealing", "before publishing"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_killed_writer_leaves_the_last_good_artifact_and_no_litter_for_the_next(tmp_path, point, replaces):
    target = tmp_path / "a"
    if replaces:
        write(target, b"good")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(target), point], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert target.exists() == replaces
    if replaces:
        artifact.verify(target)
        assert (target / "postings.bin").read_bytes() == b"good"
    assert siblings(target) != []
    write(target, b"next", overwrite=True)
    assert siblings(target) == []
    artifact.verify(target)


def test_a_writer_that_lives_is_not_swept_away(tmp_path):
    living = tmp_path / f".a.partial-{os.getpid()}-00000000"
    living.mkdir()
    write(tmp_path / "a")
    assert living.is_dir()
