"""An artifact is whole or not there, and damage is named."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from thresher import artifact, mapping, publish
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError, InputError
from thresher.manifest import document_sha256


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
    monkeypatch.setattr(publish, "_exchange", lambda a, b: False)
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
    document["manifest_sha256"] = document_sha256(document)
    file.write_text(json.dumps(document))
    with pytest.raises(DamagedArtifactError, match="leaves the directory"):
        artifact.read_manifest(tmp_path / "a")


WRITER = """
    import signal, sys, time
    from pathlib import Path
    from thresher import artifact, mapping

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests ignore it

    def stop(point):
        if point == sys.argv[2]:
            print("here", flush=True)
            time.sleep(60)

    seal, publish = artifact.seal, artifact.publish
    artifact.seal = lambda *a: (stop("before sealing"), seal(*a), stop("after sealing"))
    artifact.publish = lambda *a: (stop("before publishing"), publish(*a))
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


def manifest_of_another_program(target: Path) -> None:
    (target / "manifest.json").write_text('{"name": "My app", "icons": [], "start_url": "/"}')


def damaged_manifest(target: Path) -> None:
    with artifact.writing(target / "x", kind="index", format=3) as draft:
        (draft.path / "postings.bin").write_bytes(b"x")
    (target / "x" / "postings.bin").rename(target / "postings.bin")
    content = (target / "x" / "manifest.json").read_bytes()
    (target / "manifest.json").write_bytes(content.replace(b'"index"', b'"indexx"'))
    shutil.rmtree(target / "x")


def empty_manifest(target: Path) -> None:
    (target / "manifest.json").write_bytes(b"")


def nested_manifest(target: Path) -> None:
    (target / "manifest.json").write_bytes(b'{"a":' * 100_000)


def no_manifest(target: Path) -> None:
    (target / "thesis.tex").write_text("years of work")


@pytest.mark.parametrize(
    "fill", [manifest_of_another_program, damaged_manifest, empty_manifest, nested_manifest, no_manifest]
)
def test_a_folder_that_thresher_cannot_show_to_be_its_own_is_not_replaced(tmp_path, fill):
    target = tmp_path / "site"
    target.mkdir()
    (target / "index.html").write_text("home page")
    fill(target)
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    with pytest.raises(ArtifactError, match="is not replaced") as caught:
        write(target, overwrite=True)
    assert fill is no_manifest or f"rm -r {target}" in str(caught.value)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before
    assert siblings(target) == []


@pytest.mark.parametrize(
    "name", ["notes.txt", ".env", "encoder/notes.txt", "tier-2/notes.txt", "link", "manifest.json.bak"]
)
def test_a_users_file_inside_an_artifact_is_named_and_kept(tmp_path, name):
    target = tmp_path / "a"
    write(target)
    with artifact.writing(target / "tier-2", kind="index", format=3) as draft:
        (draft.path / "postings.bin").write_bytes(b"x")
    (target / ".DS_Store").write_bytes(b"litter")
    write(target, overwrite=True)  # what systems leave is no user's file
    (target / "tier-2").mkdir()
    if name == "link":
        (target / name).symlink_to("elsewhere")
    else:
        (target / name).write_text("mine")
    with pytest.raises(ArtifactError, match=f"'{name}', which thresher did not write"):
        write(target, b"new", overwrite=True)
    assert os.path.lexists(target / name)
    assert (target / "postings.bin").read_bytes() == b"postings"


def test_a_users_file_that_comes_while_it_is_written_is_kept(tmp_path):
    write(tmp_path / "a")
    with (
        pytest.raises(ArtifactError, match=r"notes\.txt"),
        artifact.writing(tmp_path / "a", kind="index", format=3, overwrite=True),
    ):
        (tmp_path / "a" / "notes.txt").write_text("mine")
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


def test_only_leftovers_of_the_very_name_are_swept(tmp_path):
    killed = "2147480000-1-" + "-".join(publish._machine())
    own, others = tmp_path / f".idx[0-9].partial-{killed}-00000000", tmp_path / f".idx7.partial-{killed}-00000000"
    own.mkdir()
    others.mkdir()
    write(tmp_path / "idx[0-9]")
    assert siblings(tmp_path / "idx[0-9]") == [others.name]
    (others / "file").write_bytes(b"x")
    for path in (others / "file", others):
        os.utime(path, (1, 1))
    write(tmp_path / "idx[0-9]", overwrite=True)
    assert siblings(tmp_path / "idx[0-9]") == []  # abandoned long ago


def writer_name(pid: object, start: object, boot: str, space: str, host: str) -> str:
    return f".a.partial-{pid}-{start}-{boot}-{space}-{host}-00000000"


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize(
    ("who", "age", "stays_with_locks", "stays_without"),
    [
        ("this process", 0, False, True),
        ("process 1, started anew", 0, False, False),
        ("another container", 0, False, True),
        ("another container", 9e5, False, False),
        ("another machine", 0, True, True),
        ("another machine", 9e5, False, False),
        ("this machine before a boot", 0, False, False),
    ],
)
def test_leftovers_are_told_from_live_writers(tmp_path, monkeypatch, locks, who, age, stays_with_locks, stays_without):
    """Where locks work, the one who holds the lock knows that no other writer of this kernel lives."""
    boot, space, host = publish._machine()
    pid = os.getpid()
    left = (
        tmp_path
        / {
            "this process": writer_name(pid, publish._started(pid), boot, space, host),
            "process 1, started anew": writer_name(1, 123456789, boot, space, host),
            "another container": writer_name(1, publish._started(1), boot, "4026999999", "00000000"),
            "another machine": writer_name(1, 5, "00000000", space, "00000000"),
            "this machine before a boot": writer_name(pid, 5, "00000000", space, host),
        }[who]
    )
    left.mkdir()
    os.utime(left, (left.stat().st_mtime - age,) * 2)
    if not locks:
        monkeypatch.setattr(publish, "lock", lambda descriptor: False)
    write(tmp_path / "a")
    assert left.exists() == (stays_with_locks if locks else stays_without)


@pytest.mark.parametrize("to", ["nothing", "an empty folder", "an artifact", "a link to one"])
def test_a_link_stays_and_the_artifact_is_written_where_it_points(tmp_path, to):
    place, link = tmp_path / "disk" / "a", tmp_path / "link"
    place.parent.mkdir()
    if to == "an empty folder":
        place.mkdir()
    elif to != "nothing":
        write(place, b"old")
    link.symlink_to("disk/a")
    if to == "a link to one":
        link = tmp_path / "second"
        link.symlink_to("link")
    write(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert (place / "postings.bin").read_bytes() == b"new"
    assert siblings(place) == []
    assert siblings(link) == ["disk", "link"][: 2 if to == "a link to one" else 1]


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_writers_of_one_target_the_second_says_so(tmp_path, monkeypatch, locks, overwrite):
    if not locks:
        monkeypatch.setattr(publish, "lock", lambda descriptor: False)
    with artifact.writing(tmp_path / "a", kind="index", format=3) as draft:
        (draft.path / "postings.bin").write_bytes(b"first")
        with pytest.raises(ArtifactError, match=rf"is being written by process {os.getpid()}"):
            write(tmp_path / "a", b"second", overwrite=overwrite)
    assert (tmp_path / "a" / "postings.bin").read_bytes() == b"first"
    assert siblings(tmp_path / "a") == []


@pytest.mark.parametrize("what", ["made", "removed"])
def test_a_target_made_or_removed_behind_the_writers_back_is_said_plainly(tmp_path, what):
    with (
        pytest.raises(ArtifactError, match=r"exists already|was removed"),
        artifact.writing(tmp_path / "a", kind="index", format=3) as draft,
    ):
        (draft.path / "postings.bin").write_bytes(b"mine")
        if what == "made":
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "x").write_bytes(b"theirs")
        else:
            shutil.rmtree(draft.path)
    assert [p.name for p in tmp_path.iterdir()] == (["a"] if what == "made" else [])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("fails_on", ["file", "folder"])
@pytest.mark.parametrize("exchanges", [True, False])
def test_a_disk_that_fails_while_flushing_publishes_nothing(tmp_path, monkeypatch, code, fails_on, exchanges):
    target = tmp_path / "a"
    write(target, b"old")
    original = os.fsync

    def fail(descriptor):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == str(tmp_path) or fails_on == "file":
            raise OSError(code, os.strerror(code))
        original(descriptor)

    if not exchanges:
        monkeypatch.setattr(publish, "_exchange", lambda a, b: False)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left in" if code != errno.EIO else "Input/output error"):
        write(target, b"new", overwrite=True)
    assert (target / "postings.bin").read_bytes() == b"old"
    assert siblings(target) == []
    with pytest.raises(OSError):
        write(tmp_path / "b")
    assert siblings(target) == []


def refuse_to_rename(code: int, target: Path):
    """As overlayfs does for a directory of a lower layer, and every system for a mount point."""
    original = Path.rename

    def rename(path, other):
        if target in (path, Path(other)):
            raise OSError(code, os.strerror(code), str(path))
        return original(path, other)

    def exchange(a, b):
        raise OSError(code, os.strerror(code), str(b))

    return rename, exchange


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EBUSY])
@pytest.mark.parametrize("disk_full", [False, True])
def test_a_directory_that_cannot_be_renamed_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, code, disk_full):
    target = tmp_path / "a"
    write(target, b"old")
    rename, exchange = refuse_to_rename(code, target)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(publish, "_exchange", exchange)
    if not disk_full:
        write(target, b"new", overwrite=True)
    else:
        move, calls = shutil.move, []

        def fail_once(source, place):
            calls.append(source)
            if len(calls) == 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            move(source, place)

        monkeypatch.setattr(publish.shutil, "move", fail_once)
        with pytest.raises(OSError, match="no space left in"):
            write(target, b"new", overwrite=True)
    artifact.verify(target)
    assert (target / "postings.bin").read_bytes() == (b"old" if disk_full else b"new")
    assert siblings(target) == []


def mounted(script: str, place: Path) -> str:
    """Run a script in a mount namespace of its own; skips where none can be made."""
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(place)], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("cannot mount here")
    run = subprocess.run(
        ["unshare", "-m", "sh", "-euc", script, sys.executable], cwd=place, capture_output=True, text=True, check=False
    )
    return run.stdout + run.stderr


WRITE = """
import sys
from pathlib import Path
from thresher import artifact
try:
    with artifact.writing(sys.argv[1], kind="index", format=3, overwrite=True) as draft:
        (draft.path / "postings.bin").write_bytes(sys.argv[2].encode() * int(sys.argv[3]))
        (draft.path / "encoder").mkdir()
        (draft.path / "encoder" / "terms.txt").write_text("wheat")
    artifact.verify(sys.argv[1])
    print("written", sorted(p.name for p in Path(sys.argv[1]).iterdir()))
except OSError as err:
    print(f"error: {err}")
    print("old one is whole:", len(artifact.verify(sys.argv[1]).files))
"""


def test_an_index_of_an_image_layer_is_replaced(tmp_path):
    (tmp_path / "write.py").write_text(WRITE)
    out = mounted(
        """
        mkdir low up; mount -t tmpfs none up; mkdir up/upper up/work merged
        "$0" write.py low/a old 1
        mount -t overlay overlay -o lowerdir=low,upperdir=up/upper,workdir=up/work merged
        "$0" write.py merged/a new 1; cat merged/a/postings.bin; echo; ls -A merged
        """,
        tmp_path,
    )
    if "mount:" in out:
        pytest.skip("no overlayfs here")
    assert out.splitlines()[1:] == ["written ['encoder', 'manifest.json', 'postings.bin']", "new", "a"]


def test_a_mount_point_is_a_target(tmp_path):
    (tmp_path / "write.py").write_text(WRITE)
    out = mounted(
        """
        mkdir a; mount -t tmpfs none a
        "$0" write.py a old 1; "$0" write.py a new 1; cat a/postings.bin; echo; ls -A a
        """,
        tmp_path,
    )
    assert out.splitlines()[1:] == [
        "written ['encoder', 'manifest.json', 'postings.bin']", "new", "encoder", "manifest.json", "postings.bin",
    ]  # fmt: skip


def test_a_full_disk_is_said_plainly_and_the_old_artifact_stays(tmp_path):
    (tmp_path / "write.py").write_text(WRITE)
    out = mounted(
        """
        mkdir m; mount -t tmpfs -o size=256k none m
        "$0" write.py m/a old 1; "$0" write.py m/a new 200000; ls -A m
        """,
        tmp_path,
    )
    assert out.splitlines()[1:] == [
        f"error: [Errno 28] no space left in {tmp_path}/m; nothing was changed", "old one is whole: 2", "a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 40,
        b"[" * 5000,
        b'{"fields":' * 5000,
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe{\x00}\x00",
        b"1e999",
    ],
)
def test_a_hostile_manifest_is_damage(tmp_path, content):
    write(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_bytes(content)
    for call in (artifact.read_manifest, artifact.verify):
        with pytest.raises(DamagedArtifactError) as caught:
            call(tmp_path / "a")
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change",
    [
        {"format": float("inf")},
        {"format": float("nan")},
        {"format": "3"},
        {"format": True},
        {"format": None},
        {"kind": ["index"]},
        {"version": 1},
        {"files": []},
        {"files": "x"},
        {"files": {"a\0b": {"bytes": 1, "sha256": ""}}},
        {"files": {"": {"bytes": 1, "sha256": ""}}},
        {"files": {"x": {"bytes": float("inf"), "sha256": ""}}},
        {"files": {"x": {"bytes": 1e400, "sha256": 3}}},
        {"files": {"x": {"bytes": 1}}},
        {"files": {"x": None}},
        {"files": {"x" * 5000: {"bytes": 1, "sha256": ""}}},
        {"files": {"postings.bin/x": {"bytes": 1, "sha256": ""}}},
        {"format": 10**30},
    ],
)
def test_a_resealed_manifest_with_hostile_values_is_refused(tmp_path, change):
    write(tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"
    document = json.loads(file.read_bytes()) | change
    document.pop("manifest_sha256")
    document["manifest_sha256"] = document_sha256(document)
    file.write_text(json.dumps(document))
    for call in (lambda path: artifact.read_manifest(path, kind="index", format=3), artifact.verify):
        if change == {"format": 10**30} and call is artifact.verify:
            continue  # verifying reads any format
        with pytest.raises(ArtifactError):
            call(tmp_path / "a")


@pytest.mark.parametrize("name", ["caf\udce9", "a\0b"])
def test_a_name_that_no_directory_can_have_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(InputError), artifact.writing(tmp_path / name, kind="index", format=1):
        pytest.fail("the work began")


def test_a_field_that_is_not_utf_8_is_read_back(tmp_path):
    with artifact.writing(tmp_path / "a", kind="index", format=1) as draft:
        draft.fields["corpus"] = "caf\udce9.jsonl"
    assert artifact.verify(tmp_path / "a").fields == {"corpus": "caf\udce9.jsonl"}


def test_an_interrupted_writer_leaves_the_last_good_artifact_and_nothing_else(tmp_path):
    target = tmp_path / "a"
    write(target, b"good")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(target), "half written"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    process.stdout.close()
    artifact.verify(target)
    assert siblings(target) == []


def test_a_pipe_or_a_device_in_place_of_a_file_is_damage(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(DamagedArtifactError, match="it is not a regular file"):
            mapping.map_file(tmp_path / name)
