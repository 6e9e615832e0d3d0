"""The documentation installed with Python, and queries made from it."""

import pytest

from thresher.corpus import MemoryCorpus, open_corpus
from thresher.corpus.installed import InstalledDocumentation, is_prose, known_items, paragraph_passages
from thresher.errors import InputError
from thresher.records import Passage


@pytest.fixture(scope="module")
def library():
    return list(InstalledDocumentation(packages=()))


def test_the_standard_library_alone_gives_thousands_of_named_passages(library):
    by_docno = {passage.docno: passage for passage in library}
    assert len(by_docno) == len(library) > 2500
    median = by_docno["statistics.median"]
    assert median.title == "median (statistics)"
    assert median.text.startswith("Return the median (middle value) of numeric data.")
    assert any(docno.startswith("topics.") for docno in by_docno)
    assert any(docno.endswith("#2") for docno in by_docno)
    MemoryCorpus(library)


PROSE = (
    "This says what the thing is for and how it is to be used by a reader, in a sentence that is long enough to keep."
)


def test_sources_are_parsed_and_not_imported_and_what_is_left_out_is_counted(tmp_path, monkeypatch):
    library, packages = tmp_path / "lib", tmp_path / "site-packages"
    files = {
        library / "alpha.py": f'"""{PROSE} (alpha)"""\nraise SystemExit("imported")\n',
        packages
        / "beta"
        / "__init__.py": f'class B:\n    """{PROSE} (B)"""\n    def m(self):\n        """{PROSE} (m)"""\n',
        packages / "beta" / "tests" / "x.py": f'"""{PROSE} (tests)"""',
        packages / "beta" / "copy.py": f'"""{PROSE}  (alpha)"""',
        packages / "beta" / "old.py": 'print "two"\n"""doc"""',
        packages / "beta" / "short.py": '"""Short."""\ndef _hidden():\n    """Hidden."""\n',
        packages / "gamma.py": f'"""{PROSE} (gamma)"""',
    }
    for file, source in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    places = {"stdlib": str(library), "purelib": str(packages), "platlib": str(packages)}
    monkeypatch.setattr("thresher.corpus.installed.sysconfig.get_paths", lambda: places)
    corpus = open_corpus("installed")
    assert [p.docno for p in corpus] == ["alpha", "gamma", "beta.B", "beta.B.m"]
    assert corpus.skipped == {"unreadable-file": 1, "repeated-text": 1, "not-prose": 1}
    assert [p.docno for p in open_corpus("installed:gamma")] == ["alpha", "gamma"]
    assert [p.docno for p in open_corpus("installed:")] == ["alpha"]


def test_the_order_is_the_same_and_a_limit_cuts_it(library):
    assert list(open_corpus("installed", limit=200)) == library[:200]
    assert open_corpus("installed", limit=200).fingerprint() == open_corpus("installed", limit=200).fingerprint()


def test_prose_is_told_from_lists_and_code():
    assert is_prose(
        "This function returns the mean of the values that are in the list, or raises an error if it is empty."
    )
    assert not is_prose("Too short to be of use.")
    assert not is_prose("\n".join(f"0x{n:04x} = {n} ; x{n}[{n}] += 1" for n in range(40)))
    assert not is_prose(" ".join(["NAME", "VALUE", "CONSTANT", "FLAG"] * 10))


def test_long_texts_are_cut_at_paragraphs():
    text = "\n\n".join(f"{n} " + "word " * 69 for n in range(5))
    parts = list(paragraph_passages("d", "T", text))
    assert [p.docno for p in parts] == ["d", "d#2", "d#3"]
    assert [p.text[0] for p in parts] == ["0", "2", "4"]


def test_known_items_ask_for_a_sentence_that_their_passage_no_longer_has(library):
    items = known_items(library, sample=50, seed=3)
    assert len(items.queries) == len(items.qrels.judgments) == 50
    by_docno = {passage.docno: passage for passage in items.passages}
    originals = {passage.docno: passage for passage in library}
    assert list(by_docno) == list(originals)
    for query in items.queries:
        (docno,) = items.qrels.judgments[query.qid]
        original = " ".join(originals[docno].text.split())
        assert original.startswith(query.text)
        assert " ".join(by_docno[docno].text.split()) == original.removeprefix(query.text).lstrip()
        assert len(query.text.split()) >= 5
        assert len(by_docno[docno].text.split()) >= 20
    asked = {docno for judged in items.qrels.judgments.values() for docno in judged}
    assert all(by_docno[docno] == originals[docno] for docno in by_docno if docno not in asked)


def test_known_items_are_the_same_for_the_same_seed(library):
    assert known_items(library[400:900], sample=9, seed=1) == known_items(library[400:900], sample=9, seed=1)
    assert (
        known_items(library[400:900], sample=9, seed=1).queries
        != known_items(library[400:900], sample=9, seed=2).queries
    )


def test_a_sentence_of_several_passages_is_not_asked():
    rest = " ".join(f"word{n}" for n in range(30))
    twins = [Passage(f"d{n}", f"These are the same five words. {rest} {n}.") for n in range(2)]
    with pytest.raises(InputError, match="no passage"):
        known_items(twins)
