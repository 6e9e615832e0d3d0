"""PDF and DOCX that hold more than they seem to are left out, with a reason, and the rest of the folder is read."""

import io
import zipfile

import pytest

pytest.importorskip("pypdf", reason="the extra files is not installed")
pytest.importorskip("docx", reason="the extra files is not installed")

import docx

from thresher.corpus.files import portable
from thresher.corpus.files.blocks import UnreadableError
from thresher.corpus.files.folder import FileCorpus
from thresher.corpus.files.portable import read_docx, read_pdf


def document(fill):
    made = docx.Document()
    fill(made)
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def bomb(megabytes, name="word/more.xml"):
    """A DOCX of some kilobytes whose part of this name unpacks to so many megabytes."""
    source, target = zipfile.ZipFile(io.BytesIO(document(lambda made: made.add_paragraph("text")))), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            archive.writestr(entry, source.read(entry))
        archive.writestr(name, b" " * (megabytes << 20))
    return target.getvalue()


def pdf(pages, lines):
    """A PDF of so many pages that share one content."""
    content = b"BT /F1 9 Tf 12 TL " + b"(some text of a page) Tj T* " * lines + b"ET"
    kids = b" ".join(b"%d 0 R" % (number + 5) for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        *[b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
          b"/Resources << /Font << /F1 3 0 R >> >> >>"] * pages,
    ]  # fmt: skip
    made, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    rows = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(made))
    return made + head + rows + end


@pytest.fixture
def one_megabyte(monkeypatch):
    monkeypatch.setenv("THRESHER_MAX_LINE", "1")


def reason(read, data):
    with pytest.raises(UnreadableError) as caught:
        read(data)
    return caught.value.reason, str(caught.value)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(one_megabyte):
    for data in (bomb(2), bomb(9, "word/media/image.png")):
        assert len(data) < 100_000
        why, said = reason(read_docx, data)
        assert why == "oversized-file" and "what it unpacks to" in said and "THRESHER_MAX_LINE" in said


def test_images_may_be_larger_than_text(one_megabyte):
    assert "text" in read_docx(bomb(3, "word/media/image.png")).text


def test_text_and_time_are_limited(monkeypatch):
    short, long = document(lambda made: made.add_paragraph("a")), pdf(4, 20)
    assert len(read_pdf(long).text) > 1000
    with monkeypatch.context() as patch:
        patch.setattr(portable, "line_limit", lambda: 1000)
        why, said = reason(read_pdf, long)
        assert why == "oversized-file" and "its text is longer than" in said and "THRESHER_MAX_LINE" in said
    monkeypatch.setattr(portable, "_SECONDS", -1.0)
    for read, data in ((read_pdf, pdf(1, 1)), (read_docx, short)):
        why, said = reason(read, data)
        assert (why, "takes more than" in said) == ("oversized-file", True)


def test_a_table_may_not_claim_millions_of_columns():
    def fill(made):
        table = made.add_table(1, 1)
        table.cell(0, 0)._tc.grid_span = 10**9

    assert reason(read_docx, document(fill))[0] == "damaged-file"


def test_the_rest_of_the_folder_is_read(one_megabyte, tmp_path, caplog):
    (tmp_path / "bomb.docx").write_bytes(bomb(2))
    (tmp_path / "large.pdf").write_bytes(b"%PDF-1.4\n" + b" " * (9 << 20))
    (tmp_path / "good.pdf").write_bytes(pdf(2, 3))
    corpus = FileCorpus(tmp_path)
    assert {passage.metadata["path"] for passage in corpus} == {"good.pdf"}
    assert corpus.skipped == {"oversized-file": 2}
    assert "bomb.docx: left out (oversized-file)" in caplog.text
    assert "large.pdf: left out (oversized-file): it is longer than 8 megabytes" in caplog.text
