"""An index is what its commit says: readers keep theirs, writers change it in one step, killed ones leave it whole."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.indexes import left_over, segment_of, write_segment
from thresher import artifact, durable, publish
from thresher.artifact import making
from thresher.errors import ArtifactError, DamagedArtifactError, InputError, ThresherError
from thresher.index import collection, commit, transaction
from thresher.index.collection import open_collection, verify
from thresher.index.commit import encoder_folder, read_commit, writing_index
from thresher.index.transaction import Transaction
from thresher.manifest import manifest_text

DOCNOS = [f"d{i}" for i in range(9)]


class Encoder:
    """The query side of nothing in particular."""

    name = "words"

    def __init__(self, fingerprint="ab" * 32):
        self.fingerprint = fingerprint

    def save(self, folder):
        (folder / "deep").mkdir(parents=True)
        (folder / "encoder.json").write_text("{}")
        (folder / "deep" / "weights").write_bytes(b"1")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An index of nine passages with an encoder."""
    path = tmp_path_factory.mktemp("commits") / "template"
    with writing_index(path) as draft:
        counts = write_segment(draft.segment.path, DOCNOS)
        draft.segment.fields.update(counts=counts, encoder={"name": "words", "fingerprint": Encoder().fingerprint})
        draft.add_encoder(Encoder())
        draft.fields["corpus"] = {"name": "memory"}
    return path


@pytest.fixture
def index(template, tmp_path):
    shutil.copytree(template, tmp_path / "x")
    return tmp_path / "x"


def fill(draft, template):
    """Make a new segment of the passages of `template`."""
    shutil.copytree(segment_of(template), draft.path, dirs_exist_ok=True, copy_function=os.link)
    draft.fields["encoder"] = {"name": "words", "fingerprint": Encoder().fingerprint}


def delete(path, numbers, segment=0):
    with Transaction(path) as changes:
        changes.delete(changes.base.segments[segment].name, np.array(numbers))
        return changes.commit()


def live(path):
    """By part, the numbers of its live passages."""
    with open_collection(path) as opened:
        return [
            list(range(part.size)) if part.deleted is None else np.flatnonzero(~part.deleted).tolist()
            for part in opened.parts
        ]


def test_a_fresh_index_is_commit_one_of_one_segment(index):
    with open_collection(index) as opened:
        (part,) = opened.parts
        assert (opened.commit.number, part.start, part.size, part.live, opened.live) == (1, 0, 9, 9, 9)
        assert part.deleted is part.deleted_counts is None
        assert part.layout.encoder == index / "encoders" / encoder_folder(Encoder().fingerprint)
        assert opened.commit.fields == {"corpus": {"name": "memory"}}
        assert opened.starts.tolist() == [0, 9]
    kind, count, size = verify(index)
    assert (kind, count) == ("index", len([f for f in index.rglob("*") if f.is_file()]) - 2)
    assert (
        size
        == sum(f.stat().st_size for f in index.rglob("*") if f.is_file()) - 2 * (index / "manifest.json").stat().st_size
    )


def test_a_transaction_adds_deletes_and_drops_in_one_commit(index, template):
    with Transaction(index) as changes:
        fill(changes.segment(), template)
        first = changes.base.segments[0].name
        changes.delete(first, np.array([2, 5]), {1: (np.array([0, 2], np.uint32), np.array([1, 2], np.uint32))})
        assert np.flatnonzero(changes.deleted(first)).tolist() == [2, 5]
        assert live(index) == [list(range(9))], "nothing is visible before the commit"
        made = changes.commit(routing={"a": 1}, fields={"year": "integer"}, counts={"passages": 18})
    assert (made.number, made.live, made.passages) == (2, 16, 18)
    assert live(index) == [[0, 1, 3, 4, 6, 7, 8], list(range(9))]
    with Transaction(index) as changes:
        changes.delete(first, np.array([0]), {1: (np.array([1, 2], np.uint32), np.array([1, 1], np.uint32))})
        changes.commit()
    with open_collection(index) as opened:
        terms, counts = opened.parts[0].deleted_counts
        assert dict(zip(terms.tolist(), counts.tolist(), strict=True)) == {0: 1, 1: 1, 2: 3}
        assert opened.schema == {"year": "integer"}
        assert opened.commit.routing == {"a": 1}
        assert opened.commit.fields == {"corpus": {"name": "memory"}, "counts": {"passages": 18}}
        assert [part.start for part in opened.parts] == [0, 9]
    with Transaction(index) as changes:
        fill(changes.segment(before=first), template)
        changes.drop(first)
        changes.commit()
    assert [entry.name.partition("-")[0] for entry in read_commit(index).segments] == ["4", "2"]
    assert left_over(index) == []
    verify(index)


def test_what_is_not_committed_is_discarded(index, template):
    before = (index / "manifest.json").read_bytes()
    with Transaction(index) as changes:
        draft = changes.segment()
        fill(draft, template)
        changes.seal(draft)
        changes.delete(changes.base.segments[0].name, np.array([1]))
    with pytest.raises(RuntimeError), Transaction(index) as changes:
        changes.add_encoder(Encoder("cd" * 32))
        fill(changes.segment(), template)
        raise RuntimeError
    with Transaction(index) as changes:
        assert changes.commit() == changes.base, "nothing was changed"
        changes.remove(changes.segment())
        assert changes.commit().number == 1
    assert (index / "manifest.json").read_bytes() == before
    assert left_over(index) == []


def test_one_transaction_makes_several_commits(index, template):
    with Transaction(index) as changes:
        for n in range(3):
            changes.delete(changes.base.segments[0].name, np.array([n]))
            fill(changes.segment(), template)
            assert changes.commit().number == n + 2
    assert [len(part) for part in live(index)] == [6, 9, 9, 9]
    assert left_over(index) == []


def test_what_cannot_be_deleted_is_an_error(index):
    with Transaction(index) as changes:
        name = changes.base.segments[0].name
        changes.delete(name, np.array([3]))
        for numbers in ([3], [4, 4], [9], [-1]):
            with pytest.raises(InputError, match=name):
                changes.delete(name, np.array(numbers))
        for call in (changes.drop, changes.deleted, lambda one: changes.segment(before=one)):
            with pytest.raises(InputError, match="no segment 'x'"):
                call("x")
        changes.drop(name)
        with pytest.raises(InputError, match=r"no segment .* would be left"):
            changes.commit()


def test_encoders_that_no_segment_needs_go_and_others_stay(index, template):
    with Transaction(index) as changes:
        draft = changes.segment()
        fill(draft, template)
        draft.fields["encoder"] = {"name": "words", "fingerprint": "cd" * 32}
        changes.add_encoder(Encoder("cd" * 32))
        changes.add_encoder(Encoder())
        changes.add_estimator("ef" * 32, Encoder().save)
        old = changes.base.segments[0].name
        changes.commit(frozen={"pruning": {"fingerprint": "ef" * 32}})
        assert sorted(f.name for f in (index / "encoders").iterdir()) == ["ab" * 6, "cd" * 6]
        changes.drop(old)
        changes.commit()
    assert [f.name for f in (index / "encoders").iterdir()] == ["cd" * 6]
    assert (index / "quality" / ("ef" * 6) / "deep" / "weights").is_file()
    assert left_over(index) == []
    verify(index)


HOLDER = """
import sys
from thresher.index.collection import open_collection
opened = open_collection(sys.argv[1])
print(opened.commit.number, flush=True)
sys.stdin.read()
layout = open_collection(*opened.__reduce__()[1]).parts[0].layout
print(layout.docnos[0], flush=True)
sys.stdin.close()
"""


def test_a_commit_that_another_process_reads_stays_until_that_has_ended(index, template):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "1\n"
    old = segment_of(index)
    for _ in range(2):
        with Transaction(index) as changes:
            fill(changes.segment(), template)
            changes.drop(changes.base.segments[0].name)
            changes.commit()
    assert sorted(file.name for file in (index / "commits").iterdir()) == ["1.json", "3.json"]
    assert len(list((index / "segments").iterdir())) == 2
    holder.stdin.close()
    assert holder.stdout.readline() == "d0\n", "it opens the commit it holds again"
    assert holder.wait() == 0
    holder.stdout.close()
    with Transaction(index):
        pass
    assert not old.exists()
    assert left_over(index) == []


def test_a_reader_keeps_its_commit_and_a_forked_child_too(index):
    opened = open_collection(index)
    kept = pickle.dumps(opened)
    child = os.fork()
    if not child:
        signal.pause()
    delete(index, [0])
    assert not opened.is_current()
    opened.close()
    delete(index, [1])
    again = pickle.loads(kept)  # noqa: S301
    assert again.commit.number == 1
    assert again.parts[0].deleted is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    del again
    delete(index, [2])
    with pytest.raises(ArtifactError, match="was replaced since it was opened; open it again"):
        pickle.loads(kept)  # noqa: S301
    assert left_over(index) == []


def test_a_pickle_is_of_its_very_build(index, template):
    kept = pickle.dumps(open_collection(index))
    with making(index, kind="index", overwrite=True) as partial:
        shutil.copytree(template, partial, dirs_exist_ok=True)
        for file in (partial / "commits" / "1.json", partial / "manifest.json"):
            document = json.loads(file.read_bytes())
            own = {name: document.pop(name) for name in ("kind", "format", "files", "manifest_sha256", "version")}
            document["corpus"] = {"name": "another"}
            file.write_bytes(manifest_text("index", own["format"], document, own["files"]))
    assert open_collection(index).commit.number == 1
    with pytest.raises(ArtifactError, match="was replaced since it was opened"):
        pickle.loads(kept)  # noqa: S301


def test_an_open_index_does_not_depend_on_the_working_directory(index, monkeypatch):
    monkeypatch.chdir(index.parent)
    opened = open_collection(index.name)
    monkeypatch.chdir("/")
    assert opened.is_current()
    assert open_collection(opened.path, earlier=opened).commit == opened.commit
    assert pickle.loads(pickle.dumps(opened)).commit == opened.commit  # noqa: S301


def test_what_two_commits_share_is_not_opened_again(index, template):
    with Transaction(index) as changes:
        fill(changes.segment(), template)
        changes.commit()
    one = open_collection(index)
    assert one.is_current()
    delete(index, [4], segment=1)
    assert not one.is_current()
    two = open_collection(index, earlier=one)
    assert two.is_current()
    assert [a.layout is b.layout for a, b in zip(one.parts, two.parts, strict=True)] == [True, True]
    assert [part.live for part in two.parts] == [9, 8]


def test_an_open_index_costs_one_descriptor_and_gives_it_back(index):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = descriptors()
    held = [open_collection(index) for _ in range(5)]
    assert descriptors() == before + 5
    held.pop().close()
    assert descriptors() == before + 4
    held.clear()
    assert descriptors() == before


def test_there_is_one_writer(index):
    with Transaction(index):
        with pytest.raises(ArtifactError, match=f"being written by process {os.getpid()}"), Transaction(index):
            pass
        with pytest.raises(ArtifactError, match="being written"), writing_index(index, overwrite=True):
            pass
    with pytest.raises(ArtifactError, match="is not a thresher artifact"), Transaction(index.parent):
        pass
    assert left_over(index) == []


def test_without_locks_old_commits_are_kept_an_hour_and_this_process_is_asked(index, monkeypatch):
    monkeypatch.setattr(durable, "fcntl", None)
    opened = open_collection(index)
    delete(index, [0])
    opened.close()
    delete(index, [1])
    assert {file.name for file in (index / "commits").iterdir()} == {"1.json", "2.json", "3.json"}
    held = open_collection(index, 1)
    for name in ("1.json", "2.json"):
        os.utime(index / "commits" / name, (0, 0))
    with Transaction(index):
        pass
    assert {file.name for file in (index / "commits").iterdir()} == {"1.json", "3.json"}
    del held
    with Transaction(index):
        pass
    assert left_over(index) == []


def test_without_locks_a_writer_on_another_machine_is_not_overrun(index, monkeypatch):
    monkeypatch.setattr(durable, "fcntl", None)
    lock = index.with_name(".x.lock")
    lock.write_text("77-1-0ther-1-0ther")
    with pytest.raises(ArtifactError, match=r"without locks, and another machine may be writing it.*remove .*\.lock"):
        delete(index, [0])
    lock.write_text("2147480000-1-" + "-".join(publish._machine()))  # ended on this machine
    delete(index, [0])
    assert not lock.exists()


def test_what_thresher_did_not_write_is_never_removed(index, template):
    names = ["notes.txt", "segments/mine/notes.txt", f"{segment_of(index).relative_to(index)}/notes.txt",
             f"encoders/{'ab' * 6}/notes.txt", "deletes/mine.mask", "commits/notes.txt"]  # fmt: skip
    for name in names:
        (index / name).parent.mkdir(exist_ok=True)
        (index / name).write_text("mine")
    with pytest.raises(ArtifactError, match=r"which thresher did not write"), writing_index(index, overwrite=True):
        pass
    with Transaction(index) as changes:
        fill(changes.segment(), template)
        changes.drop(changes.base.segments[0].name)
        changes.commit()
    assert left_over(index) == sorted([*names, names[2].replace("notes.txt", "manifest.json")])


@pytest.mark.parametrize(
    "wrong",
    [{"commit": 0}, {"commit": "1"}, {"segments": []}, {"segments": None}, {"fields": 3}, {"frozen": []},
     {"routing": 1},
     {"segments": [{"name": "../x"}]}, {"name": "../1-00000000"}, {"sha256": 3}, {"passages": []}, {"deleted": [10]},
     {"deleted": [0, 0]}, {"bytes": -1}, {"deletes": 0.5}, {"encoders": [3]}, {"passages": 9}, {"more": 1},
     {"passages": [8]}, {"sha256": "0" * 64}, {"deletes": 1, "deleted": [1]}],
    ids=str,
)  # fmt: skip
def test_a_commit_that_does_not_describe_an_index_is_damage(index, wrong):
    document = json.loads((index / "manifest.json").read_bytes())
    own = {name: document.pop(name) for name in ("kind", "format", "files", "manifest_sha256", "version")}
    document |= {name: value for name, value in wrong.items() if name in document}
    if not set(wrong) & set(document):
        document["segments"][0] |= wrong
    content = manifest_text("index", own["format"], document, own["files"])
    for name in ("manifest.json", "commits/1.json"):
        (index / name).write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=index.name):
        open_collection(index)


@pytest.mark.parametrize(
    ("kind", "content"), [("mask", b""), ("mask", b"\0\0"), ("counts", b"123"), ("counts", b"\1" * 8)]
)
def test_deletes_that_do_not_fit_are_damage(index, kind, content):
    delete(index, [0, 5])
    (file,) = (index / "deletes").glob(f"*.{kind}")
    file.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=file.name):
        open_collection(index)
    with pytest.raises(DamagedArtifactError, match=file.name):
        list(
            collection.read_mask(file, read_commit(index).segments[0])
            if kind == "mask"
            else collection.read_counts(file)
        )


@pytest.mark.parametrize("name", ["commits/1.json", "manifest.json"])
def test_a_lost_or_other_commit_file_is_damage(index, name):
    whole = (index / name).read_bytes()
    (index / name).write_bytes(whole[:-1] + b" ")
    with pytest.raises(DamagedArtifactError, match=r"1\.json"):
        open_collection(index)
    (index / name).unlink()
    with pytest.raises(ArtifactError, match=r"1\.json|no manifest\.json"):
        open_collection(index)


class Killed(BaseException):
    """The process is gone."""


def failing(monkeypatch, error):
    """Let the file operations of writers fail with `error` from the n-th on; returns where n is set and counted."""
    state = {"at": -1, "count": 0, "for_ever": error is Killed}

    def wrap(owner, name):
        original = getattr(owner, name)

        def wrapped(*given, **options):
            state["count"] += 1
            if state["count"] == state["at"] or (state["for_ever"] and 0 < state["at"] < state["count"]):
                raise Killed if error is Killed else OSError(error, os.strerror(error), "/somewhere")
            return None if name == "sync_path" else original(*given, **options)

        monkeypatch.setattr(owner, name, wrapped)

    for name in ("write_bytes", "replace", "unlink", "mkdir"):
        wrap(Path, name)
    wrap(shutil, "rmtree")
    for module in (artifact, commit, transaction):
        wrap(module, "sync_path")
    wrap(os, "utime")
    return state


def change(index, template):
    """A transaction with everything."""
    with Transaction(index) as changes:
        draft = changes.segment()
        fill(draft, template)
        changes.add_encoder(Encoder("cd" * 32))
        draft.fields["encoder"] = {"name": "words", "fingerprint": "cd" * 32}
        old = changes.base.segments
        changes.delete(old[0].name, np.array([1]))
        for entry in old[1:]:
            changes.drop(entry.name)
        changes.commit()


def states(template, folder, step):
    """Copies of `template` on which `change` is tried."""
    for n in range(1, 1000, step):
        yield n, Path(shutil.copytree(template, folder / str(n), copy_function=os.link))


@pytest.mark.parametrize("error", [Killed, errno.ENOSPC])
def test_whatever_fails_the_last_or_the_new_commit_opens_and_the_next_leaves_nothing_over(
    template, tmp_path, monkeypatch, error
):
    start = Path(shutil.copytree(template, tmp_path / "start"))
    with Transaction(start) as changes:
        fill(changes.segment(), template)
        changes.commit()
    state, seen = failing(monkeypatch, error), set()
    for n, index in states(start, tmp_path, 1 if error is Killed else 3):
        state.update(at=n, count=0)
        try:
            change(index, template)
        except (Killed, OSError):
            pass
        reached = state["count"] >= n
        state.update(at=-1)
        number = read_commit(index).number
        seen.add(number)
        assert live(index) == ([list(range(9))] * 2 if number == 2 else [[0, *range(2, 9)], list(range(9))])
        verify(index)
        with Transaction(index):
            pass
        assert left_over(index) == []
        if not reached:
            break
    assert seen == {2, 3}
    assert n > 40


WRITER = """
import sys
import numpy as np
from thresher.index import transaction
from thresher.index.transaction import Transaction
class Stop:
    pass
sync = transaction.sync_path
def stop(path):
    if path.name == "manifest.json":
        print("here", flush=True)
        sys.stdin.read()
    sync(path)
transaction.sync_path = stop
with Transaction(sys.argv[1]) as changes:
    changes.delete(changes.base.segments[0].name, np.array([1]))
    changes.commit()
"""


def test_a_writer_that_is_killed_leaves_no_lock_and_the_last_commit(index):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "here\n"
    with pytest.raises(ArtifactError, match=f"being written by process {writer.pid}"):
        delete(index, [0])
    writer.kill()
    writer.communicate()
    assert live(index) == [list(range(9))]
    assert left_over(index) != []
    delete(index, [0])
    assert left_over(index) == []
    verify(index)


def test_a_reader_during_commits_sees_one_of_them_and_no_damage(index, template):
    ended, problems, seen = threading.Event(), [], set()

    def read():
        while not ended.is_set():
            try:
                with open_collection(index) as opened:
                    seen.add(opened.commit.number)
                    (part, *_) = opened.parts
                    assert part.size - part.live == (opened.commit.number - 1) % 3
                artifact.verify(index)
            except (ThresherError, AssertionError, OSError) as err:
                problems.append(err)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with Transaction(index) as changes:
        for n in range(15):
            if n % 3 == 2:
                fill(changes.segment(), template)
                changes.drop(changes.base.segments[0].name)
            else:
                changes.delete(changes.base.segments[0].name, np.array([n % 9]))
            changes.commit()
    ended.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert len(seen) > 2


def test_an_index_is_opened_without_writing(index):
    opened = []
    sys.addaudithook(
        lambda event, given: opened.append(given) if event == "open" and str(index) in str(given[0]) else 0
    )
    open_collection(index)
    verify(index)
    written = [name for name, mode, flags in opened if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]
    assert opened
    assert not written


def test_a_full_disk_is_an_error_that_says_where(index):
    with pytest.raises(OSError, match=r"no space left in .*; nothing was changed"), Transaction(index) as changes:
        changes.segment()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert left_over(index) == []
