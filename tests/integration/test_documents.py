"""An index of a folder of documents: built, filtered, and brought in line after edits, as if it were built anew."""

import importlib.util
import shutil

import pytest

from thresher import Index, build_index
from thresher.corpus.files.folder import FileCorpus

WORDS = "The {} is told about here in a few words, and then in some more, so that it can be found. "


def page(name, count=12):
    return f"# {name}\n\n{WORDS.format(name)}\n\n" + "\n\n".join(
        f"## Part {n} of {name}\n\n" + WORDS.format(f"{name} {n}") * 6 for n in range(count)
    )


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "api").mkdir(parents=True)
    for name in ("mill", "grain", "chaff"):
        (folder / "api" / f"{name}.md").write_text(page(name))
    (folder / "index.md").write_text("---\ndate: 2024-05-01\n---\n" + page("index", 2))
    (folder / "logo.png").write_bytes(b"\x89PNG")
    return folder


def content(index):
    return {one.docno: (one.title, one.text, dict(one.metadata)) for one in index}


def passages_of(path):
    index = Index.open(path)
    names = [hit.docno for hit in index.search("told words found part", 1000)]
    return {name: (p.title, p.text, dict(p.metadata)) for name in names for p in [index.passage(name)]}


def test_fields_are_typed_and_ready_for_filters(tmp_path, docs):
    report = build_index(tmp_path / "index", docs, "bm25")
    assert report.skipped == {"other-format-file": 1}
    index = Index.open(tmp_path / "index")
    assert {one.partition("#")[0] for one in index.search("mill", where='folder = "api"').docnos} == {"api/mill.md"}
    assert set(index.facets("file_type")) == {"markdown"}
    assert len(index.search("told", 100, where="modified > 2020 and date = 2024-05")) == 3
    assert set(index.facets("folder")) == {".", "api"}


def test_sync_after_edits_equals_a_fresh_build(tmp_path, docs):
    build_index(tmp_path / "index", docs, "bm25")
    before = passages_of(tmp_path / "index")
    mill = docs / "api/mill.md"
    mill.write_text(mill.read_text().replace("## Part 3 of mill", "## Another part\n\nNew words.\n\n## Part 3 of mill"))
    (docs / "api/chaff.md").unlink()
    (docs / "api/grain.md").rename(docs / "api/corn.md")
    (docs / "new.html").write_text("<h1>New</h1><p>" + WORDS.format("new page"))
    (docs / "later.jsonl").write_text('{"id": "x", "text": "a record beside"}\n')
    with Index.open(tmp_path / "index").writer() as writer:
        change = writer.sync(docs)
    assert {one.partition("#")[0] for one in change.deleted} <= {"api/chaff.md", "api/grain.md", "api/mill.md"}
    build_index(tmp_path / "fresh", FileCorpus(docs), "bm25")
    after = passages_of(tmp_path / "index")
    assert after == passages_of(tmp_path / "fresh")
    assert {name: one for name, one in after.items() if name.startswith("index.md")} == {
        name: one for name, one in before.items() if name.startswith("index.md")
    }
    with Index.open(tmp_path / "index").writer() as writer:
        again = writer.sync(docs)
    assert (again.added, again.replaced, again.deleted) == (0, 0, ())


def test_an_index_within_its_folder_is_not_read(docs):
    build_index(docs / "index-of-docs", docs, "bm25")
    (docs / "index-of-docs/encoders/words.txt").write_text("Words beside the index, more than a few of them.")
    corpus = FileCorpus(docs)
    assert not any("index-of-docs" in one.docno for one in corpus)
    assert corpus.skipped == {"other-format-file": 1}


def test_an_index_of_documents_takes_no_empty_folder_for_an_order_to_delete_all(tmp_path, docs):
    from thresher.errors import InputError

    build_index(tmp_path / "index", docs, "bm25")
    shutil.rmtree(docs)
    docs.mkdir()
    with pytest.raises(InputError, match="no document"), Index.open(tmp_path / "index").writer() as writer:
        writer.sync(docs)


def made_pdf(pages):
    """A PDF with a text layer, by hand: one font, one line a page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for lines in pages:
        stream = "BT /F1 12 Tf 14 TL 20 700 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream".encode())
        number = len(objects)
        resources = f"/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 600 800]/Contents {number} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R{resources}>>".encode())
        kids.append(f"{number + 1} 0 R")
    objects[1] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>".encode()
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj".encode() + one + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    tail = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF".encode()
    return out + f"xref\n0 {size}\n".encode() + b"0000000000 65535 f \n" + table + tail


@pytest.mark.skipif(importlib.util.find_spec("pypdf") is None, reason="pypdf is not installed (extra files)")
def test_a_pdf_is_read_page_by_page_without_its_running_heads(tmp_path):
    parts = ("wheel", "stone", "shaft", "sack", "sieve", "hopper")
    pages = [
        ["The Mill Handbook", f"The {part} is told of here, at some length.", f"{n}"] for n, part in enumerate(parts)
    ]
    (tmp_path / "mill.pdf").write_bytes(made_pdf(pages))
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.4 rubbish")
    corpus = FileCorpus(tmp_path, tokens=14)
    passages = list(corpus)
    assert [one.metadata["page"] for one in passages] == [1, 2, 3, 4, 5, 6]
    assert passages[3].text == "The sack is told of here, at some length."
    assert corpus.skipped == {"damaged-file": 1}


@pytest.mark.skipif(importlib.util.find_spec("docx") is None, reason="python-docx is not installed (extra files)")
def test_a_docx_has_headings_lists_and_tables(tmp_path):
    import docx

    made = docx.Document()
    made.add_heading("Mill", 0)
    made.add_paragraph("What a mill is, in a few words.")
    made.add_heading("Parts", 1)
    made.add_paragraph("wheel", style="List Bullet")
    made.add_paragraph("stone", style="List Bullet")
    table = made.add_table(2, 2)
    for row, values in zip(table.rows, [("name", "weight"), ("stone", "900")], strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    made.save(tmp_path / "mill.docx")
    passages = list(FileCorpus(tmp_path, tokens=14))
    assert [one.title for one in passages] == ["Mill", "Mill > Parts"]
    assert passages[1].text == "- wheel\n- stone\n\nname | weight\nstone | 900"
