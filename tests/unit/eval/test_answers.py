"""The queries over documentation are two even sets, documents lose their menus only, and verdicts are complete."""

import json
from collections import Counter

import pytest

from eval import answers
from eval.bench import Bench
from thresher.errors import DataNotFoundError, InputError

QUERIES = answers.load_queries()
BOTH = [*QUERIES.first, *QUERIES.second]


@pytest.mark.parametrize("name", answers.SETS)
def test_a_set_has_forty_queries_half_of_them_on_each_corpus(name):
    assert Counter(query.corpus for query in QUERIES.of(name)) == {"debian": 20, "installed": 20}


def test_no_identifier_or_query_occurs_twice():
    assert len({query.id for query in BOTH}) == len(BOTH)
    assert len({" ".join(query.query.lower().split()) for query in BOTH}) == len(BOTH)


def test_every_query_says_what_is_asked_for_where_it_is_and_what_an_answer_must_say():
    assert all(all(value.strip() for value in query.model_dump().values()) for query in BOTH)
    assert all(query.file.endswith((".md", ".rst", ".html")) == (query.corpus == "debian") for query in BOTH)
    assert not [query.id for query in BOTH if query.answer in query.query]


def test_html_is_read_without_menus_and_links_and_keeps_headings_lists_tables_and_code():
    pytest.importorskip("markdownify")
    page = (
        b"<html><head><title>On a_b</title></head><body><nav>Home</nav><script>x()</script><h1>A<a class=headerlink>#"
        b"</a></h1><p>See <a href=b.html>a_b</a>.</p><ul><li>one</li></ul><pre>if a_b:\n    go()</pre>"
        b"<table><tr><th>k</th></tr><tr><td>v</td></tr></table></body></html>"
    )
    title, text = answers.document("a.html", page)
    assert title == "On a_b"
    for kept in ("# A\n", "See a_b.", "* one", "if a_b:\n    go()", "| v |"):
        assert kept in text
    assert not any(left in text for left in ("Home", "x()", "b.html", "#\n\n"))


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("x/a.md", "---\ntitle: npm-cache\n---\n", "npm-cache"),
        ("x/b.md", "\n# A heading\n\ntext", "A heading"),
        ("x/c.rst", "message\n-------\n\nLog.", "message"),
        ("x/d.rst", "only text", "d"),
    ],
)
def test_markdown_and_rst_stay_as_they_are_under_the_title_that_they_give_themselves(name, text, title):
    assert answers.document(name, text.encode()) == (title, text)


def test_the_documents_that_queries_need_come_whatever_the_limit_and_a_missing_one_is_named(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.md").write_text(f"text {number}")
    assert [one["docno"] for one in answers.documents(tmp_path, ["4.md"], 3)].count("4.md") == 1
    assert len(list(answers.documents(tmp_path, ["4.md"], 3))) == 3
    assert [one["docno"] for one in answers.documents(tmp_path, ["1.md", "4.md"], 1)] == ["1.md", "4.md"]
    with pytest.raises(DataNotFoundError, match=r"gone\.md"):
        list(answers.documents(tmp_path, ["gone.md"], 3))


@pytest.fixture
def bench(tmp_path):
    held = [{"id": query.id, "kept_characters": 3, "returned_characters": 9} for query in QUERIES.first]
    (tmp_path / "answers-first.json").write_text(json.dumps({"commit": "c0ffee", "answers": held}))
    return Bench(tmp_path)


def said(queries):
    return [answers.Verdict(id=query.id, verdict="kept", reason="it is there") for query in queries]


def test_verdicts_on_a_whole_set_become_rows_with_the_characters_and_the_commit_of_the_answers(bench):
    rows = answers.judged(bench, QUERIES, said(QUERIES.first))
    assert [row["id"] for row in rows] == [query.id for query in QUERIES.first]
    assert {(row["set"], row["kept_characters"], row["returned_characters"], row["asked_at"]) for row in rows} == {
        ("first", 3, 9, "c0ffee")
    }


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (said(QUERIES.first[1:]), "1 queries of the set first have no verdict"),
        (said([*QUERIES.first, QUERIES.first[0]]), "two verdicts"),
        ([*said(QUERIES.first), answers.Verdict(id="x", verdict="kept", reason="r")], "no query has the id x"),
        ([], "no verdicts"),
    ],
)
def test_verdicts_that_are_not_one_for_each_query_of_a_set_are_refused(bench, verdicts, message):
    with pytest.raises(InputError, match=message):
        answers.judged(bench, QUERIES, verdicts)


def test_verdicts_are_read_from_toml_and_json_and_other_words_are_refused(tmp_path):
    (tmp_path / "v.toml").write_text('[[verdict]]\nid = "a"\nverdict = "dropped"\nreason = "cut"\n')
    (tmp_path / "v.json").write_text('{"verdict": [{"id": "a", "verdict": "dropped", "reason": "cut"}]}')
    assert answers.read_verdicts(tmp_path / "v.toml") == answers.read_verdicts(tmp_path / "v.json")
    (tmp_path / "bad.json").write_text('{"verdict": [{"id": "a", "verdict": "maybe", "reason": "cut"}]}')
    with pytest.raises(InputError, match=r"bad\.json"):
        answers.read_verdicts(tmp_path / "bad.json")
