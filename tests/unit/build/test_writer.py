"""The writer of an index: what each call changes, what it refuses, and that nothing is visible before a commit."""

import numpy as np
import pytest

from tests.indexes import left_over
from thresher.build.merging import PER_LEVEL
from thresher.build.recipe import CorpusSource, Recipe
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.errors import ArtifactError, InputError
from thresher.index.collection import open_collection
from thresher.index.commit import read_commit
from thresher.index.transaction import Transaction
from thresher.records import Passage

SPLIT = Recipe(corpus=CorpusSource(split_tokens=5))
LONG = "One two three four. Five six seven eight. Nine ten eleven twelve. Last words are here."


def passage(docno, text="", **metadata):
    return Passage(docno, text or f"words of {docno} about grain", f"title {docno}", metadata)


@pytest.fixture
def path(tmp_path):
    build_index(
        tmp_path / "index", [passage(f"d{i}", year=2000 + i, lang="en" if i % 2 else "de") for i in range(8)], "bm25"
    )
    return tmp_path / "index"


def stored(path):
    """The live passages of an index, by docno."""
    found = {}
    for part in open_collection(path).parts:
        dead = part.deleted if part.deleted is not None else np.zeros(part.size, bool)
        for number in np.flatnonzero(~dead).tolist():
            one = part.layout.passage(number)
            assert one.docno not in found
            found[one.docno] = one
    return found


def test_nothing_is_visible_before_the_commit_and_all_of_it_after(path):
    before = stored(path)
    with IndexWriter.open(path, merge=False) as writer:
        assert writer.add([passage("new")]).added == 1
        assert writer.replace([passage("d1", "other words")]).replaced == 1
        assert writer.delete(docnos=["d2", "nobody"]).absent == ("nobody",)
        assert stored(path) == before
        report = writer.commit()
        assert (report.commit, report.added, report.replaced, report.deleted, report.absent) == (2, 1, 1, 1, 1)
    after = stored(path)
    assert after.keys() == before.keys() - {"d2"} | {"new"}
    assert after["d1"].text == "other words"
    assert read_commit(path).number == 2, "leaving the block without further changes makes no commit"


def test_a_block_that_raises_changes_nothing_and_leaves_nothing(path):
    before, files = stored(path), sorted(path.rglob("*"))
    with pytest.raises(RuntimeError), IndexWriter.open(path) as writer:
        writer.add([passage("new")])
        writer.delete(docnos=["d1"])
        raise RuntimeError
    assert stored(path) == before
    assert sorted(path.rglob("*")) == files


def test_a_docno_that_is_there_is_refused_by_name_and_record_and_nothing_is_taken(path, tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text('{"docno": "x", "text": "one"}\n{"docno": "d3", "text": "two"}\n')
    with IndexWriter.open(path) as writer:
        with pytest.raises(InputError, match=r"more\.jsonl:2: docno 'd3' is in the index already; replace it"):
            writer.add(str(file))
        writer.add([passage("y")])
        with pytest.raises(InputError, match="docno 'y' was added already"):
            writer.add([passage("z"), passage("y")])
        with pytest.raises(InputError, match="docno 'z' occurs twice"):
            writer.replace([passage("z"), passage("z")])
        assert writer.commit().added == 1
    assert {"x", "z"}.isdisjoint(stored(path))


def test_an_equal_passage_is_left_alone_and_no_commit_is_made(path):
    same = list(stored(path).values())
    with IndexWriter.open(path) as writer:
        change = writer.replace(same)
        assert (change.unchanged, change.replaced) == (8, 0)
        assert writer.sync(same).unchanged == 8
        assert writer.commit().commit == 1
    with IndexWriter.open(path) as writer:
        changed = [Passage(p.docno, p.text, p.title, {**p.metadata, "year": 1990}) for p in same[:1]]
        assert writer.replace(changed).replaced == 1, "metadata is content too"


def test_calls_act_in_order(path):
    with IndexWriter.open(path) as writer:
        writer.delete(docnos=["d0"])
        writer.add([passage("d0", "again"), passage("brief")])
        assert writer.delete(docnos=["brief"]).deleted == ("brief",)
        writer.replace([passage("d1", "first")])
        writer.replace([passage("d1", "second")])
    after = stored(path)
    assert after["d0"].text == "again"
    assert after["d1"].text == "second"
    assert "brief" not in after


def test_a_filter_deletes_what_fits_it_in_the_index_and_among_what_is_pending(path):
    with IndexWriter.open(path) as writer:
        writer.add([passage("late", year=2050, lang="en"), passage("early", year=1950, lang="en")])
        change = writer.delete(where="year > 2004 and lang = en")
        assert set(change.deleted) == {"d5", "d7", "late"}
        with pytest.raises(InputError, match="colour"):
            writer.delete(where={"colour": "red"})
        with pytest.raises(InputError, match="either docnos or where"):
            writer.delete()
    assert stored(path).keys() == {"d0", "d1", "d2", "d3", "d4", "d6", "early"}


def test_a_wrong_type_is_refused_with_its_line_and_a_new_field_extends_the_schema(path, tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text('{"docno": "a", "text": "one", "year": 1}\n{"docno": "b", "text": "two", "year": "soon"}\n')
    with IndexWriter.open(path) as writer:
        with pytest.raises(InputError, match=r"more\.jsonl:2: .*year"):
            writer.add(str(file))
        writer.add([passage("c", size=3)])
    assert read_commit(path).schema["size"] == "integer"


def test_sync_makes_the_index_hold_what_the_corpus_holds(path):
    wanted = [passage(f"d{i}", year=2000 + i, lang="en" if i % 2 else "de") for i in range(3, 8)]
    wanted += [passage("d1", "changed"), passage("new")]
    with IndexWriter.open(path) as writer:
        writer.delete(docnos=["d4"])
        change = writer.sync(wanted)
        assert (change.added, change.replaced, change.unchanged) == (1, 1, 5)
        assert set(change.deleted) == {"d0", "d2"}
    assert stored(path) == {p.docno: p for p in wanted}


def test_an_empty_or_broken_corpus_never_empties_an_index(path, tmp_path):
    before = stored(path)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"docno": "a", "text": "one"}\n{"docno":')

    def breaking():
        yield passage("a")
        raise OSError("the disk is gone")

    with IndexWriter.open(path) as writer:
        with pytest.raises(InputError, match=r"empty\.jsonl"):
            writer.sync(str(tmp_path / "empty.jsonl"))
        with pytest.raises(InputError, match=r"broken\.jsonl:2"):
            writer.sync(str(tmp_path / "broken.jsonl"))
        with pytest.raises(OSError, match="the disk is gone"):
            writer.sync(breaking())
        assert writer.commit().commit == 1
    assert stored(path) == before
    with IndexWriter.open(path) as writer:
        assert len(writer.sync([], allow_empty=True).deleted) == 8
    assert stored(path) == {}
    assert len(read_commit(path).segments) == 1
    with IndexWriter.open(path) as writer:
        writer.add([passage("first")])
    assert stored(path).keys() == {"first"}


def test_passages_of_a_document_are_deleted_and_replaced_together(tmp_path):
    path = tmp_path / "split"
    build_index(path, [Passage("doc", LONG), Passage("doc#9", "not a part of it"), Passage("other", "Short.")], SPLIT)
    parts = [docno for docno in stored(path) if docno.startswith("doc")]
    assert parts == ["doc", "doc#2", "doc#3", "doc#4", "doc#9"]
    with IndexWriter.open(path) as writer:
        change = writer.replace([Passage("doc", LONG[:40])])
        assert (change.replaced, change.unchanged) == (1, 1)
        assert set(change.deleted) == {"doc#3", "doc#4"}
    assert [docno for docno in stored(path) if docno.startswith("doc")] == ["doc", "doc#9", "doc#2"]
    with IndexWriter.open(path) as writer:
        assert set(writer.delete(docnos=["doc#2"]).deleted) == {"doc", "doc#2"}
    assert stored(path).keys() == {"doc#9", "other"}


def test_a_second_writer_is_refused_until_the_first_is_closed(path):
    with IndexWriter.open(path), pytest.raises(ArtifactError, match="is being written by"):
        IndexWriter.open(path)
    IndexWriter.open(path).close()


def test_many_small_calls_leave_few_spools(path):
    with IndexWriter.open(path) as writer:
        for i in range(40):
            writer.add([passage(f"n{i}")])
        assert len(writer._staged.pending.batches) <= 6
        writer.delete(docnos=["n3"])
        assert writer.commit().added == 40
    assert [docno for docno in stored(path) if docno.startswith("n")] == [f"n{i}" for i in range(40) if i != 3]


def test_small_segments_are_merged_after_commits(path):
    for i in range(12):
        with IndexWriter.open(path) as writer:
            writer.add([passage(f"n{i}")])
    assert len(read_commit(path).segments) < PER_LEVEL
    assert len(stored(path)) == 20


def test_a_merge_removes_the_segments_that_it_merged_at_once(path):
    for i in range(3):
        with IndexWriter.open(path, merge=False) as writer:
            writer.add([passage(f"n{i}")])
            writer.commit()
            assert [file.stem for file in (path / "commits").iterdir()] == [str(read_commit(path).number)]
    with IndexWriter.open(path) as writer:
        writer.merge(all=True)
        assert [folder.name for folder in (path / "segments").iterdir()] == [read_commit(path).segments[0].name]
    assert len(stored(path)) == 11


def test_a_commit_that_failed_leaves_nothing_behind_and_can_be_tried_again_or_given_up(path, monkeypatch):
    before = stored(path)

    def failing(self, **fields):
        raise OSError(28, "No space left on device")

    with IndexWriter.open(path, merge=False) as writer:
        writer.replace([passage("d1", "other words"), passage("new")])
        writer.delete(docnos=["d2"])
        with monkeypatch.context() as broken:
            broken.setattr(Transaction, "commit", failing)
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    writer.commit()
        writer.discard()
        writer.add([passage("later")])
        assert writer.commit().added == 1
        assert stored(path) == before | {"later": passage("later")}
        writer.delete(docnos=["d2"])
        with monkeypatch.context() as broken:
            broken.setattr(Transaction, "commit", failing)
            with pytest.raises(OSError, match="No space left"):
                writer.commit()
        assert writer.commit().commit == 3
        with monkeypatch.context() as broken:
            broken.setattr(Transaction, "commit", failing)
            with pytest.raises(OSError, match="No space left"):
                writer.merge(all=True)
        writer.delete(docnos=["d3"])
    assert stored(path).keys() == before.keys() - {"d2", "d3"} | {"later"}
    assert left_over(path) == []


def test_an_emptied_index_answers_any_number_of_calls_and_takes_passages_again(path):
    with IndexWriter.open(path) as writer:
        writer.delete(docnos=[f"d{i}" for i in range(8)])
        writer.commit()
        writer.merge(all=True)
        for _ in range(4):
            assert writer.delete(docnos=["d1", "d2"]).absent == ("d1", "d2")
        writer.add([passage("d1")])
    assert list(stored(path)) == ["d1"]


def test_a_document_that_is_pending_is_replaced_and_deleted_whole(tmp_path):
    build_index(tmp_path / "index", [passage("d0")], SPLIT)
    with IndexWriter.open(tmp_path / "index") as writer:
        writer.add([Passage("long", LONG), Passage("gone", LONG)])
        writer.replace([Passage("long", "Two words.")])
        writer.delete(docnos=["gone#2"])
    assert [docno for docno in stored(tmp_path / "index") if not docno.startswith("d0")] == ["long"]
