"""TREC text: documents wherever they begin, and nothing taken for markup that is text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.corpus import open_corpus
from thresher.corpus.sgml import _plain
from thresher.records import Passage


def read(tmp_path, text, **options):
    (tmp_path / "c.trec").write_text(text)
    return list(open_corpus(tmp_path / "c.trec", **options))


@pytest.mark.parametrize("between", ["", " ", "\n", "\n\n", "\t\n"])
@pytest.mark.parametrize("inside", ["", "\n"])
def test_documents_may_begin_and_end_anywhere_on_a_line(tmp_path, between, inside):
    one = inside.join(["<DOC>", "<DOCNO>{0}</DOCNO>", "<TEXT>text {0}</TEXT>", "</DOC>"])
    found = read(tmp_path, between.join(one.format(docno) for docno in "abc"))
    assert [(p.docno, p.text) for p in found] == [("a", "text a"), ("b", "text b"), ("c", "text c")]


def test_a_file_may_have_a_prologue_and_a_root(tmp_path):
    text = '<?xml version="1.0"?>\n<!DOCTYPE docs>\n<docs>\n<DOC><DOCNO>a</DOCNO>x</DOC>\n</docs>\n<!-- end -->\n'
    assert read(tmp_path, text) == [Passage("a", "x")]


KEPT = [
    "x<y and a>b",
    "mail <bob@x.org> now",
    "List<String> names",
    "Map<String, List<Object>> and Set<Base>",
    "if (a<b) c>d",
    "1 < 2 > 0",
    "#include <stdio.h>",
    "<https://example.org/a>",
    "use the <doc> element",
    "a <- b -> c",
    "<",
    "an <i> alone",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_not_markup_stays(tmp_path, text):
    assert [p.text for p in read(tmp_path, f"<DOC><DOCNO>a</DOCNO><TEXT>{text}</TEXT></DOC>")] == [text]
    assert [p.text for p in read(tmp_path, f"<DOC>\n<DOCNO>a</DOCNO>\n{text}\n</DOC>")] == [text]


@pytest.mark.parametrize(
    "markup", ["a <b>c</b>", "a<P>c", "a<br/>c", '<font size="2">a c', "<F P=102>a</F> c", "a<!-- x>y --> c", "a</p>c"]
)
def test_markup_is_removed(tmp_path, markup):
    (passage,) = read(tmp_path, f"<DOC><DOCNO>a</DOCNO><TEXT>{markup}</TEXT></DOC>")
    assert passage.text.replace("b", "").split() == ["a", "c"]


def test_character_references_are_resolved_after_markup_is_gone(tmp_path):
    text = "&lt;b&gt; AT&amp;T &eacute; &#x41;"
    assert [p.text for p in read(tmp_path, f"<DOC><DOCNO>a</DOCNO><TEXT>{text}</TEXT></DOC>")] == ["<b> AT&T é A"]


def test_each_disk_has_its_own_elements(tmp_path):
    head = "<DOC>\n<DOCNO> WSJ1 </DOCNO>\n<HL> Head </HL>\n<SO> Source </SO>\n"
    wsj = f"{head}<LP>\nLead.\n</LP>\n<TEXT>\nRest.\n</TEXT>\n</DOC>"
    assert [(p.title, p.text, p.metadata) for p in read(tmp_path, wsj)] == [
        ("Head", "Lead.\n\n\nRest.", {"so": "Source"})
    ]
    page = "<html><head><title>T &amp; U</title></head><body>Hello <br>world</body></html>"
    web = f"<DOC>\n<DOCNO>W1</DOCNO>\n{page}\n</DOC>"
    assert [(p.title, p.text.split()) for p in read(tmp_path, web)] == [("T & U", ["Hello", "world"])]
    open_text = "<DOC><DOCNO>a</DOCNO><BYLINE>B</BYLINE><TEXT>never closed</DOC>"
    assert [(p.text, p.metadata) for p in read(tmp_path, open_text)] == [("never closed", {"byline": "B"})]
    stray = "<DOC><DOCNO>a</DOCNO>before <TEXT>in</TEXT> after</DOC>"
    assert [p.text.split() for p in read(tmp_path, stray)] == [["in", "before", "after"]]


@given(
    st.lists(
        st.sampled_from(["<", ">", "a", " ", "/", "b c", "=", '"', "<b>", "</b>", "<!--", "-->", "&", ";"]), max_size=30
    )
)
def test_only_markup_and_references_are_taken_from_a_text(parts):
    text = "".join(parts)
    plain = _plain(text)
    left = iter(plain)
    if not any(mark in text for mark in ("<b", "</b", "<a", "</a", "<!--", "&")):
        assert plain == text
    else:
        assert all(char in text or char in " " for char in left)


@pytest.mark.parametrize("piece", ["<!--", "<TEXT>", "<a b=", '<a b="', "<a ", "<TITLE>", "<![CDATA[", "<?x"])
def test_hostile_markup_takes_linear_time(tmp_path, piece):
    (passage,) = read(tmp_path, f"<DOC><DOCNO>a</DOCNO>{piece * 40_000}x</DOC>")
    assert passage.text.endswith("x")
